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
)

// checkpoint stores how far the workers have come since the last time, in one write. A mirror whose every batch was deleted
// by retention has no stamp left; this tells where to go on. What is read after a crash begins here, too.
func (r *Replicator) checkpoint(ctx context.Context, mirrors []*mirror) {
	var cs []admin.Checkpoint
	var ws []*worker
	for _, m := range mirrors {
		for _, w := range m.all() {
			w.mu.Lock()
			c := admin.Checkpoint{Topic: m.topic, Partition: w.id, Physical: w.core.sure.physical, Logical: w.core.sure.logical}
			if w.core.sure.physical == w.core.phys && w.core.state != stateResuming {
				c.Logical = max(c.Logical, w.core.next)
			}
			if w.core.sureKnown && !w.core.virgin && c != w.kept {
				cs, ws = append(cs, c), append(ws, w)
			}
			w.mu.Unlock()
		}
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
		w.kept = cs[n]
		w.mu.Unlock()
	}
}

// confirm lets partitions whose last markers nothing has confirmed read their logs.
func (r *Replicator) confirm(mirrors []*mirror) {
	for _, m := range mirrors {
		for _, w := range m.all() {
			w.step((*partition).confirm)
		}
	}
}
