// Package load puts a steady load on a Kafka cluster and reads it back, from there or from a mirror
// of it, and says how long that took and whether what was read is what was written: a load test
// that is a fidelity test too.
//
// Reading order: record.go (what a record carries), schedule.go (when it is to be sent), verify.go
// and ranges.go (what is checked), ledger.go (what was written), meter.go (figures), produce.go,
// consume.go, run.go (all of it together).
//
// Latencies are counted from the moment at which a record was *to be* sent, not from the one at
// which the cluster had time for it, so that a stall is seen in every record that it held up (no
// coordinated omission). All times are of one process and its monotonic clock. Memory is bounded by
// what producers may buffer, one fetch of each consumer, and a few words for each producer and
// partition.
package load
