package router

import "klink/protocol"

// RejectedProduces is how many partitions of produce requests klink itself has refused so far, because their topic is a
// read-only mirror or klink's own, or its id is of no topic.
func (r *Router) RejectedProduces() int64 { return r.rejected.Load() }

// countRejected counts what one request was refused; nil entries are topics that were not.
func (r *Router) countRejected(refused []*protocol.RefusedProduce) {
	n := 0
	for _, t := range refused {
		if t != nil {
			n += len(t.Partitions)
		}
	}
	r.rejected.Add(int64(n))
}
