package replicator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"klink/admin/model"
	"klink/internal/kafkaclient"
	"klink/internal/retry"
	"klink/replicator/core"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sync/errgroup"
)

// A mirror that is being promoted (model.Mirror.Promotion) goes on like any other. The promoter
// finds out when the mirror has everything that its source has, and reports it. Control then stops
// the mirror.
//
// Invariant: a promotion is reported as caught up only after two looks at the source that began
// lookInterval apart, both after the promotion was seen in the state. Both looks found the same
// partitions with the same ends, no transaction open below them, and the mirror's logical end
// exactly there in each partition, with nothing on its way to it.
//
// For partitions that other instances run, their last checkpoints count: everything before a
// checkpoint is in the log. Those instances store checkpoints soon while the mirror is being
// promoted.
//
// So a promoted mirror has everything that was written before the promotion was asked for, and
// everything until the source was still for a moment. What is written to the source after the
// second look may or may not be mirrored: nothing fences its writers.

// lookInterval is how long the source must have been still.
const lookInterval = 300 * time.Millisecond

// lookTimeout bounds one look.
const lookTimeout = 5 * time.Second

// maxCaughtUp bounds how many mirrors are reported at once. Reports made together are stored in one
// write.
const maxCaughtUp = 1000

// look is what the last look at the source of a mirror found.
type look struct {
	promotion string
	m         *mirror // the run of the mirror that was looked at; another run begins anew
	ends      []int64 // by partition
}

// promoter looks after the mirrors that are being promoted. It is used by one goroutine.
type promoter struct {
	r     *Replicator
	looks map[string]look // by topic
}

// watchPromotions runs until ctx ends.
func (r *Replicator) watchPromotions(ctx context.Context) {
	changes, cancel := r.cfg.Control.Subscribe()
	defer cancel()
	p := promoter{r: r, looks: map[string]look{}}
	for ctx.Err() == nil {
		began := time.Now()
		if p.round(ctx, r.cfg.Control.State()) {
			// A look at many partitions takes a while; the source must not be kept busy with it.
			_ = retry.Sleep(ctx, max(lookInterval, 3*time.Since(began)))
			continue
		}
		select {
		case <-ctx.Done():
		case <-changes:
		}
	}
}

// round looks at the sources of all mirrors that are being promoted and seem to have everything. It
// reports those that have everything. again is false if no mirror is being promoted.
func (p *promoter) round(ctx context.Context, st *model.State) (again bool) {
	bySource := map[*source][]*mirror{}
	looks := map[string]look{}
	var parts []*mirror // of which another instance is the coordinator
	for topic, am := range st.Mirrors {
		if am.Promotion == "" {
			continue
		}
		again = true
		m := p.r.mirror(topic)
		if m == nil || keyOf(am) != m.mirrorKey || am.State != model.MirrorActive {
			continue
		}
		if !p.r.OwnsTopic(topic) {
			parts = append(parts, m)
			continue
		}
		s, complete := m.currentSource()
		if s != nil && !complete {
			s.refresh() // partitions that were just added have no fetcher yet
		}
		if s == nil || m.lag() != 0 {
			continue
		}
		bySource[s] = append(bySource[s], m)
		looks[topic] = look{promotion: am.Promotion, m: m}
	}
	if len(parts) > 0 { // the coordinator waits for these checkpoints
		p.r.confirm(parts)
		p.r.checkpoint(ctx, parts)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	found := map[string][]int64{}
	for s, mirrors := range bySource {
		wg.Go(func() {
			ends, err := s.stableEnds(ctx, mirrors)
			if err != nil && ctx.Err() == nil {
				s.log.Debug("could not get the end offsets of mirrors that are being promoted, will retry", "mirrors", len(mirrors), "error", err)
			}
			mu.Lock()
			defer mu.Unlock()
			for m, e := range ends {
				found[m.topic] = e
			}
		})
	}
	wg.Wait()
	var caughtUp []model.Event
	for topic, l := range looks {
		l.ends = found[topic]
		if l.ends == nil || !l.m.endsAt(l.ends) {
			delete(looks, topic)
			continue
		}
		before := p.looks[topic]
		if before.m == l.m && before.promotion == l.promotion && slices.Equal(before.ends, l.ends) {
			caughtUp = append(caughtUp, model.Event{Kind: model.EventMirrorCaughtUp, Link: l.m.link, Topic: topic, Promotion: l.promotion})
		}
		looks[topic] = l
	}
	p.looks = looks
	p.report(ctx, caughtUp)
	return again
}

// report reports the events to Control. The next round repeats those that fail.
func (p *promoter) report(ctx context.Context, events []model.Event) {
	ctx, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	var reports errgroup.Group
	reports.SetLimit(maxCaughtUp)
	for _, ev := range events {
		reports.Go(func() error {
			if err := p.r.cfg.Control.Report(ctx, ev); err != nil && ctx.Err() == nil {
				p.r.log.Warn("could not report that a mirror has caught up, will retry", "link", ev.Link, "topic", ev.Topic, "error", err)
			}
			return nil
		})
	}
	_ = reports.Wait()
}

// lag returns by how many offsets the partitions here are behind the last known ends of the source;
// -1 = unknown. A source is asked for its ends only when the lag is 0.
func (m *mirror) lag() (lag int64) {
	for _, w := range m.all() {
		w.mu.Lock()
		end, source := w.settledEnd(), w.core.SourceEnd
		w.mu.Unlock()
		if end < 0 || source < 0 {
			return -1
		}
		lag += max(0, source-end)
	}
	return lag
}

// settledEnd returns the logical end of the partition; -1 = something is on its way to it, or the
// end is not known now. w.mu is held.
func (w *worker) settledEnd() int64 {
	c := &w.core
	switch {
	case c.State != core.StateRunning, c.Stopping, c.Doomed != nil, c.Flight > 0, len(c.Queue) > 0:
		return -1
	case c.Empty:
		return max(c.Next, c.Floor)
	}
	return c.Next
}

// endsAt reports whether the mirror has exactly these partitions, with these ends.
func (m *mirror) endsAt(ends []int64) bool {
	if m.partitions() != len(ends) || m.failed() != nil || !m.mayFetch() {
		return false
	}
	here := make([]bool, len(ends))
	for _, w := range m.all() {
		w.mu.Lock()
		end := w.settledEnd()
		w.mu.Unlock()
		if here[w.id] = true; end != ends[w.id] {
			return false
		}
	}
	for id, end := range ends {
		if !here[id] && m.storedEnd(int32(id)) != end {
			return false
		}
	}
	return true
}

// storedEnd returns the logical end of a partition that another instance runs, as that instance
// stored it last; -1 = unknown. The mirror has everything before it, and perhaps more by now.
func (m *mirror) storedEnd(id int32) int64 {
	if c, ok := m.r.cfg.Control.LastCheckpoint(m.topic, id); ok {
		return c.Logical
	}
	if tls := m.r.cfg.Control.State().Timelines[m.topic]; int(id) < len(tls) {
		return tls[id].Floor() // no record has ever been there
	}
	return -1
}

// currentSource returns the source that serves the mirror, nil = none does now. complete says
// whether every partition has a fetcher there.
func (m *mirror) currentSource() (s *source, complete bool) {
	complete = true
	for _, w := range m.all() {
		if f := w.fetcher.Load(); f != nil {
			s = f.s
		} else {
			complete = false
		}
	}
	return s, complete
}

// endAt is a partition's end at the source.
type endAt struct {
	m         *mirror
	partition int32
}

// stableEnds asks the source where the topics of mirrors end. It leaves out mirrors with an end
// that is not known for certain, or with a transaction open below an end.
func (s *source) stableEnds(ctx context.Context, mirrors []*mirror) (map[*mirror][]int64, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	byLeader, partitions, err := s.leadersOf(ctx, mirrors)
	if err != nil {
		return nil, err
	}
	var (
		asking errgroup.Group
		mu     sync.Mutex
		ends   = map[endAt]int64{}
	)
	for broker, of := range byLeader {
		asking.Go(func() error {
			// The last stable offset first: it never is above the end that is asked for after it.
			stable, err := s.listEnds(ctx, broker, of, kafkaclient.ReadCommitted)
			if err != nil {
				return err
			}
			high, err := s.listEnds(ctx, broker, of, kafkaclient.ReadUncommitted)
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			for at, end := range high {
				if lso, ok := stable[at]; ok && lso == end {
					ends[at] = end
				}
			}
			return nil
		})
	}
	err = asking.Wait() // the answers of the other brokers count all the same
	all := map[*mirror][]int64{}
mirrors:
	for m, n := range partitions {
		es := make([]int64, n)
		for p := range es {
			end, ok := ends[endAt{m, int32(p)}]
			if !ok {
				continue mirrors
			}
			es[p] = end
		}
		all[m] = es
	}
	return all, err
}

// leadersOf asks the source which broker leads each partition, and how many partitions there are.
// It leaves out mirrors whose topic is not the one that was mirrored, or has a partition without a
// leader.
func (s *source) leadersOf(ctx context.Context, mirrors []*mirror) (byLeader map[int32][]endAt, partitions map[*mirror]int, err error) {
	req := kmsg.NewPtrMetadataRequest()
	req.Topics = []kmsg.MetadataRequestTopic{} // none; null would be all
	byTopic := map[string][]*mirror{}
	for _, m := range mirrors {
		if byTopic[m.sourceTopic] == nil {
			t := kmsg.NewMetadataRequestTopic()
			t.Topic = kmsg.StringPtr(m.sourceTopic)
			req.Topics = append(req.Topics, t)
		}
		byTopic[m.sourceTopic] = append(byTopic[m.sourceTopic], m)
	}
	resp, err := req.RequestWith(ctx, s.client)
	if err != nil {
		return nil, nil, err
	}
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		return nil, nil, err
	}
	if link := s.r.cfg.Control.State().Links[s.name]; link == nil || link.SourceClusterID != "" && resp.ClusterID != nil && *resp.ClusterID != link.SourceClusterID {
		return nil, nil, errors.New("the source's address points to a different cluster")
	}
	byLeader, partitions = map[int32][]endAt{}, map[*mirror]int{}
	for i := range resp.Topics {
		t := &resp.Topics[i]
		if t.Topic == nil || t.ErrorCode != 0 || len(t.Partitions) == 0 {
			continue
		}
		led := !slices.ContainsFunc(t.Partitions, func(p kmsg.MetadataResponseTopicPartition) bool {
			return p.Leader < 0 || p.Partition < 0 || int(p.Partition) >= len(t.Partitions)
		})
		if !led {
			continue
		}
		for _, m := range byTopic[*t.Topic] {
			if id := m.id(); id != zeroID && t.TopicID != zeroID && id != t.TopicID {
				continue
			}
			if len(t.Partitions) > m.partitions() {
				s.refresh() // the mirror has to grow first
			}
			partitions[m] = len(t.Partitions)
			for k := range t.Partitions {
				p := &t.Partitions[k]
				byLeader[p.Leader] = append(byLeader[p.Leader], endAt{m, p.Partition})
			}
		}
	}
	return byLeader, partitions, nil
}

// listEnds asks a broker for the ends of partitions that it leads. It leaves out partitions with an
// error.
func (s *source) listEnds(ctx context.Context, broker int32, of []endAt, isolation int8) (map[endAt]int64, error) {
	req := kmsg.NewPtrListOffsetsRequest()
	req.ReplicaID = -1
	req.IsolationLevel = isolation
	topics := map[string]int{}
	asked := map[string]map[int32][]endAt{}
	for _, at := range of {
		name := at.m.sourceTopic
		i, ok := topics[name]
		if !ok {
			i = len(req.Topics)
			topics[name] = i
			t := kmsg.NewListOffsetsRequestTopic()
			t.Topic = name
			req.Topics = append(req.Topics, t)
			asked[name] = map[int32][]endAt{}
		}
		if asked[name][at.partition] == nil {
			p := kmsg.NewListOffsetsRequestTopicPartition()
			p.Partition, p.CurrentLeaderEpoch, p.Timestamp, p.MaxNumOffsets = at.partition, -1, timestampLatest, 1
			req.Topics[i].Partitions = append(req.Topics[i].Partitions, p)
		}
		asked[name][at.partition] = append(asked[name][at.partition], at)
	}
	kresp, err := s.client.Broker(int(broker)).Request(ctx, req)
	if err != nil {
		return nil, fmt.Errorf("ListOffsets at broker %d of the source: %w", broker, err)
	}
	ends := map[endAt]int64{}
	resp := kresp.(*kmsg.ListOffsetsResponse)
	for i := range resp.Topics {
		for _, p := range resp.Topics[i].Partitions {
			if p.ErrorCode != 0 || p.Offset < 0 {
				continue
			}
			for _, at := range asked[resp.Topics[i].Topic][p.Partition] {
				ends[at] = p.Offset
			}
		}
	}
	return ends, nil
}
