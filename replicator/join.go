package replicator

import (
	"errors"

	"klink/protocol/batch"
)

// joining is what a worker has learned about joined batches.
type joining struct {
	// from is the logical offset from which on batches may be joined, or sent in windows. Batches
	// before it are appended one by one, because one of them was refused, or is damaged. Those
	// before the bad one are then appended, and the error names the bad one.
	from   int64
	most   int   // bytes of a joined batch; less where the topic's max.message.bytes is
	joined int64 // batches that were appended as a part of another
}

// failed records that batches up to the offset end could not be joined, or were refused as one.
func (j *joining) failed(end int64) { j.from = max(j.from, end) }

// tooLarge records that the destination refuses a batch of so many bytes.
func (j *joining) tooLarge(bytes int) { j.most = min(j.most, bytes/2) }

// errNoRoom: the budget has no room for a joined batch. Its batches are appended one by one.
var errNoRoom = errors.New("no room for a joined batch")

// join makes one batch of those in l.joining, in memory of the budget, which the job then holds.
func (l *lane) join(j *appendJob, most int) error {
	size := 0
	for _, b := range l.joining {
		size += len(b)
	}
	size = min(size+int(j.i.Records)*batch.JoinGrowth, most)
	frame := l.s.d.r.budget.TryRead(int64(size))
	if frame == nil {
		return errNoRoom
	}
	b, err := l.recoder.Join(frame.Mem[:0], l.joining, most)
	if err != nil {
		frame.Release()
		return err
	}
	j.before = len(j.i.Bytes)
	for _, b := range l.joining[1:] {
		j.before += len(b)
	}
	j.i.Bytes, j.i.Frame = b, frame
	return nil
}

// countJoined counts an appended batch if it was joined of others; w.mu is held.
func (w *worker) countJoined(j *appendJob) {
	if j.joined == 0 {
		return
	}
	m := w.m
	w.joining.joined += int64(j.joined)
	m.counters.JoinedBatches.Add(int64(j.joined))
	m.counters.JoinedBytes.Add(int64(j.before))
	m.counters.JoinedInto.Add(1)
	m.counters.JoinedIntoBytes.Add(int64(len(j.i.Bytes)))
}

// refusedJoined records that the destination refuses a joined batch for good.
func (w *worker) refusedJoined(j *appendJob, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.joining.failed(j.i.End())
	if isTooLarge(err) {
		w.joining.tooLarge(len(j.i.Bytes))
	}
}
