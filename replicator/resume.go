package replicator

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"klink/admin/model"
	"klink/internal/retry"
	"klink/replicator/core"

	"github.com/twmb/franz-go/pkg/kerr"
)

// settleGrace is how long a request without an answer is given to reach the log, if the log does
// not have its batch. Brokers queue requests of a closed connection and may still handle them.
const settleGrace = time.Second // Replicator.grace, except in tests

// errNotCommitted: the log has more than its in-sync replicas have.
var errNotCommitted = errors.New("not committed")

// resume reads where the destination's log ends, retries until it knows, and tells the core.
// lingering says that an append without an answer may still be on its way. resume waits for such an
// append only if the log is empty or the partition is being stopped. Otherwise the append may come
// at any time: it lands at its place and counts, or it is void.
func (w *worker) resume(ctx context.Context, lingering bool) {
	d := w.m.r.dest
	wait := retry.Backoff{Low: 50 * time.Millisecond, High: 2 * time.Second}
	var stale *destTopic
	failures := 0
	var quietSince time.Time // since when the log has been seen to end at the same offset
	quietEnd := int64(-1)
	for {
		w.mu.Lock()
		resuming, stopping := w.core.State == core.StateResuming, w.core.Stopping || w.closing
		w.mu.Unlock()
		if !resuming {
			return
		}
		e, s, t, err := d.readEnd(ctx, w, stale)
		quiet := true
		switch {
		case err != nil || !lingering || !stopping && e.Start < e.End:
		case e.End != quietEnd:
			// Wait even if the batch is there: a log that still grows may get it a second time.
			quietEnd, quietSince, quiet = e.End, time.Now(), false
			wait.Reset()
		case time.Since(quietSince) < w.m.r.grace:
			quiet = false
			wait.Reset()
		}
		if err == nil && quiet {
			if err = w.readTail(ctx, &e); err == nil {
				err = w.canAlign(ctx, &e)
			}
			if err == nil {
				w.m.setRefused(nil, false)
				w.enoughReplicas(false)
				w.resumed(e, s)
				return
			}
		}
		if errors.Is(err, errNotCommitted) {
			w.shortOfReplicas(false)
		}
		if rewritten := (*core.Failure)(nil); errors.As(err, &rewritten) {
			w.step(func(p *core.Partition) core.Effects { return p.Fail(rewritten) })
			return
		}
		switch {
		case err == nil:
		case errors.Is(err, kerr.TopicAuthorizationFailed):
			w.m.setRefused(core.Failf(model.ErrAuthorization,
				"the destination refuses access to topic %q: grant klink's principal READ, WRITE, DESCRIBE and DELETE on it", w.m.topic), false)
			stale = t
		default:
			stale = t
			failures++
			level := slog.LevelDebug
			if failures > 5 {
				level = slog.LevelWarn // it takes longer than an election of a leader
			}
			w.m.r.log.Log(ctx, level, "could not read the end of a mirror partition, retrying", "topic", w.m.topic, "partition", w.id, "error", err)
		}
		if retry.Sleep(ctx, wait.Next()) != nil {
			return
		}
	}
}

// resumed gives the end of the log to the core. From now on the partition's appends go to the
// stream of the log's leader.
func (w *worker) resumed(e core.LogEnd, s *stream) {
	w.mu.Lock()
	w.stream, w.inStream, w.checked = s, false, false
	effects := w.core.Resumed(e)
	if (w.core.State == core.StateRunning || w.core.Ended()) && !w.m.lost.Load() {
		w.published = w.shownEnd()
		w.tl.Own(e.End, e.Tail, w.published, w.core.Straight)
	}
	w.apply(effects)
	w.mu.Unlock()
	w.wakeFetcher()
	w.m.r.wake()
}

// readEnd reads a partition's log start and end at the leader. It fails as long as the end is not
// committed, since what is above the high watermark may still be truncated. If the topic's metadata
// may be the cause of an error, it comes back with the error, to be refreshed.
func (d *destination) readEnd(ctx context.Context, w *worker, stale *destTopic) (e core.LogEnd, s *stream, t *destTopic, err error) {
	select {
	case d.resuming <- struct{}{}:
		defer func() { <-d.resuming }()
	case <-ctx.Done():
		return e, nil, stale, ctx.Err()
	}
	if t, err = d.topic(ctx, w.m.topic, stale); err != nil {
		return e, nil, stale, err
	}
	leader, err := t.leader(w.m.topic, w.m.topicID, w.id)
	if err != nil {
		return e, nil, t, err
	}
	e.Start, e.End, err = logEnds(ctx, d.broker(leader), w.m.topic, w.id, t.epochs[w.id])
	switch {
	case errors.Is(err, errNotCommitted):
		return e, nil, nil, err // the leader is right
	case err != nil:
		return e, nil, t, err
	}
	e.Epoch = t.epochs[w.id]
	return e, d.stream(leader), t, nil
}
