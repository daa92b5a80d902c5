package replicator

import (
	"sync/atomic"
	"time"

	"klink/admin/model"
	"klink/internal/retry"
	"klink/replicator/core"
)

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
