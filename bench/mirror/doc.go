// Package mirror measures how mirrors are filled: klink next to MirrorMaker 2 and to three programs
// that bound what is possible.
//
// Two clusters of Apache Kafka share the machine with the subject: the source, of one broker, and
// the destination, of one or three, which may be far from the subject and from each other. A
// subject is a process of its own, see subject.go. A run has up to two phases: catch-up, in which
// the source is full and the time from the first to the last record at the destination counts, and
// steady, in which the harness writes at a fixed rate and a consumer at the destination tells how
// old records are when they can be read. After each phase the destination is read, and its records
// have to be the source's; see digest.go.
//
// Reading order: workload.go (what is copied), subject.go (by whom), catchup.go and steady.go (how
// it is measured), bench.go and plan.go (the order of it all). wire.go is a small Kafka client that
// leaves record batches alone; the floors and the verification use it.
package mirror
