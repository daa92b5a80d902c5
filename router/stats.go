package router

// RejectedProduces returns how many partitions of produce requests klink itself has refused so far,
// because their topic is a read-only mirror or klink's own, or their topic id does not exist.
func (r *Router) RejectedProduces() int64 { return r.rejected.Load() }

// VoidedBatches returns how many batches klink has made void on their way to clients, because they
// do not belong to their mirror: somebody wrote to the destination around klink, or an append was
// doubled. A batch counts each time a client comes across it.
func (r *Router) VoidedBatches() int64 { return r.voided.Load() }

// Probes returns how often klink has looked into the log of a mirror partition for an offset that
// the timeline did not know.
func (r *Router) Probes() int64 { return r.looks.Load() }
