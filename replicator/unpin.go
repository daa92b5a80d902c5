package replicator

import (
	"cmp"
	"slices"

	"klink/replicator/core"
	"klink/replicator/memory"
)

// pinned is what keeps a frame in memory: the batches that are queued for some workers.
type pinned struct {
	frame      *memory.Frame
	size, live int64 // bytes of the frame, and of the batches
	flying     bool  // a batch is in flight: the frame stays, whatever is copied
	workers    []*worker
}

// unpin frees frames of which slow partitions need no more than half: it copies their batches, so
// that these partitions hold no more than their own bytes.
//
// It begins with the frames that need the smallest copies. It copies out of a frame only if there
// is room for all that the frame holds: part of it would take memory and free none.
func unpin(b *memory.Budget, workers []*worker) {
	frames := map[*memory.Frame]*pinned{}
	for _, w := range workers {
		w.tally(frames)
	}
	all := make([]*pinned, 0, len(frames))
	for _, p := range frames {
		if !p.flying && 2*p.live <= p.size {
			all = append(all, p)
		}
	}
	slices.SortFunc(all, func(x, y *pinned) int { return cmp.Compare(x.live, y.live) })
	for _, p := range all {
		if p.live > b.Left() {
			return
		}
		for _, w := range p.workers {
			w.unpin(p.frame)
		}
	}
}

// tally counts what the worker's batches keep in memory.
func (w *worker) tally(frames map[*memory.Frame]*pinned) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for n := range w.core.Queue {
		i := &w.core.Queue[n]
		if i.Markers() {
			continue
		}
		p := frames[i.Frame]
		if p == nil {
			p = &pinned{frame: i.Frame, size: i.Frame.Size}
			frames[i.Frame] = p
		}
		p.live += int64(len(i.Bytes))
		p.flying = p.flying || n < w.core.Flight
		if last := len(p.workers) - 1; last < 0 || p.workers[last] != w {
			p.workers = append(p.workers, w)
		}
	}
}

// unpin copies the worker's batches out of a frame, unless one of them is in flight by now.
func (w *worker) unpin(of *memory.Frame) {
	w.mu.Lock()
	defer w.mu.Unlock()
	holds := func(i core.Item) bool { return i.Frame == of }
	if slices.ContainsFunc(w.core.Queue[:w.core.Flight], holds) {
		return
	}
	for n := range w.core.Queue {
		if i := &w.core.Queue[n]; i.Frame == of {
			i.Unpin()
		}
	}
}
