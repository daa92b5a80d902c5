package replicator

import (
	"context"
	"time"

	"klink/admin/model"
	"klink/internal/retry"
	"klink/replicator/core"
)

const (
	// checkpointInterval is how often the ends of partitions that have moved are stored.
	checkpointInterval = 3 * time.Second
	checkpointTimeout  = 10 * time.Second
	// holeDelay is the least time for which partitions that end in a hole are collected before they
	// are stored. The time is also at least holeFactor times what the last write took, to ask
	// little of a cluster that is slow to write.
	holeDelay  = 20 * time.Millisecond
	holeFactor = 9
)

// keepCheckpoints stores checkpoints: of all partitions every checkpointInterval, and soon of those
// that end in a hole (end.go).
func (r *Replicator) keepCheckpoints(ctx context.Context) {
	all := time.NewTicker(checkpointInterval)
	defer all.Stop()
	delay := holeDelay
	for {
		select {
		case <-ctx.Done():
			return
		case <-all.C:
			mirrors := r.mirrorsNow()
			r.confirm(mirrors)
			r.checkpoint(ctx, mirrors)
		case <-r.holes:
			if retry.Sleep(ctx, delay) != nil {
				return
			}
			began := time.Now()
			r.store(ctx, workersOf(r.mirrorsNow()), (*worker).endsInHole)
			delay = max(holeDelay, min(holeFactor*time.Since(began), checkpointInterval))
		}
	}
}

// checkpoint stores, in one write, how far the workers have come since the last time. If retention
// has deleted every batch of a mirror, no stamp is left in its log, and only the checkpoint tells
// where to go on. After a crash the log is read from the checkpoint on, too.
func (r *Replicator) checkpoint(ctx context.Context, mirrors []*mirror) {
	r.store(ctx, workersOf(mirrors), func(*worker) bool { return true })
}

func workersOf(mirrors []*mirror) (workers []*worker) {
	for _, m := range mirrors {
		workers = append(workers, m.all()...)
	}
	return workers
}

// store stores checkpoints of the workers for which which returns true. It calls which with the
// worker's lock held.
func (r *Replicator) store(ctx context.Context, workers []*worker, which func(*worker) bool) {
	var cs []model.Checkpoint
	var ws []*worker
	for _, w := range workers {
		w.mu.Lock()
		if c, ok := w.nextCheckpoint(); ok && c != w.kept && which(w) {
			cs, ws = append(cs, c), append(ws, w)
		}
		w.mu.Unlock()
	}
	if len(cs) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, checkpointTimeout)
	defer cancel()
	if err := r.cfg.Control.Checkpoint(ctx, cs); err != nil {
		r.log.Warn("could not store checkpoints, will retry", "partitions", len(cs), "error", err)
		return
	}
	for n, w := range ws {
		w.mu.Lock()
		if cs[n].Logical >= w.kept.Logical { // a concurrent call may have been faster
			w.kept = cs[n]
		}
		w.publish()
		w.mu.Unlock()
	}
}

// nextCheckpoint returns how far the partition has come for sure; w.mu is held. A log that has
// never held a record of the mirror has no checkpoint, so that it can still begin anywhere, unless
// its mirror ends in a hole.
func (w *worker) nextCheckpoint() (c model.Checkpoint, ok bool) {
	p := &w.core
	c = model.Checkpoint{Topic: w.m.topic, Partition: w.id, Physical: p.Sure.Physical, Logical: p.Sure.Logical}
	seen := p.Last
	if p.Sure.Physical == p.Phys && p.State != core.StateResuming {
		c.Logical = max(c.Logical, p.Next)
		seen = p.Done
	}
	if seen.Known() {
		c.Epoch, c.EpochEnd = seen.Epoch, seen.End
	}
	c.Straight = p.Straight && c.Logical <= p.DoneTail // else it lies behind a hole
	return c, p.SureKnown && (!p.Virgin || !p.Align && w.endsInHole())
}

// confirm makes partitions read their logs if nothing has confirmed their last markers.
func (r *Replicator) confirm(mirrors []*mirror) {
	for _, m := range mirrors {
		for _, w := range m.all() {
			w.step((*core.Partition).Confirm)
		}
	}
}
