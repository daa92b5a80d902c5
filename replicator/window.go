package replicator

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"klink/protocol/batch"
	"klink/replicator/core"
	"klink/replicator/wire"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// A window is several appends of one partition that are on their way at once. A broker takes one
// batch of a partition per request, and with acks=all each request waits for the followers. So a
// lane sends several requests without a pause, which the broker handles one after the other. All
// but the last ask for acks=1. The last asks for acks=all: its answer says that the followers also
// have everything before it.
//
// A batch that was answered with acks=1 may be lost with the leader. So a window is settled as a
// whole, once all of its answers have come:
//
//   - If every append stands at its place, and the leader epoch is still the one in which the log
//     was read when the partition was resumed, the window is confirmed: one leader has taken all of
//     it, and the followers have it.
//   - Otherwise the log is read to see what counts.
//
// Every append but the first has batch.FlagFollows, and counts only behind its predecessor.
// Otherwise the predecessor might be refused or lost, and another batch of as many offsets take its
// place. A window begins where the log is confirmed, so a reader never looks back by more than a
// window.
//
// A batch behind one that was refused is void, and takes offsets. Most refusals are for the size or
// the codec of a batch. So a batch that is larger than all that were accepted before, or is the
// first of its codec, ends its window.
//
// Readers may see the batches of a window before it is settled. But they see nothing above the high
// watermark, and what is below it is never lost.

const (
	// maxWindow bounds the appends of a window. A reader that begins at one of them has to read
	// those before it, and a partition with a single append waits for the windows in the same
	// requests.
	maxWindow = 64
	// maxWindowBytes and maxWindowJobs bound what a lane sends without a pause, over all
	// partitions. leastWindow is the least share of maxWindowBytes that each partition gets.
	maxWindowBytes = 8 << 20
	maxWindowJobs  = 8192
	leastWindow    = 256 << 10

	acksAll    int16 = -1
	acksLeader int16 = 1
)

// appendResult is a broker's answer to one append of a window.
type appendResult struct {
	there      bool
	base       int64
	err        error
	appendTime bool // the broker replaced the records' timestamps by its own time
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

// takeWindow takes further appends of the last job's partition, to make a window. partitions is how
// many partitions share the requests.
func (l *lane) takeWindow(partitions int) {
	first := len(l.jobs) - 1
	w, share := l.jobs[first].w, max(maxWindowBytes/partitions, leastWindow)
	bytes := len(l.jobs[first].i.Bytes)
	for n := 1; n < maxWindow && bytes < share && len(l.jobs) < maxWindowJobs && !l.jobs[len(l.jobs)-1].novel; n++ {
		j, ok := w.more(l, core.JoinRule{Most: share})
		if !ok {
			break
		}
		bytes += len(j.i.Bytes)
		l.jobs = append(l.jobs, j)
	}
	of := len(l.jobs) - first
	for n := range of {
		l.jobs[first+n].of, l.jobs[first+n].nth = of, n
	}
}

// accepted describes the batches of a partition that the destination has accepted.
type accepted struct {
	bytes int    // of the largest batch
	kinds uint16 // of batches, a bit for each codec and timestamp type
}

// novel reports whether b may be refused for its size, codec or timestamp type.
func (a *accepted) novel(b batch.Header) bool {
	return len(b) > a.bytes || a.kinds&kindOf(b) == 0
}

// add records a batch of so many bytes. Its memory may be another batch's by now, so the kind is
// what kindOf returned before the append.
func (a *accepted) add(bytes int, kind uint16) {
	a.bytes, a.kinds = max(a.bytes, bytes), a.kinds|kind
}

// kindOf returns the bit of the batch's codec and timestamp type; old brokers refuse LogAppendTime.
func kindOf(b batch.Header) uint16 {
	kind := uint16(1) << b.Codec() // 0 to 7
	if b.LogAppendTime() {
		kind <<= 8
	}
	return kind
}

// more takes another append behind those that the lane has, if there is one that may be sent before
// they are answered.
func (w *worker) more(l *lane, rule core.JoinRule) (appendJob, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := &w.core
	if w.stream != l.s || c.Epoch < 0 || c.Flight >= len(c.Queue) || c.Queue[c.Flight].Base < w.joining.from || w.m.r.budget.Scarce() {
		return appendJob{}, false
	}
	return w.load(l, c.More(w.joinRule(rule, c.Queue[c.Flight].Base)), rule)
}

// plan spreads the jobs over rounds, so that the last append of every window is in the last round.
func (l *lane) plan() {
	rounds := 1
	for n := range l.jobs {
		rounds = max(rounds, l.jobs[n].of)
	}
	l.rounds = slices.Grow(l.rounds[:0], rounds)[:rounds] // reuse their memory
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

// settleWindows delivers the results of windows of several appends. err is the reason why some jobs
// have no answer.
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

// answered returns nil if the leader answered that every append of the window stands at its place.
// It returns missing if an append has no answer.
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

// elsewhere returns the offset of the first append that is not at its place, -1 = there is none.
func (v *window) elsewhere() int64 {
	for n := range v.jobs {
		if j := &v.jobs[n]; j.result.base != j.place {
			return j.result.base
		}
	}
	return -1
}

// refused returns the first append of the window that was answered with an error, nil if there is
// none.
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

// errElsewhere: the broker wrote an append at another offset than its place.
var errElsewhere = errors.New("the batch was appended elsewhere")

// sameLeader asks the leader whether the epochs in which the logs were read are still current, for
// all windows without an error. If so, no other leader has come in between and lost any of their
// batches. If not, it sets the window's error.
func (s *stream) sameLeader(ctx context.Context, leader requester, windows []window) {
	q, asked := newAskEnds(), map[partitionAt]*window{}
	for n := range windows {
		v := &windows[n]
		if v.err != nil {
			continue
		}
		w := v.worker()
		w.mu.Lock()
		epoch := w.core.Epoch
		w.mu.Unlock()
		at := partitionAt{w.m.topic, w.id}
		q.add(at, epoch)
		v.err, asked[at] = errLeftOut, v
	}
	resp, err := q.send(ctx, leader)
	if err == nil && resp.Version < firstFencedListOffsets {
		err = fmt.Errorf("ListOffsets v%d does not check the leader epoch", resp.Version)
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

// ended returns nil if the high watermark has reached the end of the window.
func (v *window) ended(p kmsg.ListOffsetsResponseTopicPartition) error {
	last := &v.jobs[len(v.jobs)-1]
	if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
		return err
	}
	if end := last.place + int64(last.i.Records); p.Offset < end {
		return fmt.Errorf("%w: the high watermark is %d, not %d", errNotCommitted, p.Offset, end)
	}
	return nil
}

// windowAppended handles a confirmed window: all of it is in the log, for good.
func (w *worker) windowAppended(v *window) {
	w.mu.Lock()
	logical, base := w.core.Queue[0].Base, v.jobs[0].place
	e := w.core.Confirmed()
	if w.core.State != core.StateFailed {
		w.tellAppended(base, logical)
		w.noteAppended(base, logical)
		w.m.counters.Windows.Add(1)
		w.m.counters.WindowBatches.Add(int64(len(v.jobs)))
	}
	var rewritten *core.Failure
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
		w.apply(w.core.Rewritten(rewritten))
	}
	w.goOn()
}

// windowUncertain handles a window of which some appends may not be in the log. If the broker
// refused a batch, the batches of the window are appended again one by one, so that the refused one
// is sent alone, and can be named in the failure.
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
		w.joining.failed(last.i.End())
		if j := v.refused(); j != nil && j.joined > 0 && isTooLarge(err) {
			w.joining.tooLarge(len(j.i.Bytes))
		}
		w.mu.Unlock()
	}
	for n := range v.jobs {
		v.jobs[n].done = true
	}
	s.d.r.log.Debug("appends were not confirmed, reading the log back", "topic", w.m.topic, "partition", w.id,
		"offset", v.jobs[0].i.Base, "appends", len(v.jobs), "broker", s.broker, "error", err)
	w.m.counters.Settled.Add(1)
	w.step(func(c *core.Partition) core.Effects { return c.Uncertain(lingering) })
}
