// Package bench measures what klink exists for, next to what people would use instead: see
// docs/benchmarks.md.
//
// A benchmark runs its subjects one after the other on the same clusters and the same data, several
// rounds of all of them (interleaved), and appends what it has measured to a [Report]. Nothing in a
// report is computed from one subject alone that could not be repeated: figures are kept by run,
// and medians and ratios are made where they are shown.
//
// Every subject is a process of its own, so that what the operating system counts for it (CPU,
// memory) is the subject's alone: klink itself, peers, and the floors, which are this binary again,
// with a hidden command.
package bench
