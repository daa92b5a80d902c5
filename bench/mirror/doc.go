// Package mirror measures how fast mirrors are filled. It compares klink with MirrorMaker 2, and
// with three programs that bound what is possible.
//
// Two clusters of Apache Kafka share the machine with the subject. The source has one broker. The
// destination has one or three, and may be far from the subject; its brokers may be far from each
// other. A subject is a process of its own, see subject.go. A run has up to two phases:
//
//   - Catch-up: the source is full, and the time from the first to the last record at the
//     destination counts.
//   - Steady: the harness writes at a fixed rate, and a consumer at the destination measures how
//     old records are when it can read them.
//
// After each phase the harness reads the destination and checks that its records are the source's;
// see digest.go.
//
// Reading order: workload.go (what is copied), subject.go (by whom), catchup.go and steady.go (how
// it is measured), bench.go and plan.go (the order of everything). fetch.go pumps a topic
// through the Kafka client of bench/wire, which does not touch record batches; the floors and the
// verification use both.
package mirror
