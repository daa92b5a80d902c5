// Package replicator copies record batches, unopened, from the sources of links to the destination.
// It keeps every mirror partition equal to its source partition.
//
// Reading order:
//   - Package core has the deterministic core of one partition: no sockets, no clock, no goroutine.
//     worker.go runs a core.
//   - fetcher.go feeds cores from a source broker, in a fetch session (fetch_session.go).
//   - combiner.go puts the appends of many partitions at one broker into few requests; stream.go
//     sends them. Both use connections of package wire, and memory that package memory accounts
//     for.
//   - resume.go finds out, by reading back, where the destination's log ends.
//   - source.go watches a source; nearest.go finds the followers to fetch from. compare.go asks a
//     source whether it lost what was mirrored; core/truncation.go says how an answer shows that,
//     and core/follower.go what it means for followers.
//   - Package group has the rules of sharing work; member.go and owner.go act on them.
//   - reconcile.go makes what runs match the state that the control plane publishes, and reports
//     what it found.
//   - void_found.go, idle_look.go, examine.go and repair.go ensure that a void batch never makes
//     the destination's log cleaner remove a record that counts. void_scan.go reads logs for them.
//
// Calls: fetchers and streams call into workers; workers call into the destination, which queues
// them at a stream. Locks are taken in the order Replicator.mu, source.mu, worker.mu, combiner.mu;
// no lock is held over network I/O.
package replicator
