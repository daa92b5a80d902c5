package replicator

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"klink/admin/model"
	"klink/internal/retry"
	"klink/replicator/core"

	"github.com/twmb/franz-go/pkg/kerr"
)

// A source's topic may suddenly take what it did not take before: a larger batch once its
// max.message.bytes was raised, or a record without a key once it is no longer compacted. The
// mirror's configs follow, but only at an interval, so the records may come first. So a refusal
// that may be due to a config is final only when the configs were found right and the batch was
// refused again. Then the source has lowered its limit since, or the destination has a limit of its
// own.
const (
	// looksToBelieve is how often in a row the configs must be found right, each time followed by a
	// refusal of the same batch: the broker that leads the partition learns of a config some time
	// after it was set. With the waits in between that is about three seconds at least.
	looksToBelieve    = 5
	configLookTimeout = 30 * time.Second
)

// mayBeForConfig reports whether the destination may have refused an append because of a config of
// the topic: one that follows the source, or one that a mirror must have and somebody has changed.
func mayBeForConfig(err error) bool {
	return isOneOf(err, kerr.MessageTooLarge, kerr.RecordListTooLarge, kerr.InvalidRecord, kerr.InvalidTimestamp)
}

// configRefusal is a batch that was refused, perhaps because of a config. Nothing is appended while
// there is one. worker.mu guards it, except told.
type configRefusal struct {
	since time.Time     // of the first refusal in a row; zero = there is none
	base  int64         // logical base offset of the batch
	looks int           // how often the configs were found right since then
	wait  retry.Backoff // between a look and the next append
	told  atomic.Pointer[core.Failure]
}

// refusedForConfig records that the batch at base was refused with f. final is true if f is to fail
// the mirror. Otherwise the configs are looked at, and after that the batch is fetched again.
func (w *worker) refusedForConfig(base int64, f *core.Failure) (final bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	c, now := &w.refusal, time.Now()
	if c.since.IsZero() || c.base != base {
		c.since, c.base, c.looks = now, base, 0
		c.wait.Reset()
	}
	if c.looks >= looksToBelieve {
		return true
	}
	w.notBefore = now.Add(2 * configLookTimeout) // look ends the wait
	w.m.r.spawn(func(ctx context.Context) { w.look(ctx, f.Code) })
	return false
}

// look has the control plane look at the mirror's configs, and then lets the batch be fetched
// again.
func (w *worker) look(ctx context.Context, code model.Error) {
	ctx, cancel := context.WithTimeout(ctx, configLookTimeout)
	defer cancel()
	right, err := w.m.followConfigs(ctx)
	w.mu.Lock()
	c, now := &w.refusal, time.Now()
	if err == nil && right {
		c.looks++
	}
	w.notBefore = now.Add(c.wait.Next())
	tell := err != nil && !c.since.IsZero() && now.Sub(c.since) >= shortagePatience && c.told.Load() == nil
	if tell {
		c.told.Store(core.Failf(code, "%s: the destination refuses the batch at source offset %d, perhaps because of a config of topic %q, "+
			"and klink could not set the topic's configs to those of the source: %v; it will retry both", w.core.Name, c.base, w.m.topic, err))
	}
	w.mu.Unlock()
	if tell {
		w.m.r.wake()
	}
	w.wakeFetcher()
}

// refusalOver ends the refusal if the mirror has passed the refused batch; w.mu is held. It reports
// whether the refusal had been shown to people.
func (w *worker) refusalOver() (told bool) {
	c := &w.refusal
	if c.since.IsZero() || w.core.Next <= c.base {
		return false
	}
	c.since = time.Time{}
	return c.told.Swap(nil) != nil
}

// waitsForConfig returns why the partition waits for a config, nil if it does not.
func (w *worker) waitsForConfig() *core.Failure {
	if w.refusal.told.Load() == nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.refusalOver() // the source may have deleted the batch
	return w.refusal.told.Load()
}

// followConfigs has the control plane make the configs of the mirror those of the source's topic.
// Partitions that ask at the same time share one call.
func (m *mirror) followConfigs(ctx context.Context) (right bool, err error) {
	v, err, _ := m.looks.Do("", func() (any, error) { return m.r.cfg.Control.FollowConfigs(ctx, m.topic) })
	right, _ = v.(bool)
	return right, err
}

// isOneOf reports whether an error is one of these.
func isOneOf(err error, of ...error) bool {
	return slices.ContainsFunc(of, func(target error) bool { return errors.Is(err, target) })
}

// shortagePatience is how long too few replicas may be in sync before people are told. During an
// election of a leader it is usual.
const shortagePatience = 5 * time.Second

// shortage notes that a partition has fewer in-sync replicas at the destination than its
// min.insync.replicas asks for. The broker then refuses appends, or does not commit what it has.
// Nothing is lost; appends wait. worker.mu guards all fields but told.
type shortage struct {
	since   time.Time     // of the first of the signs in a row; zero = no shortage
	appends bool          // appends were refused: only an append that succeeds ends it
	wait    retry.Backoff // between appends
	told    atomic.Pointer[core.Failure]
}

// shortOfReplicas notes a sign of a shortage: an append that was refused, or a log whose end is not
// committed.
func (w *worker) shortOfReplicas(appends bool) {
	w.mu.Lock()
	s, now := &w.short, time.Now()
	if s.since.IsZero() {
		s.since = now
	}
	if appends {
		// Wait, since each attempt fetches the batch again.
		s.appends, w.notBefore = true, now.Add(s.wait.Next())
	}
	tell := s.told.Load() == nil && now.Sub(s.since) >= shortagePatience
	if tell {
		s.told.Store(core.Failf(model.ErrNotEnoughReplicas,
			"%s: fewer replicas are in sync at the destination than min.insync.replicas of topic %q requires: appends wait until enough replicas are back",
			w.core.Name, w.m.topic))
	}
	w.mu.Unlock()
	if tell {
		w.m.r.wake()
	}
}

// enoughReplicas notes that an append was confirmed, or that the log is committed to its end.
func (w *worker) enoughReplicas(appended bool) {
	w.mu.Lock()
	s := &w.short
	over := !s.since.IsZero() && (appended || !s.appends)
	if over {
		s.since, s.appends = time.Time{}, false
		s.wait.Reset()
	}
	told := over && s.told.Swap(nil) != nil
	w.mu.Unlock()
	if told {
		w.m.r.wake()
	}
}
