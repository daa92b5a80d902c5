// Package load puts a steady load on a Kafka cluster, and reads it back from there or from a mirror
// of it. It reports how long that took, and whether the records read are those written. So it is
// both a load test and a fidelity test.
//
// Reading order: record.go (what a record carries), schedule.go (when it is due), verify.go and
// ranges.go (what is checked), ledger.go (what was written), meter.go (figures), produce.go,
// consume.go, run.go (all of it together).
//
// A latency counts from the moment at which a record was *due*, not from the moment at which the
// cluster was ready for it. So a stall shows in every record that it delayed (no coordinated
// omission). All times are from one process and its monotonic clock. Memory is bounded by the
// producers' buffers, one fetch of each consumer, and a few words for each producer and partition.
package load
