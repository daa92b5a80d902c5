package replicator

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"klink/admin/model"
	"klink/internal/retry"
	"klink/protocol/batch"
	"klink/protocol/timeline"
	"klink/replicator/core"
	"klink/replicator/group"

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
	fetcher atomic.Pointer[fetcher] // of the replica that is fetched from, nil = unknown

	mu        sync.Mutex
	core      core.Partition
	stream    *stream // of the destination's leader as of the last resume
	inStream  bool    // is in the stream's queue
	fetchWait retry.Backoff
	notBefore time.Time // of the next fetch, after an error
	askedAt   time.Time // when the last fetch was begun
	lastFetch time.Time // last fetch answered without error; see heard
	caughtUp  time.Time // last time that the mirror's end was the source's; see heard
	trimTo    int64     // logical: DeleteRecords has to delete up to here
	trimming  bool
	followAt  time.Time // when the floor was moved last
	following bool
	published int64 // the logical end that the timeline was given last
	markers   strikes
	noAlign   string // why this process gave up aligning the partition; "" = it has not
	shifted   *core.Shifted
	endBurn   context.CancelFunc // not nil while offsets are burned
	copied    int64              // bytes appended since they were counted last
	lateBurn  bool               // an append of a burn that was broken off may still be on its way
	kept      model.Checkpoint   // the last checkpoint that was stored; see end.go
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
		m: m, id: id, tl: tl, slot: group.PartitionSlot(m.topic, id),
		fetchWait: retry.Backoff{Low: 100 * time.Millisecond, High: 5 * time.Second},
		short:     shortage{wait: retry.Backoff{Low: 100 * time.Millisecond, High: 2 * time.Second}},
		refusal:   configRefusal{wait: retry.Backoff{Low: 100 * time.Millisecond, High: 5 * time.Second}},
		caughtUp:  time.Now(),
		trimTo:    -1,
		joining:   joining{most: batch.MaxJoined},
	}
	w.core = core.NewPartition(fmt.Sprintf("%s-%d", m.topic, id), func(i core.Item) { i.Frame.Release() })
	return w
}

// step gives one input to the core and carries out its effects.
func (w *worker) step(input func(*core.Partition) core.Effects) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.apply(input(&w.core))
}

// apply carries out effects; w.mu is held, nothing blocks.
func (w *worker) apply(e core.Effects) {
	r := w.m.r
	if e.Resume {
		w.inStream = false
		r.spawn(func(ctx context.Context) { w.resume(ctx, e.Lingering) })
	}
	if e.Anchor != nil {
		a := *e.Anchor
		r.spawn(func(ctx context.Context) { w.storeAnchor(ctx, a) })
	}
	if e.Trim > 0 {
		w.trimTo = max(w.trimTo, e.Trim)
		if !w.trimming {
			w.trimming = true
			r.spawn(w.trim)
		}
	}
	if e.Ready && !w.inStream && w.stream != nil {
		if next, ok := w.core.Head(); ok {
			w.inStream = true
			w.stream.units.push(w, next, time.Now())
		}
	}
	if e.Burn > 0 {
		bctx, cancel := context.WithCancel(r.owner.appends())
		w.endBurn = cancel
		r.spawn(func(context.Context) {
			defer cancel()
			w.burn(bctx, e.Burn)
		})
	}
	if w.endBurn != nil && (w.core.Stopping || w.core.Abandoned || w.core.Realigned) {
		w.endBurn()
	}
	if e.Shifted != nil {
		w.shifted = e.Shifted
		r.spawn(func(ctx context.Context) { w.storeShift(ctx, *e.Shifted) })
	}
	if e.Lost > 0 {
		w.m.counters.LostRecords.Add(e.Lost)
		r.log.Error("the source deleted records before they were mirrored; the mirror continues after them",
			"link", w.m.link, "topic", w.m.topic, "partition", w.id, "offsets", e.Lost, "at", w.core.FetchAt)
	}
	w.publish()
	if e.Ended {
		w.m.workerEnded(w.core.Failed)
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
func (w *worker) take(l *lane, kind core.UnitKind, rule core.JoinRule) (appendJob, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.load(l, w.flight(l.s, kind, rule), rule)
}

// load makes a job of items that are in flight. The caller holds w.mu; load releases it while it
// joins the items.
func (w *worker) load(l *lane, items []core.Item, rule core.JoinRule) (appendJob, bool) {
	j := appendJob{w: w, next: -1}
	if len(items) == 0 {
		return j, false
	}
	l.joining = l.joining[:0]
	for _, i := range items {
		l.joining = append(l.joining, i.Bytes)
		j.i.Records += i.Records
	}
	j.i.Bytes, j.i.Base, j.i.Seen = items[0].Bytes, items[0].Base, items[len(items)-1].Seen
	if len(items) > 1 {
		j.joined = len(items)
		w.mu.Unlock() // nobody else changes the items in flight
		err := l.join(&j, rule.Most)
		w.mu.Lock()
		if err != nil {
			if !errors.Is(err, errNoRoom) {
				w.joining.failed(j.i.End())
			}
			w.core.Single()
			j.joined, j.i.Records = 0, w.core.Queue[w.core.Begun].Records
		}
	}
	j.place, j.novel = w.core.Place(), true
	if !j.i.Markers() {
		j.kind, j.novel = kindOf(j.i.Bytes), w.accepted.novel(j.i.Bytes)
	}
	switch {
	case j.i.Markers():
	case w.core.Begun > 0:
		batch.SetPlaceAfter(j.i.Bytes, j.place)
	default:
		batch.SetPlace(j.i.Bytes, j.place)
	}
	if !w.m.lost.Load() {
		w.tl.Extend(j.place, j.i.Base, int64(j.i.Records)) // may be read before it is answered
	}
	return j, true
}

// flight moves the next append into flight and returns its items; w.mu is held.
func (w *worker) flight(s *stream, kind core.UnitKind, rule core.JoinRule) []core.Item {
	if w.stream != s {
		return nil // a former leader's
	}
	next, ok := w.core.Head()
	if w.inStream = ok && next.Kind() != kind; w.inStream {
		s.units.push(w, next, time.Now())
	}
	if !ok || w.inStream {
		return nil
	}
	if w.m.r.budget.Scarce() && next.Pins() {
		w.core.Queue[0].Unpin()
	}
	return w.core.Take(w.joinRule(rule, next.Base))
}

// joinRule completes the rule for the append that begins at the logical offset base; w.mu is held.
func (w *worker) joinRule(rule core.JoinRule, base int64) core.JoinRule {
	if rule.Most = min(rule.Most, w.joining.most); base >= w.joining.from {
		if f := w.fetcher.Load(); f != nil {
			rule.Below = f.s.cfg.JoinBelow
			// No more is joined than there is room for; at most a fifth of a frame is unused.
			rule.Most = min(rule.Most, int(max(w.m.r.budget.Left(), 0)*4/5))
		}
	}
	return rule
}

// appended handles a successful append: the broker wrote the batch at base.
func (w *worker) appended(j *appendJob, base int64) {
	w.mu.Lock()
	logical := w.core.Queue[0].Base
	e := w.core.Appended(base)
	switch {
	case w.core.State == core.StateResuming:
		w.m.counters.Settled.Add(1)
		w.warnElsewhere(base)
	case w.core.State != core.StateFailed:
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
	c.AppendedRecords.Add(int64(j.i.Records))
	c.AppendedBytes.Add(int64(len(j.i.Bytes)))
	w.copied += int64(len(j.i.Bytes))
	w.countJoined(j)
	w.accepted.add(len(j.i.Bytes), j.kind)
}

// tellAppended tells readers, through the timeline, what stands from base to the end of the log;
// w.mu is held. If this instance has lost the mirror, the timeline now belongs to another worker or
// to nobody, and must not be touched.
func (w *worker) tellAppended(base, logical int64) {
	if !w.m.lost.Load() {
		w.tl.Appended(base, logical, w.core.Phys-base)
	}
}

// denied notes that the destination refuses appends for a missing ACL. It delays the next fetch,
// and with it the next append.
func (w *worker) denied() {
	w.mu.Lock()
	w.delayFetch()
	w.mu.Unlock()
	w.m.setRefused(core.Failf(model.ErrAuthorization, "the destination refuses appends to topic %q: grant klink's principal WRITE on it", w.m.topic), true)
}

// delayFetch makes the next fetch wait; w.mu is held.
func (w *worker) delayFetch() { w.notBefore = time.Now().Add(w.fetchWait.Next()) }

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
	if w.core.SourceEnd >= 0 && w.core.Next >= w.core.SourceEnd {
		w.caughtUp = now
	}
}

// heard updates lastFetch and caughtUp from the fetches whose responses leave the partition out:
// within a fetch session, that means that the source has nothing new. w.mu is held. Call heard
// before reading lastFetch or caughtUp.
func (w *worker) heard() {
	f := w.fetcher.Load()
	if f == nil || !w.core.Fetching || w.lastFetch.IsZero() {
		return
	}
	if at := time.Unix(0, f.answeredAt.Load()); at.After(w.askedAt) && at.After(w.lastFetch) {
		w.lastFetch = at
		w.noteCaughtUp(at)
	}
}

// storeAnchor stores a new start of the timeline. It retries until that succeeds, unless the
// partition ends or another instance owns it.
func (w *worker) storeAnchor(ctx context.Context, a core.Anchor) {
	wait := retry.Backoff{Low: 100 * time.Millisecond, High: 5 * time.Second}
	for {
		err := w.m.r.cfg.Control.SetTimeline(ctx, w.m.topic, w.id, a.Physical, a.Logical, a.Floor)
		if errors.Is(err, model.ErrNotOwner) {
			w.step((*core.Partition).Abandon)
			return
		}
		if err == nil {
			w.step((*core.Partition).Anchored)
			w.wakeFetcher()
			w.m.r.wake()
			return
		}
		w.m.r.log.Warn("could not store the start of a mirror partition, retrying",
			"topic", w.m.topic, "partition", w.id, "error", err)
		w.mu.Lock()
		ended := w.core.Ended()
		w.mu.Unlock()
		if ended || retry.Sleep(ctx, wait.Next()) != nil {
			return
		}
	}
}

// follow moves the mirror's log start to the source's, at most once per followInterval.
func (w *worker) follow(now time.Time) {
	w.mu.Lock()
	floor, ok := w.core.Follow()
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
		w.step(func(p *core.Partition) core.Effects { return p.Followed(floor) })
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
	return w.core.State == core.StateRunning && !w.lastFetch.IsZero()
}

// status returns the partition's status, for people.
func (w *worker) status() model.PartitionStatus {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.heard()
	s := model.PartitionStatus{
		SourceEnd: w.core.SourceEnd, MirrorEnd: w.shownEnd(), LastFetch: w.lastFetch, CaughtUp: w.caughtUp,
		SourceLastStable: w.core.SourceStable, SourceStart: w.core.SourceStart, MirrorStart: w.tl.Floor(), ShiftBegan: -1,
		Joined: w.joining.joined,
	}
	if w.lastFetch.IsZero() && int(w.id) < len(w.m.before) {
		seen := w.m.before[w.id]
		s.SourceEnd, s.LastFetch, s.CaughtUp = seen.SourceEnd, seen.LastFetch, seen.CaughtUp
		s.SourceLastStable, s.SourceStart = seen.SourceLastStable, seen.SourceStart
	}
	if w.shifted != nil {
		s.ShiftBegan, s.ShiftReason = w.shifted.Began, w.shifted.Reason
	}
	return s
}
