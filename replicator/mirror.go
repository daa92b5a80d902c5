package replicator

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"klink/admin/model"
	"klink/protocol/timeline"
	"klink/replicator/core"
	"klink/replicator/group"

	"golang.org/x/sync/singleflight"
)

// mirrorKey identifies a mirror: if any field changes it is another mirror.
type mirrorKey struct {
	topic       string
	topicID     [16]byte // at the destination
	link        string
	sourceTopic string
}

// partitionAt is a partition of a mirror.
type partitionAt struct {
	topic     string
	partition int32
}

// closed says where a partition of a mirror that is being stopped has ended.
type closed struct {
	mirrorKey
	end model.PartitionEnd
}

func (at partitionAt) slot() int { return group.PartitionSlot(at.topic, at.partition) }

// mirror is a mirror topic with partitions that this instance runs. It ends when all its workers
// have ended; until then no other mirror of the same topic may run.
//
// Invariant (single writer): at any time at most one worker of this process appends to a partition
// of the destination, and it has at most one append, or one window of appends, in flight. This
// holds because:
//   - A mirror has at most one worker for each partition (begin), and Replicator.mirrors has one
//     mirror for each topic.
//   - reconcileMirrors starts a mirror only where there is none, and removes one only when it has
//     ended: each of its workers has the result of its last append, or has read the log back. The
//     same goes for a single worker that is dropped because its slot is given up.
//   - A worker's core gives out no unit before it has the result of the one before (partition).
//
// Of several instances at most one runs a partition: see owner.
type mirror struct {
	mirrorKey
	r        *Replicator
	counters *LinkCounters
	lost     atomic.Bool // other instances may own it: this one may announce nothing any more
	// before is the last known status, by partition (lastStatus). The source's part of it is shown
	// until the source answers again.
	before []model.PartitionStatus

	mu       sync.Mutex
	workers  []*worker // of the partitions that are run here, in order; replaced, not changed
	size     int       // partitions of the mirror, wherever they are run
	stopping bool
	live     int           // workers that have not ended
	failure  *core.Failure // the first one
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
	missing bool          // confirmed: the source has no such topic
	denied  *core.Failure // the source refuses access to the topic
	// suspicion fails the mirror, or marks the topic as missing, once it was seen suspected times
	// in a row since suspectedSince. One sighting may be stale metadata of a broker.
	suspicion      *core.Failure
	suspectedSince time.Time
	suspected      int
}

// refusedBy says whether the destination refuses klink access to the topic.
type refusedBy struct {
	why     *core.Failure // nil = it does not
	appends bool          // an append was refused, so only an append that succeeds ends it
}

// newMirror makes a mirror without workers.
func newMirror(r *Replicator, key mirrorKey, sourceID [16]byte, size int, before []model.PartitionStatus) *mirror {
	return &mirror{mirrorKey: key, r: r, sourceID: sourceID, size: size, counters: r.metrics.link(key.link), before: before}
}

// grow raises the number of partitions of the mirror to size.
func (m *mirror) grow(size int) {
	m.mu.Lock()
	m.size = max(m.size, size)
	m.mu.Unlock()
}

// partitions returns the number of partitions of the mirror, wherever they are run.
func (m *mirror) partitions() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.size
}

// begin starts a worker for a partition that has none. lingering is set if a former process may
// have appended to the partition a moment ago.
func (m *mirror) begin(id int32, tl *timeline.Partition, term uint64, lingering, closing bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.stopping {
		return
	}
	w := newWorker(m, id, tl)
	w.term, w.closing, w.core.Unsettled = term, closing, lingering || closing
	at, _ := slices.BinarySearchFunc(m.workers, id, func(w *worker, id int32) int { return int(w.id - id) })
	m.workers = slices.Insert(slices.Clone(m.workers), at, w)
	m.live++
	w.start(lingering)
}

// drop forgets workers that have ended.
func (m *mirror) drop(gone []*worker) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.workers = slices.DeleteFunc(slices.Clone(m.workers), func(w *worker) bool { return slices.Contains(gone, w) })
}

// all returns the workers that this instance runs, in the order of their partitions. The caller
// must not change the slice.
func (m *mirror) all() []*worker {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.workers
}

// worker returns the worker of a partition, nil if this instance does not run it.
func (m *mirror) worker(id int32) *worker {
	for _, w := range m.all() {
		if w.id == id {
			return w
		}
	}
	return nil
}

// stop ends all workers once their appends in flight are settled. With abandon the topic is gone,
// and the workers read nothing back.
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
			w.step((*core.Partition).Abandon)
		} else {
			w.step((*core.Partition).Stop)
		}
	}
}

// fail ends the mirror with a failure. It waits for appends in flight, not for queued batches.
func (m *mirror) fail(f *core.Failure) {
	m.mu.Lock()
	if m.failure == nil {
		m.failure = f
	}
	m.mu.Unlock()
	m.stop(false)
	m.r.wake()
}

// workerEnded counts a worker that has ended. It does nothing else, because the caller holds the
// worker's lock.
func (m *mirror) workerEnded(f *core.Failure) {
	m.mu.Lock()
	m.live--
	if f != nil && m.failure == nil {
		m.failure = f
	}
	m.mu.Unlock()
	m.r.wake()
}

// ended reports whether the mirror was stopped or has failed, and no worker is left.
func (m *mirror) ended() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.live == 0 && (m.stopping || m.failure != nil)
}

func (m *mirror) failed() *core.Failure {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.failure
}

// running reports whether every partition that is run here is resumed and fetching.
func (m *mirror) running() bool {
	for _, w := range m.all() {
		if !w.running() {
			return false
		}
	}
	return true
}

func (m *mirror) setDenied(f *core.Failure) {
	m.mu.Lock()
	changed := (m.source.denied == nil) != (f == nil)
	m.source.denied = f
	m.mu.Unlock()
	if changed {
		m.r.wake()
	}
}

// setRefused records that the destination refuses an append or a read or, with nil, that one has
// succeeded.
func (m *mirror) setRefused(f *core.Failure, appends bool) {
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

// unavailable returns why the mirror cannot go on for now, nil if nothing is known to be in the
// way.
func (m *mirror) unavailable() *core.Failure {
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
	if s, _ := m.currentSource(); s != nil {
		if f := s.unreachable(m); f != nil {
			return f
		}
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

// status returns the status by partition. Partitions that are not run here are unknown.
func (m *mirror) status() []model.PartitionStatus {
	s := unknownStatus(m.partitions())
	for _, w := range m.all() {
		s[w.id] = w.status()
	}
	return s
}

// unknownStatus returns the status of partitions of which nothing is known.
func unknownStatus(partitions int) []model.PartitionStatus {
	s := make([]model.PartitionStatus, partitions)
	for i := range s {
		s[i] = model.PartitionStatus{SourceEnd: -1, MirrorEnd: -1, SourceLastStable: -1, SourceStart: -1, MirrorStart: -1, ShiftBegan: -1}
	}
	return s
}

// ended reports whether nothing is in flight and nothing will be appended.
func (w *worker) ended() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.core.Ended()
}

// end returns where the partition has ended; -1 if it has not, or if its end is not confirmed.
func (w *worker) end() model.PartitionEnd {
	w.mu.Lock()
	defer w.mu.Unlock()
	e := model.PartitionEnd{Partition: w.id, Logical: -1, Physical: -1}
	if c := &w.core; c.Ended() && c.SureKnown && c.Sure.Physical == c.Phys {
		e.Logical, e.Physical = c.Next, c.Phys
	}
	return e
}
