package replicator

import (
	"context"
	"time"

	"klink/admin"
)

const (
	// checkpointInterval is how often the ends of partitions that move are stored.
	checkpointInterval = 3 * time.Second
	checkpointTimeout  = 10 * time.Second
	// holeDelay is how long partitions that end in a hole are collected before they are stored, at
	// least. It is also as long as nine times the last write took, so that a cluster that is slow
	// to write is asked for little.
	holeDelay  = 20 * time.Millisecond
	holeFactor = 9
)

// keepCheckpoints stores checkpoints: from time to time of all partitions, soon of those that end
// in a hole (end.go).
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

// checkpoint stores how far the workers have come since the last time, in one write. A mirror whose
// every batch was deleted by retention has no stamp left; this tells where to go on. What is read
// after a crash begins here, too.
func (r *Replicator) checkpoint(ctx context.Context, mirrors []*mirror) {
	r.store(ctx, workersOf(mirrors), func(*worker) bool { return true })
}

func workersOf(mirrors []*mirror) (workers []*worker) {
	for _, m := range mirrors {
		workers = append(workers, m.all()...)
	}
	return workers
}

// store stores checkpoints of the workers that which is true of; their locks are held when it is
// asked.
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
		r.log.Warn("storing checkpoints failed, will retry", "partitions", len(cs), "error", err)
		return
	}
	for n, w := range ws {
		w.mu.Lock()
		if cs[n].Logical >= w.kept.Logical { // another one may have been faster
			w.kept = cs[n]
		}
		w.publish()
		w.mu.Unlock()
	}
}

// nextCheckpoint is how far the partition has come for sure; w.mu is held. A log that has never
// held a record of the mirror has none, so that it can still begin anywhere, unless its mirror ends
// in a hole.
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

// confirm lets partitions whose last markers nothing has confirmed read their logs.
func (r *Replicator) confirm(mirrors []*mirror) {
	for _, m := range mirrors {
		for _, w := range m.all() {
			w.step((*partition).confirm)
		}
	}
}
