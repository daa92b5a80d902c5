package replicator

import (
	"context"
	"errors"
	"math"
	"slices"
	"strconv"
	"time"

	"klink/admin/model"
	"klink/protocol/batch"
)

// voidSpan is the part of a log with void batches that may have keys: in a compacted topic they
// could take the place of records that count. The keys of control batches do not matter.
type voidSpan struct {
	from, to         int64 // physical; offsets = 0: there are none
	offsets, foreign int64
	// newest is the largest timestamp of the first void batch, and of the last batch that counts
	// before it. passing is that of the last batch that counts.
	newest, passing int64
}

// see takes a void batch.
func (v *voidSpan) see(h batch.Header, from, to int64, stamped bool) {
	if h.Control() {
		return
	}
	if v.offsets == 0 {
		v.newest = max(v.passing, h.MaxTimestamp())
	}
	v.add(from, to, stamped)
}

// passed takes a batch that counts.
func (v *voidSpan) passed(h batch.Header) { v.passing = h.MaxTimestamp() }

func (v *voidSpan) add(from, to int64, stamped bool) {
	if v.offsets == 0 {
		v.from = from
	}
	v.to = to
	v.offsets += to - from
	if !stamped {
		v.foreign += to - from
	}
}

// untouched reports whether the cleaner cannot have reached the first void batch by now. The
// cleaner stops at the first segment that has a record younger than min.compaction.lag.ms. newest
// is the time of a record in the segment of the void batch, or before it. lag is the topic's
// present lag. It may have been less before, so only MinCompactionLag of it counts, unless it is
// endless. The clocks of the destination and of klink may differ by a minute.
func (v *voidSpan) untouched(now time.Time, lag int64) bool {
	switch {
	case lag == math.MaxInt64:
		return true // the cleaner does not compact anything
	case lag < model.MinCompactionLag.Milliseconds():
		return false
	}
	return v.newest > now.Add(-model.MinCompactionLag+time.Minute).UnixMilli()
}

// compactionLag returns the min.compaction.lag.ms of a topic, in milliseconds.
func (d *destination) compactionLag(ctx context.Context, topic string) (int64, error) {
	value, err := d.topicConfig(ctx, topic, "min.compaction.lag.ms")
	if err != nil || value == nil {
		return 0, err
	}
	return strconv.ParseInt(*value, 10, 64)
}

// noteVoid has the control plane store where the log is void, which suspends compaction. If that
// fails the partition must not go on, as nobody would find the void batches again.
func (w *worker) noteVoid(ctx context.Context, v *voidSpan) error {
	if v.offsets == 0 {
		return nil
	}
	am := w.m.r.cfg.Control.State().Mirrors[w.m.topic]
	if am == nil || keyOf(am) != w.m.mirrorKey {
		return nil
	}
	found := model.VoidBatches{Partition: w.id, From: v.from, To: v.to, Offsets: v.offsets, Foreign: v.foreign}
	if slices.ContainsFunc(am.Void, func(known model.VoidBatches) bool {
		return known.Partition == found.Partition && known.From <= found.From && known.To >= found.To
	}) {
		return nil // noted before, perhaps by a former process
	}
	ctx, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	if found.Safe = appendOnly(am.CleanupPolicy); !found.Safe {
		lag, err := w.m.r.dest.compactionLag(ctx, w.m.topic)
		found.Safe = err == nil && v.untouched(time.Now(), lag)
	}
	err := w.m.r.cfg.Control.Report(ctx, model.Event{Kind: model.EventMirrorVoid, Link: w.m.link, Topic: w.m.topic, Void: found})
	if errors.Is(err, model.ErrNotOwner) {
		return nil // the present owner reads the log, too
	}
	return err
}
