// Package memory bounds what the replicator holds of record batches: a budget over all fetches, and
// the frames that fetch responses are read into.
//
// Read budget.go first, then pool.go, which keeps the memory of released frames for the next ones.
//
// Locks: Budget.mu and pool.mu are leaves. Safe for concurrent use; no goroutine. The package
// imports nothing of klink.
package memory
