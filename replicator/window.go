package replicator

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"klink/protocol/batch"
	"klink/replicator/wire"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// A window is several appends of one partition on their way at once. A broker takes one batch of a
// partition per request, and with acks=all each waits for the followers. So a lane sends a number
// of requests without a pause, which the broker handles one after the other. All but the last one
// ask for acks=1. The last one asks for acks=all: its answer says that the followers have what is
// before it, too.
//
// What an answer with acks=1 tells may be lost with the leader. So a window is settled as a whole,
// once all of its answers are there:
//
//   - Every append stands at its place, and the leader epoch is still the one in which the log was
//     read when the partition was resumed. Then one leader has taken them all, and the followers
//     have them.
//   - Or the log is read, and tells.
//
// Every append but the first has batch.FlagFollows, and counts only behind the one in front of it:
// that one may be refused or lost, and another batch of as many offsets take its place. A window
// begins where the log is confirmed, so no batch has more than a window's of such predecessors.
//
// What comes behind a batch that is refused is void, and takes offsets. So a batch that is larger
// than all that were taken before, or is the first of its codec, ends a window: most refusals are
// for that.
//
// Readers may see the batches of a window before it is settled. They see nothing above the high
// watermark, and what is below it is never lost.

const (
	// maxWindow bounds the appends of a window. What stands before one of them has to be read by
	// who meets it first, and a partition of one append waits for the windows in the same requests.
	maxWindow = 64
	// maxWindowBytes and maxWindowJobs bound what a lane sends without a pause, over all
	// partitions. leastWindow is what a partition gets of that if there are many.
	maxWindowBytes = 8 << 20
	maxWindowJobs  = 8192
	leastWindow    = 256 << 10

	acksAll    int16 = -1
	acksLeader int16 = 1
)

// appendResult is what a broker has answered for an append of a window.
type appendResult struct {
	there      bool
	base       int64
	err        error
	appendTime bool // the broker has given the records its own time
}

func (r *appendResult) take(p *wire.ProducePartition) {
	*r = appendResult{there: true, base: p.BaseOffset, err: kerr.ErrorForCode(p.ErrorCode), appendTime: p.AppendTime >= 0}
	if r.err != nil && len(p.Message) > 0 {
		r.err = fmt.Errorf("%w: %s", r.err, p.Message)
	}
}

// window is a window of several appends, all of one worker: jobs[first : first+of].
type window struct {
	jobs []appendJob
	err  error
}

func (v *window) worker() *worker { return v.jobs[0].w }

// takeWindow takes what follows the last job, of a partition in a request with so many others.
func (l *lane) takeWindow(partitions int) {
	first := len(l.jobs) - 1
	w, share := l.jobs[first].w, max(maxWindowBytes/partitions, leastWindow)
	bytes := len(l.jobs[first].i.bytes)
	for n := 1; n < maxWindow && bytes < share && len(l.jobs) < maxWindowJobs && !l.jobs[len(l.jobs)-1].novel; n++ {
		j, ok := w.more(l, joinRule{most: share})
		if !ok {
			break
		}
		bytes += len(j.i.bytes)
		l.jobs = append(l.jobs, j)
	}
	of := len(l.jobs) - first
	for n := range of {
		l.jobs[first+n].of, l.jobs[first+n].nth = of, n
	}
}

// accepted is what the destination has taken of a partition.
type accepted struct {
	bytes int    // of the largest batch
	kinds uint16 // of batches, a bit for each codec and timestamp type
}

// novel is true for a batch that may be refused for what it is.
func (a *accepted) novel(b batch.Header) bool {
	return len(b) > a.bytes || a.kinds&kindOf(b) == 0
}

func (a *accepted) add(b batch.Header) {
	a.bytes, a.kinds = max(a.bytes, len(b)), a.kinds|kindOf(b)
}

// kindOf is the bit of a codec and a timestamp type; old brokers refuse LogAppendTime.
func kindOf(b batch.Header) uint16 {
	kind := uint16(1) << b.Codec() // 0 to 7
	if b.LogAppendTime() {
		kind <<= 8
	}
	return kind
}

// more gives the lane another append behind those that it has, if there is one that may be sent
// before they are answered.
func (w *worker) more(l *lane, rule joinRule) (appendJob, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := &w.core
	if w.stream != l.s || c.epoch < 0 || c.flight >= len(c.queue) || c.queue[c.flight].base < w.joining.from || w.m.r.budget.scarce() {
		return appendJob{}, false
	}
	return w.load(l, c.more(w.joinRule(rule, c.queue[c.flight].base)), rule)
}

// plan puts the jobs in rounds, so that the last append of each window is in the last one.
func (l *lane) plan() {
	rounds := 1
	for n := range l.jobs {
		rounds = max(rounds, l.jobs[n].of)
	}
	l.rounds = slices.Grow(l.rounds[:0], rounds)[:rounds] // what they hold is used again
	for n := range l.rounds {
		r := &l.rounds[n]
		clear(r.topics)
		r.topics = r.topics[:0]
	}
	clear(l.byTopic)
	for n := range l.jobs {
		l.group(rounds-l.jobs[n].of+l.jobs[n].nth, n)
	}
	clear(l.byTopic)
}

// settleWindows delivers the results of windows of several appends. err is what has become of what
// was not answered.
func (l *lane) settleWindows(ctx context.Context, r *request, lingering bool, err error) {
	clear(l.windows)
	l.windows = l.windows[:0]
	for n := 0; n < len(l.jobs); n += max(1, l.jobs[n].of) {
		if of := l.jobs[n].of; of > 1 {
			l.windows = append(l.windows, window{jobs: l.jobs[n : n+of]})
		}
	}
	if len(l.windows) == 0 {
		return
	}
	good := 0
	for n := range l.windows {
		v := &l.windows[n]
		if v.err = v.answered(err); v.err == nil {
			good++
		}
	}
	if good > 0 {
		l.s.sameLeader(ctx, l.to, l.windows)
	}
	l.s.units.answered(r)
	for n := range l.windows {
		if v := &l.windows[n]; v.err == nil {
			v.worker().windowAppended(v)
		} else {
			l.s.windowUncertain(v, lingering)
		}
	}
}

// answered is nil if every append of the window stands at its place, as far as its leader says.
func (v *window) answered(missing error) error {
	for n := range v.jobs {
		switch j := &v.jobs[n]; {
		case !j.result.there:
			return missing
		case j.result.err != nil:
			return j.result.err
		case j.result.base != j.place:
			return fmt.Errorf("%w: at offset %d, not at %d", errElsewhere, j.result.base, j.place)
		}
	}
	return nil
}

// elsewhere is where the first append stands that is not at its place.
func (v *window) elsewhere() int64 {
	for n := range v.jobs {
		if j := &v.jobs[n]; j.result.base != j.place {
			return j.result.base
		}
	}
	return -1
}

// refused is the first append of a window that was answered with an error, nil if there is none.
func (v *window) refused() *appendJob {
	for n := range v.jobs {
		if v.jobs[n].result.err != nil {
			return &v.jobs[n]
		}
	}
	return nil
}

func isTooLarge(err error) bool {
	return errors.Is(err, kerr.MessageTooLarge) || errors.Is(err, kerr.RecordListTooLarge)
}

// errElsewhere: an append stands at another offset than it was to.
var errElsewhere = errors.New("the batch stands elsewhere")

// sameLeader asks whether the leader epoch of the windows without an error is still that in which
// their logs were read. Then no leader in between can have lost any of it. Those of which it is not
// say so in their error.
func (s *stream) sameLeader(ctx context.Context, leader requester, windows []window) {
	q, asked := newAskEnds(), map[partitionAt]*window{}
	for n := range windows {
		v := &windows[n]
		if v.err != nil {
			continue
		}
		w := v.worker()
		w.mu.Lock()
		epoch := w.core.epoch
		w.mu.Unlock()
		at := partitionAt{w.m.topic, w.id}
		q.add(at, epoch)
		v.err, asked[at] = errLeftOut, v
	}
	resp, err := q.send(ctx, leader)
	if err == nil && resp.Version < firstFencedListOffsets {
		err = fmt.Errorf("ListOffsets v%d checks no leader epoch", resp.Version)
	}
	if err != nil {
		for _, v := range asked {
			v.err = err
		}
		return
	}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			if v := asked[partitionAt{t.Topic, p.Partition}]; v != nil {
				v.err = v.ended(p)
			}
		}
	}
}

// firstFencedListOffsets is the first version of ListOffsets that names a leader epoch (KIP-320).
const firstFencedListOffsets = 4

// ended is nil if the high watermark is behind the window.
func (v *window) ended(p kmsg.ListOffsetsResponseTopicPartition) error {
	last := &v.jobs[len(v.jobs)-1]
	if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
		return err
	}
	if end := last.place + int64(last.i.records); p.Offset < end {
		return fmt.Errorf("%w: the high watermark is %d, and not %d", errNotCommitted, p.Offset, end)
	}
	return nil
}

// windowAppended takes the result of a window: all of it is in the log, for good.
func (w *worker) windowAppended(v *window) {
	w.mu.Lock()
	logical, base := w.core.queue[0].base, v.jobs[0].place
	e := w.core.confirmed()
	if w.core.state != stateFailed {
		w.tellAppended(base, logical)
		w.noteAppended(base, logical)
		w.m.counters.Windows.Add(1)
		w.m.counters.WindowBatches.Add(int64(len(v.jobs)))
	}
	var rewritten *failure
	for n := range v.jobs {
		j := &v.jobs[n]
		j.done = true
		w.count(j)
		if j.result.appendTime && rewritten == nil {
			rewritten = timeRewritten(j)
		}
	}
	w.apply(e)
	if rewritten != nil {
		w.apply(w.core.rewritten(rewritten))
	}
	w.goOn()
}

// windowUncertain takes the result of a window of which it is not known what is in the log. If a
// batch was refused, what was in the window is appended one by one, so that the batch is the first,
// and is named.
func (s *stream) windowUncertain(v *window, lingering bool) {
	w, err := v.worker(), v.err
	last := &v.jobs[len(v.jobs)-1]
	var code *kerr.Error
	switch {
	case errors.Is(err, errElsewhere):
		w.warnElsewhere(v.elsewhere())
	case w.hindered(err):
	case errors.As(err, &code) && !code.Retriable, errors.Is(err, kerr.CorruptMessage):
		w.mu.Lock()
		w.joining.failed(last.i.end())
		if j := v.refused(); j != nil && j.joined > 0 && isTooLarge(err) {
			w.joining.tooLarge(len(j.i.bytes))
		}
		w.mu.Unlock()
	}
	for n := range v.jobs {
		v.jobs[n].done = true
	}
	s.d.r.log.Debug("appends were not confirmed, reading the log back", "topic", w.m.topic, "partition", w.id,
		"offset", v.jobs[0].i.base, "appends", len(v.jobs), "broker", s.broker, "error", err)
	w.m.counters.Settled.Add(1)
	w.step(func(c *partition) effects { return c.uncertain(lingering) })
}
