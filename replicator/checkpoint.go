package replicator

import (
	"context"
	"time"

	"klink/admin"
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
			if !sleep(ctx, delay) {
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
	var cs []admin.Checkpoint
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
func (w *worker) nextCheckpoint() (c admin.Checkpoint, ok bool) {
	p := &w.core
	c = admin.Checkpoint{Topic: w.m.topic, Partition: w.id, Physical: p.sure.physical, Logical: p.sure.logical}
	seen := p.last
	if p.sure.physical == p.phys && p.state != stateResuming {
		c.Logical = max(c.Logical, p.next)
		seen = p.done
	}
	if seen.known() {
		c.Epoch, c.EpochEnd = seen.epoch, seen.end
	}
	c.Straight = p.straight && c.Logical <= p.doneTail // else it lies behind a hole
	return c, p.sureKnown && (!p.virgin || !p.align && w.endsInHole())
}

// confirm makes partitions read their logs if nothing has confirmed their last markers.
func (r *Replicator) confirm(mirrors []*mirror) {
	for _, m := range mirrors {
		for _, w := range m.all() {
			w.step((*partition).confirm)
		}
	}
}
