// Package caslog is a compacted topic as a store in which every change is a compare-and-set, by a
// transactional producer that fences all others.
//
// Read log.go first: it has the type, the protocol and its invariants. writer.go leads a batch of
// changes through a transaction; reader.go reads the topic and settles outcomes that are not known.
//
// Lock: Log.mu guards what was read, and is held while Config.Apply, and Eval of a change, run;
// Hold takes it for those who read what Apply built. Log.queueMu guards the queue, and is taken
// alone. One goroutine reads; another one leads while changes wait.
//
// The package imports internal/kafkaclient and internal/retry, and knows nothing of links.
package caslog
