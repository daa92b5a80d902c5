// Package transactions looks for transactions at the destination that would write markers into a
// new mirror.
//
// Read watch.go first: why open transactions matter, Watch, and how it asks the coordinators.
// transaction_state.go reads the same from the topic of the coordinators, where brokers cannot tell
// it (before Kafka 3.0).
//
// One look at a time: Watch.looking is held for it, and guards its result, which later callers
// share. No other lock is taken under it, and the package starts no goroutine.
//
// The package imports internal/retry and protocol.
package transactions
