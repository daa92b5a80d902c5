package replicator

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"klink/admin"
	"klink/protocol/batch"
	"klink/protocol/timeline"

	"github.com/twmb/franz-go/pkg/kerr"
)

// worker runs the core of one partition: it serialises the inputs, which come from a fetcher, a
// stream and the control plane, and carries the effects out.
type worker struct {
	m       *mirror
	id      int32 // partition
	slot    int
	term    uint64 // of the slot; see owner
	closing bool   // runs only to settle appends, before the partition counts as drained
	tl      *timeline.Partition
	fetcher atomic.Pointer[fetcher] // of the source's leader, nil = unknown
	leader  atomic.Int32            // the source's leader epoch, -1 = unknown; set before fetcher

	mu        sync.Mutex
	core      partition
	stream    *stream // of the destination's leader as of the last resume
	inStream  bool    // is in the stream's queue
	fetchWait backoff
	notBefore time.Time // of the next fetch, after an error
	askedAt   time.Time // when the last fetch was begun
	lastFetch time.Time // last fetch answered without error; see heard
	caughtUp  time.Time // last time that the mirror's end was the source's; see heard
	trimTo    int64     // logical: DeleteRecords has to delete up to here
	trimming  bool
	followAt  time.Time // when the floor was moved last
	following bool
	published int64 // the logical end that the timeline was given last
	markers   patience
	noAlign   string // why this process gave up aligning the partition; "" = it has not
	shifted   *shifted
	endBurn   context.CancelFunc // not nil while offsets are burned
	copied    int64              // bytes appended since they were counted last
	lateBurn  bool               // an append of a burn that was broken off may still be on its way
	kept      admin.Checkpoint   // the last checkpoint that was stored; see end.go
	short     shortage
	refusal   configRefusal
	checked   bool // since the last resume an append was, or is being, read back
	corrupt   struct {
		base  int64 // of the batch refused last for its checksum
		times int
	}
	joining joining
	// accepted describes the batches that the destination has accepted; one of another kind ends a
	// window.
	accepted accepted
}

func newWorker(m *mirror, id int32, tl *timeline.Partition) *worker {
	w := &worker{
		m: m, id: id, tl: tl, slot: partitionSlot(m.topic, id),
		fetchWait: backoff{low: 100 * time.Millisecond, high: 5 * time.Second},
		short:     shortage{wait: backoff{low: 100 * time.Millisecond, high: 2 * time.Second}},
		refusal:   configRefusal{wait: backoff{low: 100 * time.Millisecond, high: 5 * time.Second}},
		caughtUp:  time.Now(),
		trimTo:    -1,
		joining:   joining{most: batch.MaxJoined},
	}
	w.core = newPartition(fmt.Sprintf("%s-%d", m.topic, id), func(i item) { i.frame.release() })
	return w
}

// step gives one input to the core and carries out its effects.
func (w *worker) step(input func(*partition) effects) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.apply(input(&w.core))
}

// apply carries out effects; w.mu is held, nothing blocks.
func (w *worker) apply(e effects) {
	r := w.m.r
	if e.resume {
		w.inStream = false
		r.spawn(func(ctx context.Context) { w.resume(ctx, e.lingering) })
	}
	if e.anchor != nil {
		a := *e.anchor
		r.spawn(func(ctx context.Context) { w.storeAnchor(ctx, a) })
	}
	if e.trim >= 0 {
		w.trimTo = max(w.trimTo, e.trim)
		if !w.trimming {
			w.trimming = true
			r.spawn(w.trim)
		}
	}
	if e.ready && !w.inStream && w.stream != nil {
		if next, ok := w.core.head(); ok {
			w.inStream = true
			w.stream.units.push(w, next, time.Now())
		}
	}
	if e.burn > 0 {
		bctx, cancel := context.WithCancel(r.owner.appends())
		w.endBurn = cancel
		r.spawn(func(context.Context) {
			defer cancel()
			w.burn(bctx, e.burn)
		})
	}
	if w.endBurn != nil && (w.core.stopping || w.core.abandoned || w.core.realigned) {
		w.endBurn()
	}
	if e.shifted != nil {
		w.shifted = e.shifted
		r.spawn(func(ctx context.Context) { w.storeShift(ctx, *e.shifted) })
	}
	if e.lost > 0 {
		w.m.counters.LostRecords.Add(e.lost)
		r.log.Error("the source deleted records before they were mirrored; the mirror continues after them",
			"link", w.m.link, "topic", w.m.topic, "partition", w.id, "offsets", e.lost, "at", w.core.fetchAt)
	}
	w.publish()
	if e.ended {
		w.m.workerEnded(w.core.failed)
	}
}

// wakeFetcher makes the fetcher look at this worker again.
func (w *worker) wakeFetcher() {
	if f := w.fetcher.Load(); f != nil {
		f.wake()
	}
}

// start reads where the destination's log ends, and runs the partition from there. lingering says
// that an append of a former process may still be on its way.
func (w *worker) start(lingering bool) {
	w.m.r.spawn(func(ctx context.Context) { w.resume(ctx, lingering) })
}

// take returns the next append for lane l, if it has the given kind. If the head of the queue now
// has the other kind, since the queue was dropped in between, the partition is queued again under
// that kind.
func (w *worker) take(l *lane, kind unitKind, rule joinRule) (appendJob, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.load(l, w.flight(l.s, kind, rule), rule)
}

// load makes a job of items that are in flight. The caller holds w.mu; load releases it while it
// joins the items.
func (w *worker) load(l *lane, items []item, rule joinRule) (appendJob, bool) {
	j := appendJob{w: w, next: -1}
	if len(items) == 0 {
		return j, false
	}
	l.joining = l.joining[:0]
	for _, i := range items {
		l.joining = append(l.joining, i.bytes)
		j.i.records += i.records
	}
	j.i.bytes, j.i.base, j.i.seen = items[0].bytes, items[0].base, items[len(items)-1].seen
	if len(items) > 1 {
		j.joined = len(items)
		w.mu.Unlock() // nobody else changes the items in flight
		err := l.join(&j, rule.most)
		w.mu.Lock()
		if err != nil {
			w.joining.failed(j.i.end())
			w.core.single()
			j.joined, j.i.records = 0, w.core.queue[w.core.begun].records
		}
	}
	j.place, j.novel = w.core.place(), j.i.markers() || w.accepted.novel(j.i.bytes)
	switch {
	case j.i.markers():
	case w.core.begun > 0:
		batch.SetPlaceAfter(j.i.bytes, j.place)
	default:
		batch.SetPlace(j.i.bytes, j.place)
	}
	if !w.m.lost.Load() {
		w.tl.Extend(j.place, j.i.base, int64(j.i.records)) // may be read before it is answered
	}
	return j, true
}

// flight moves the next append into flight and returns its items; w.mu is held.
func (w *worker) flight(s *stream, kind unitKind, rule joinRule) []item {
	if w.stream != s {
		return nil // a former leader's
	}
	next, ok := w.core.head()
	if w.inStream = ok && next.kind() != kind; w.inStream {
		s.units.push(w, next, time.Now())
	}
	if !ok || w.inStream {
		return nil
	}
	if w.m.r.budget.scarce() {
		w.core.queue[0].unpin()
	}
	return w.core.take(w.joinRule(rule, next.base))
}

// joinRule completes the rule for the append that begins at the logical offset base; w.mu is held.
func (w *worker) joinRule(rule joinRule, base int64) joinRule {
	if rule.most = min(rule.most, w.joining.most); base >= w.joining.from {
		if f := w.fetcher.Load(); f != nil {
			rule.below = f.s.cfg.joinBelow
		}
	}
	return rule
}

// appended handles a successful append: the broker wrote the batch at base.
func (w *worker) appended(j *appendJob, base int64) {
	w.mu.Lock()
	logical := w.core.queue[0].base
	e := w.core.appended(base)
	switch {
	case w.core.state == stateResuming:
		w.m.counters.Settled.Add(1)
		w.warnElsewhere(base)
	case w.core.state != stateFailed:
		w.tellAppended(base, logical)
		w.noteAppended(base, logical)
		w.count(j)
	}
	w.apply(e)
	w.goOn()
}

// goOn continues after a confirmed append: it takes back what earlier refusals had set, and wakes
// the fetcher. It unlocks w.mu.
func (w *worker) goOn() {
	told := w.refusalOver()
	w.mu.Unlock()
	w.m.setRefused(nil, true)
	w.enoughReplicas(true)
	w.wakeFetcher()
	if told {
		w.m.r.wake()
	}
}

func (w *worker) warnElsewhere(base int64) {
	w.m.r.log.Warn("an append landed at an unexpected offset: somebody else wrote to the mirror, or an append that klink believed lost arrived late",
		"topic", w.m.topic, "partition", w.id, "offset", base)
}

// hindered reports whether err is a refusal that klink cannot mend and that failing the mirror
// would not mend either: a missing ACL, or too few in-sync replicas. It notes which of them it is.
func (w *worker) hindered(err error) bool {
	switch {
	case errors.Is(err, kerr.TopicAuthorizationFailed), errors.Is(err, kerr.ClusterAuthorizationFailed):
		w.denied()
	case errors.Is(err, kerr.NotEnoughReplicas), errors.Is(err, kerr.NotEnoughReplicasAfterAppend):
		w.shortOfReplicas(true)
	default:
		return false
	}
	return true
}

// noteAppended updates the worker's notes after an append at base; w.mu is held.
func (w *worker) noteAppended(base, logical int64) {
	now := time.Now()
	w.noteCaughtUp(now)
	w.checkStored(now, base, logical)
	w.corrupt.times = 0
}

// count counts a batch that was appended; w.mu is held.
func (w *worker) count(j *appendJob) {
	c := w.m.counters
	c.AppendedBatches.Add(1)
	c.AppendedRecords.Add(int64(j.i.records))
	c.AppendedBytes.Add(int64(len(j.i.bytes)))
	w.copied += int64(len(j.i.bytes))
	w.countJoined(j)
	w.accepted.add(j.i.bytes)
}

// tellAppended tells readers, through the timeline, what stands from base to the end of the log;
// w.mu is held. If this instance has lost the mirror, the timeline now belongs to another worker or
// to nobody, and must not be touched.
func (w *worker) tellAppended(base, logical int64) {
	if !w.m.lost.Load() {
		w.tl.Appended(base, logical, w.core.phys-base)
	}
}

// denied notes that the destination refuses appends for a missing ACL. It delays the next fetch,
// and with it the next append.
func (w *worker) denied() {
	w.mu.Lock()
	w.delayFetch()
	w.mu.Unlock()
	w.m.setRefused(failf(admin.ErrAuthorization, "the destination refuses appends to topic %q: grant klink's principal WRITE on it", w.m.topic), true)
}

// delayFetch makes the next fetch wait; w.mu is held.
func (w *worker) delayFetch() { w.notBefore = time.Now().Add(w.fetchWait.next()) }

// corrupted returns how often in a row the batch at base has been refused for its checksum.
func (w *worker) corrupted(base int64) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.corrupt.base != base {
		w.corrupt.base, w.corrupt.times = base, 0
	}
	w.corrupt.times++
	return w.corrupt.times
}

// noteCaughtUp notes now as the last moment without lag, if there is none; w.mu is held.
func (w *worker) noteCaughtUp(now time.Time) {
	if w.core.sourceEnd >= 0 && w.core.next >= w.core.sourceEnd {
		w.caughtUp = now
	}
}

// heard updates lastFetch and caughtUp from the fetches whose responses leave the partition out:
// within a fetch session, that means that the source has nothing new. w.mu is held. Call heard
// before reading lastFetch or caughtUp.
func (w *worker) heard() {
	f := w.fetcher.Load()
	if f == nil || !w.core.fetching || w.lastFetch.IsZero() {
		return
	}
	if at := time.Unix(0, f.answeredAt.Load()); at.After(w.askedAt) && at.After(w.lastFetch) {
		w.lastFetch = at
		w.noteCaughtUp(at)
	}
}

// storeAnchor stores a new start of the timeline. It retries until that succeeds, unless the
// partition ends or another instance owns it.
func (w *worker) storeAnchor(ctx context.Context, a anchor) {
	wait := backoff{low: 100 * time.Millisecond, high: 5 * time.Second}
	for {
		err := w.m.r.cfg.Control.SetTimeline(ctx, w.m.topic, w.id, a.physical, a.logical, a.floor)
		if errors.Is(err, admin.ErrNotOwner) {
			w.step((*partition).abandon)
			return
		}
		if err == nil {
			w.step((*partition).anchored)
			w.wakeFetcher()
			w.m.r.wake()
			return
		}
		w.m.r.log.Warn("could not store the start of a mirror partition, retrying",
			"topic", w.m.topic, "partition", w.id, "error", err)
		w.mu.Lock()
		ended := w.core.ended()
		w.mu.Unlock()
		if ended || !sleep(ctx, wait.next()) {
			return
		}
	}
}

// follow moves the mirror's log start to the source's, at most once per followInterval.
func (w *worker) follow(now time.Time) {
	w.mu.Lock()
	floor, ok := w.core.follow()
	if !ok || w.following || now.Sub(w.followAt) < followInterval {
		w.mu.Unlock()
		return
	}
	w.followAt, w.following = now, true
	w.mu.Unlock()
	w.m.r.spawn(func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, followTimeout)
		defer cancel()
		err := w.storeFloor(ctx, floor)
		w.mu.Lock()
		w.following = false
		w.mu.Unlock()
		if err != nil {
			w.m.r.log.Warn("could not store the log start of a mirror partition, will retry",
				"topic", w.m.topic, "partition", w.id, "error", err)
			return
		}
		w.step(func(p *partition) effects { return p.followed(floor) })
	})
}

// storeFloor stores the floor and the physical offset of the first record at or above it. The
// timeline forgets what is below.
func (w *worker) storeFloor(ctx context.Context, floor int64) error {
	physical, err := w.findPhysical(ctx, floor)
	if err != nil {
		return err
	}
	if physical < 0 {
		return fmt.Errorf("the timeline does not know where offset %d is", floor)
	}
	return w.m.r.cfg.Control.SetTimeline(ctx, w.m.topic, w.id, physical, floor, floor)
}

// followInterval bounds how often the floor of a partition is stored while the source's log start
// moves.
const (
	followInterval = 5 * time.Second
	followTimeout  = 30 * time.Second
)

// running reports whether the partition runs and its source has answered a fetch.
func (w *worker) running() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.core.state == stateRunning && !w.lastFetch.IsZero()
}

// status returns the partition's status, for people.
func (w *worker) status() admin.PartitionStatus {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.heard()
	s := admin.PartitionStatus{
		SourceEnd: w.core.sourceEnd, MirrorEnd: w.shownEnd(), LastFetch: w.lastFetch, CaughtUp: w.caughtUp,
		SourceLastStable: w.core.sourceStable, SourceStart: w.core.sourceStart, MirrorStart: w.tl.Floor(), ShiftBegan: -1,
		Joined: w.joining.joined,
	}
	if w.lastFetch.IsZero() && int(w.id) < len(w.m.before) {
		seen := w.m.before[w.id]
		s.SourceEnd, s.LastFetch, s.CaughtUp = seen.SourceEnd, seen.LastFetch, seen.CaughtUp
		s.SourceLastStable, s.SourceStart = seen.SourceLastStable, seen.SourceStart
	}
	if w.shifted != nil {
		s.ShiftBegan, s.ShiftReason = w.shifted.began, w.shifted.reason
	}
	return s
}

// unpin copies queued batches out of large frames that they alone may keep in memory, so that a
// slow partition holds no more than its own bytes.
func (w *worker) unpin() {
	w.mu.Lock()
	defer w.mu.Unlock()
	flight, q := w.core.queue[:w.core.flight], w.core.queue[w.core.flight:]
	for n := range q {
		// Batches in flight keep their frame in memory in any case.
		if of := q[n].frame; !slices.ContainsFunc(flight, func(i item) bool { return i.frame == of }) {
			q[n].unpin()
		}
	}
}

// unpin copies the batch if it is a small part of its frame.
func (i *item) unpin() {
	if i.markers() || i.frame.size < 4*int64(len(i.bytes)) {
		return
	}
	old := i.frame
	i.bytes = bytes.Clone(i.bytes)
	i.frame = old.budget.frame(0, int64(len(i.bytes)))
	old.release()
}
