// Package replicator copies record batches from the sources of links to the destination, unopened,
// and keeps every mirror partition equal to its source partition.
//
// Reading order: partition.go is the deterministic core of one partition (no sockets, no clock, no
// goroutine); worker.go runs a core; fetcher.go feeds it from a source broker, in a session
// (fetch_session.go); combiner.go puts what many partitions have to append at one broker into few
// requests, and stream.go sends them, both over connections of package wire, in memory that
// budget.go accounts for and pool.go keeps; resume.go reads back where the destination's log ends;
// source.go watches a source, and compare.go asks it whether it lost what was mirrored
// (truncation.go says how that can be told); slots.go, load.go, member.go and owner.go say which
// instance runs what; reconcile.go makes what runs match the state that the control plane
// publishes, and reports what was found. void_found.go, idle_look.go, examine.go and repair.go see
// to it that the destination's log cleaner takes nothing of a mirror in favour of what does not
// count (void_scan.go reads logs for it).
//
// Who calls whom: fetchers and streams call into workers; workers call into the destination to be
// queued at a stream. Locks are taken in the order Replicator.mu, source.mu, worker.mu,
// combiner.mu; no lock is held over network I/O.
package replicator
