package replicator

import (
	"sync"
	"sync/atomic"
	"time"

	"klink/admin"
	"klink/protocol/timeline"

	"golang.org/x/sync/singleflight"
)

// mirrorKey is what makes a mirror itself: when any of it changes it is another mirror.
type mirrorKey struct {
	topic       string
	topicID     [16]byte // at the destination
	link        string
	sourceTopic string
}

// mirror is a mirror topic that is being run here. It ends when all its workers have ended; until then no other mirror of
// the same topic may run.
//
// Invariant (single writer): at any time at most one worker of this process appends to a partition of the destination, and it
// has at most one append on its way. A mirror has one worker for each partition (grow), Replicator.mirrors has one mirror for
// each topic, reconcileMirrors starts one only where there is none, and removes one only when it has ended: when each of its
// workers has the result of its last append, or has read the log back. A worker's core gives no unit before it was told the
// result of the one before (partition). Of several instances at most one runs the mirror: see owner.
type mirror struct {
	mirrorKey
	r         *Replicator
	counters  *LinkCounters
	lingering bool        // a former process may have appended a moment ago
	closing   bool        // runs only to settle, before it counts as drained
	term      uint64      // of the slot; see owner
	lost      atomic.Bool // another instance may own it: nothing may be announced any more
	// before is what was last seen of it, by partition (lastStatus): that of the source is shown until it answers again.
	before []admin.PartitionStatus

	mu       sync.Mutex
	workers  []*worker // by partition; append-only
	stopping bool
	live     int      // workers that have not ended
	failure  *failure // the first one
	refused  refusedBy
	sourceID [16]byte // as stored or first seen; zero = the source has no topic ids
	source   sourceView
	policy   string      // cleanup.policy of the topic, "" = not known yet; see setPolicy
	growing  atomic.Bool // partitions are being added
	looks    singleflight.Group
	storedAt atomic.Int64 // when an append was last read back, in nanoseconds; see rewritten.go
}

// sourceView is what the source's metadata and fetches say about the topic.
type sourceView struct {
	missing bool     // confirmed: the source has no such topic
	denied  *failure // the source refuses access to the topic
	// A condition that would fail the mirror, seen in a row so many times since. A broker whose metadata is behind may show
	// an older picture for a moment.
	suspicion      *failure
	suspectedSince time.Time
	suspected      int
}

// refusedBy is that the destination refuses klink access to the topic.
type refusedBy struct {
	why     *failure // nil = it does not
	appends bool     // it was an append: only an append that succeeds shows that it is over
}

// newMirror makes a mirror and starts it.
func newMirror(r *Replicator, key mirrorKey, sourceID [16]byte, tls []*timeline.Partition, before []admin.PartitionStatus, lingering, closing bool) *mirror {
	m := &mirror{mirrorKey: key, r: r, sourceID: sourceID, counters: r.metrics.link(key.link), before: before, lingering: lingering, closing: closing}
	m.grow(tls)
	return m
}

// grow adds workers for timelines beyond those that have one, and starts them.
func (m *mirror) grow(tls []*timeline.Partition) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.stopping {
		return
	}
	for id := len(m.workers); id < len(tls); id++ {
		w := newWorker(m, int32(id), tls[id])
		m.workers = append(m.workers, w)
		m.live++
		w.start(m.lingering)
	}
}

// all is the workers by partition; the slice must not be changed.
func (m *mirror) all() []*worker {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.workers[:len(m.workers):len(m.workers)]
}

// stop ends all workers once what they have in flight is settled. With abandon the topic is gone, and nothing is read back.
func (m *mirror) stop(abandon bool) {
	m.mu.Lock()
	if m.stopping && !abandon {
		m.mu.Unlock()
		return
	}
	m.stopping = true
	workers := m.workers
	m.mu.Unlock()
	for _, w := range workers {
		if abandon {
			w.step((*partition).abandon)
		} else {
			w.step((*partition).stop)
		}
	}
}

// fail ends the mirror with a failure. Batches before it are not awaited, those in flight are.
func (m *mirror) fail(f *failure) {
	m.mu.Lock()
	if m.failure == nil {
		m.failure = f
	}
	m.mu.Unlock()
	m.stop(false)
	m.r.wake()
}

// workerEnded counts; a worker's lock is held, so nothing else is done here.
func (m *mirror) workerEnded(f *failure) {
	m.mu.Lock()
	m.live--
	if f != nil && m.failure == nil {
		m.failure = f
	}
	m.mu.Unlock()
	m.r.wake()
}

// ended says whether no worker is left, and failed why, if the mirror failed.
func (m *mirror) ended() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.live == 0 && (m.stopping || m.failure != nil)
}

func (m *mirror) failed() *failure {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.failure
}

// running says whether every partition is resumed and fetching.
func (m *mirror) running() bool {
	for _, w := range m.all() {
		if !w.running() {
			return false
		}
	}
	return true
}

func (m *mirror) setDenied(f *failure) {
	m.mu.Lock()
	changed := (m.source.denied == nil) != (f == nil)
	m.source.denied = f
	m.mu.Unlock()
	if changed {
		m.r.wake()
	}
}

// setRefused notes that the destination refuses an append or a reading, or, with nil, that one has succeeded.
func (m *mirror) setRefused(f *failure, appends bool) {
	m.mu.Lock()
	changed := false
	switch {
	case f != nil:
		changed = m.refused.why == nil
		m.refused = refusedBy{f, appends || m.refused.appends}
	case m.refused.why != nil && (appends || !m.refused.appends):
		changed = true
		m.refused = refusedBy{}
	}
	m.mu.Unlock()
	if changed {
		m.r.wake()
	}
}

// unavailable is why the mirror cannot go on for now, nil if nothing is known to be in the way.
func (m *mirror) unavailable() *failure {
	m.mu.Lock()
	missing, suspicion, denied, refused, workers := m.source.missing, m.source.suspicion, m.source.denied, m.refused.why, m.workers
	m.mu.Unlock()
	switch {
	case missing:
		return suspicion
	case denied != nil:
		return denied
	case refused != nil:
		return refused
	}
	for _, w := range workers {
		if f := w.short.told.Load(); f != nil {
			return f
		}
		if f := w.waitsForConfig(); f != nil {
			return f
		}
	}
	return nil
}

func (m *mirror) status() []admin.PartitionStatus {
	workers := m.all()
	s := make([]admin.PartitionStatus, len(workers))
	for i, w := range workers {
		s[i] = w.status()
	}
	return s
}

// ends are where partitions end in both kinds of offsets, -1 = unknown.
type ends struct{ logical, physical []int64 }

// ends are where the partitions of a mirror ended that has ended.
func (m *mirror) ends() (e ends) {
	for _, w := range m.all() {
		logical, physical := int64(-1), int64(-1)
		w.mu.Lock()
		if c := &w.core; c.ended() && c.sureKnown && c.sure.physical == c.phys {
			logical, physical = c.next, c.phys
		}
		w.mu.Unlock()
		e.logical, e.physical = append(e.logical, logical), append(e.physical, physical)
	}
	return e
}
