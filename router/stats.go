package router

// RejectedProduces is how many partitions of produce requests klink itself has refused so far, because their topic is a
// read-only mirror or klink's own, or its id is of no topic.
func (r *Router) RejectedProduces() int64 { return r.rejected.Load() }
