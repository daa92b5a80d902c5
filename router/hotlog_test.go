package router

import (
	"klink/protocol/timeline"
)

// hotLog is the log of a partition of a mirror: batches in physical order, without gaps.
type hotLog struct{ batches []hotBatch }

// hotBatch is a batch at physical offset p, logical offset l; l < 0 = it does not count.
type hotBatch struct{ p, l, n int64 }

func (g *hotLog) end() int64 {
	if len(g.batches) == 0 {
		return 0
	}
	last := g.batches[len(g.batches)-1]
	return last.p + last.n
}

// append appends n records at logical offset l.
func (g *hotLog) append(l, n int64) { g.batches = append(g.batches, hotBatch{g.end(), l, n}) }

// look is Facts.LearnOffset.
func (g *hotLog) look(line *timeline.Partition, physical int64) {
	for _, b := range g.batches {
		if b.l >= 0 && b.p+b.n > physical {
			line.LearnProbe(b.p, b.l, b.n)
			if b.p > physical {
				line.LearnProbe(physical, b.l, 0)
			}
			return
		}
	}
	for i := len(g.batches) - 1; i >= 0; i-- {
		if b := g.batches[i]; b.l >= 0 {
			line.LearnProbe(b.p, b.l, b.n)
			line.LearnProbe(g.end(), b.l+b.n, 0)
			break
		}
	}
	line.LearnStart(0)
	line.LearnEnd(g.end())
}
