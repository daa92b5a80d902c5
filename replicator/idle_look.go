package replicator

import (
	"context"
	"time"

	"klink/internal/retry"
	"klink/replicator/core"
)

// idleLook is how often klink asks for the ends of mirrors' logs. An append tells by its offset
// whether somebody else has written. An idle mirror has no appends, and the cleaner of a compacted
// topic must not be faster than klink.
const idleLook = 30 * time.Second

// watchEnds checks the ends of logs until ctx ends.
func (r *Replicator) watchEnds(ctx context.Context) {
	for retry.Sleep(ctx, idleLook) == nil {
		r.lookAtEnds(ctx)
	}
}

// seenEnd is the end of a partition's log as its worker believes it to be.
type seenEnd struct {
	w    *worker
	t    *destTopic
	phys int64
}

// lookAtEnds asks each broker, in one request, where the logs of idle partitions end. It asks again
// next time for those without an answer.
func (r *Replicator) lookAtEnds(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, idleLook)
	defer cancel()
	byLeader := map[int32][]seenEnd{}
	for _, m := range r.mirrorsNow() {
		t, err := r.dest.topic(ctx, m.topic, nil)
		if err != nil {
			continue
		}
		for _, w := range m.all() {
			w.mu.Lock()
			phys, idle := w.core.IdleEnd()
			w.mu.Unlock()
			if idle && int(w.id) < len(t.leaders) && t.leaders[w.id] >= 0 {
				byLeader[t.leaders[w.id]] = append(byLeader[t.leaders[w.id]], seenEnd{w, t, phys})
			}
		}
	}
	for broker, seen := range byLeader {
		r.lookAt(ctx, broker, seen)
	}
}

func (r *Replicator) lookAt(ctx context.Context, broker int32, seen []seenEnd) {
	q, asked := newAskEnds(), map[partitionAt]seenEnd{}
	for _, s := range seen {
		at := partitionAt{s.w.m.topic, s.w.id}
		q.add(at, s.t.epochs[s.w.id])
		asked[at] = s
	}
	stale := map[*destTopic]string{}
	resp, err := q.send(ctx, r.dest.broker(broker))
	if err != nil {
		for _, s := range seen {
			stale[s.t] = s.w.m.topic
		}
	} else {
		for _, t := range resp.Topics {
			for _, p := range t.Partitions {
				s, ok := asked[partitionAt{t.Topic, p.Partition}]
				switch {
				case !ok:
				case p.ErrorCode != 0:
					stale[s.t] = t.Topic
				default:
					s.w.step(func(c *core.Partition) core.Effects { return c.EndSeen(s.phys, p.Offset) })
				}
			}
		}
	}
	for t, topic := range stale {
		_, _ = r.dest.topic(ctx, topic, t) // for the next round
	}
}
