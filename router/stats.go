package router

// RejectedProduces is how many partitions of produce requests klink itself has refused so far,
// because their topic is a read-only mirror or klink's own, or its id is of no topic.
func (r *Router) RejectedProduces() int64 { return r.rejected.Load() }

// VoidedBatches is how many batches klink has made void while they passed to a client, because they
// do not belong into the mirror that they are in: somebody has written to the destination around
// klink, or an append was doubled. Each time that a client comes across one counts.
func (r *Router) VoidedBatches() int64 { return r.voided.Load() }

// Probes is how often klink has looked into the log of a mirror partition to find an offset that
// its timeline did not know.
func (r *Router) Probes() int64 { return r.looks.Load() }
