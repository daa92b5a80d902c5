package replicator

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"math"
	"time"

	"klink/internal/retry"
	"klink/protocol/batch"
	"klink/protocol/timeline"
)

// trim deletes the destination's records below the logical offset trimTo, and retries until that is
// done. At most one trim runs per worker.
func (w *worker) trim(ctx context.Context) {
	wait := retry.Backoff{Low: 100 * time.Millisecond, High: 5 * time.Second}
	log := w.log()
	var refused strikes
	for {
		w.mu.Lock()
		to := w.trimTo
		// Stop after the end: clients see nothing below the floor in any case, and the topic may
		// belong to somebody else now.
		if to < 0 || w.core.Ended() {
			w.trimming = false
			w.mu.Unlock()
			return
		}
		w.mu.Unlock()
		physical, err := w.findPhysical(ctx, to)
		if err == nil && physical > 0 {
			err = log.deleteBefore(ctx, physical)
		}
		if err == nil {
			w.mu.Lock()
			if w.trimTo == to {
				w.trimTo = -1
			}
			w.mu.Unlock()
			wait.Reset()
			refused.reset()
			continue
		}
		level := slog.LevelDebug
		if refused.lost(err) && refused.inARow == attemptsToBelieve {
			level = slog.LevelWarn // once: what clients of klink see is right all the same
		}
		w.m.r.log.Log(ctx, level, "could not move the log start of a mirror partition, retrying", "topic", w.m.topic, "partition", w.id, "offset", to, "error", err)
		if retry.Sleep(ctx, wait.Next()) != nil {
			return
		}
	}
}

// errSeen ends a walk early.
var errSeen = errors.New("seen")

// maxProbes bounds the probes for one offset; halving finds any within 63.
const maxProbes = 64

// findPhysical returns the physical offset of the first record at or above a logical offset, -1 if
// it cannot be found.
func (w *worker) findPhysical(ctx context.Context, logical int64) (int64, error) {
	log := w.log()
	for tries := range maxProbes {
		physical, probe, ok := w.tl.FindPhysical(logical, tries)
		if ok || probe == timeline.ProbeEnd {
			return physical, nil
		}
		// The batch that held the offset may be void, or compacted away. The next batch that counts
		// serves as well.
		var chain batch.Chain
		err := log.walk(ctx, probe, math.MaxInt64, func(h batch.Header) error {
			l, flags, _, _ := batch.ReadStamp(h)
			verdict := chain.See(h)
			if verdict == batch.VerdictUnsure {
				h = bytes.Clone(h[:batch.HeaderSize])
				counts, err := log.lookBack(ctx, w.tl, h)
				if err != nil {
					return err
				}
				verdict = chain.Settle(counts)
			}
			if verdict == batch.VerdictVoid || flags&batch.FlagFiller != 0 {
				return nil
			}
			w.tl.LearnProbe(h.BaseOffset(), l, h.NextOffset()-h.BaseOffset())
			if h.BaseOffset() > probe {
				w.tl.LearnProbe(probe, l, 0)
			}
			return errSeen
		})
		if err != nil && !errors.Is(err, errSeen) {
			return 0, err
		}
	}
	return -1, nil // not found; clients see nothing below the floor in any case
}

// lookBack reports whether a batch counts that has the flag follows: it was sent before the one in
// front of it was confirmed.
func (l *mirrorLog) lookBack(ctx context.Context, tl *timeline.Partition, h batch.Header) (counts bool, err error) {
	logical, _, _, _ := batch.ReadStamp(h)
	if counts, sure := tl.Before(h.BaseOffset(), logical); sure {
		return counts, nil
	}
	start, _, err := l.ends(ctx)
	if err != nil {
		return false, err
	}
	return batch.LookBack(h, start, func(from int64) ([]byte, error) { return l.fetch(ctx, from) })
}

// log returns a reader of the partition's log at the destination; for one goroutine.
func (w *worker) log() *mirrorLog {
	d := w.m.r.dest
	return newMirrorLog(d, d.clients[len(d.clients)-1], w.m.topic, w.m.topicID, w.id)
}
