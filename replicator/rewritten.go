package replicator

import (
	"context"
	"errors"
	"time"

	"klink/admin/model"
	"klink/protocol/batch"
	"klink/replicator/core"
)

// A broker may store a batch otherwise than it was sent. In an old message format
// (message.format.version below 0.11) a batch has no field for its stamp, and with
// message.timestamp.type=LogAppendTime it loses its timestamps. The mirror's configs prevent both,
// but somebody who goes around klink can change them. From then on every batch is lost to clients
// that read through klink, so the mirror fails at once. (Apache Kafka 2.4.1 and 2.8.2 do not
// convert a batch with a stamp, but fail with UNKNOWN_SERVER_ERROR; other brokers may convert it.)
//
// The answer to an append shows new timestamps. A lost stamp shows only in the log. So klink reads
// back the first append after the log was read, and then one of the mirror's appends in every
// rewrittenPace.

const (
	// rewrittenPace is how often one of the appends of a mirror is read back.
	rewrittenPace = time.Second
	// rewrittenTimeout bounds a reading.
	rewrittenTimeout = 10 * time.Second
	// rewrittenReads is how many appends are read back at a time, over all mirrors. While that many
	// are, no other append is read back.
	rewrittenReads = 8
)

// checkStored has the append at base read back, if one is due; w.mu is held.
func (w *worker) checkStored(now time.Time, base, logical int64) {
	m := w.m
	last := m.storedAt.Load()
	if w.checked && now.UnixNano()-last < int64(rewrittenPace) {
		return
	}
	select {
	case m.r.storedReads <- struct{}{}:
	default:
		return
	}
	m.storedAt.Store(now.UnixNano())
	w.checked = true
	m.r.spawn(func(ctx context.Context) {
		defer func() { <-m.r.storedReads }()
		w.readStored(ctx, base, logical)
	})
}

// readStored reads back the batch that was appended at base, with the offset logical in its stamp.
// If the batch is gone or the broker does not answer, the next append is read back instead.
func (w *worker) readStored(ctx context.Context, base, logical int64) {
	ctx, cancel := context.WithTimeout(ctx, rewrittenTimeout)
	defer cancel()
	found := false
	err := w.log().walk(ctx, base, base+1, func(h batch.Header) error {
		if h.BaseOffset() > base {
			return nil // compacted away
		}
		found = true
		if _, _, _, stamped := batch.ReadStamp(h); !stamped {
			return errNoStamp
		}
		return nil
	})
	if errors.Is(err, errNoStamp) || errors.Is(err, batch.ErrOldFormat) {
		f := w.stampLost(base, logical, err)
		w.step(func(p *core.Partition) core.Effects { return p.Rewritten(f) })
		return
	}
	if err != nil || !found {
		w.mu.Lock()
		w.checked = false
		w.mu.Unlock()
	}
}

var errNoStamp = errors.New("a batch without a stamp")

// stampLost returns the failure of a mirror whose batch came back without its stamp.
func (w *worker) stampLost(base, logical int64, err error) *core.Failure {
	return core.Failf(model.ErrBatchRewritten, "%s-%d: the destination stored the batch of source offset %d, at offset %d there, without its stamp (%v): "+
		"somebody lowered message.format.version of topic %q, or its brokers rewrite batches; "+
		"fix that, then delete the topic and re-create the mirror", w.m.topic, w.id, logical, base, err, w.m.topic)
}

// errOldBatch returns the failure for a log that has a batch in an old message format. klink never
// writes one; only a broker that rewrites batches makes one.
func (w *worker) errOldBatch(at int64) error {
	return core.Failf(model.ErrBatchRewritten, "%s-%d: the destination's log has a batch in an old message format at offset %d, without the stamp of a mirror: "+
		"message.format.version of topic %q was below 0.11 when it was appended; fix that, then delete the topic and re-create the mirror",
		w.m.topic, w.id, at, w.m.topic)
}

// timeRewritten returns the failure of a mirror whose batch was given other timestamps.
func timeRewritten(j *appendJob) *core.Failure {
	return core.Failf(model.ErrBatchRewritten, "%s-%d: the destination gave the batch of source offsets %d to %d new timestamps: "+
		"somebody set message.timestamp.type=LogAppendTime on topic %q; delete the topic and re-create the mirror",
		j.w.m.topic, j.w.id, j.i.Base, j.i.End()-1, j.w.m.topic)
}
