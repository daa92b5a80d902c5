// Package bench compares klink with what people would use instead: see docs/benchmarks.md.
//
// A benchmark runs its subjects one after the other on the same clusters and the same data, in
// several interleaved rounds, and appends its measurements to a [Report]. A report keeps the
// figures of each run; medians and ratios are computed only where they are shown.
//
// Every subject is a process of its own, so that the CPU and memory that the operating system
// counts for it are the subject's alone. Subjects are klink itself, peers, and the floors, which
// are this binary with a hidden command.
//
// Reading order: metrics.go and report.go (what a report has), table.go (how it is shown in a
// terminal), process.go and machine.go (a subject, and where it runs). The rooms are above this
// package, and import it: bench/proxy and bench/mirror measure, bench/page renders the docs.
// bench/wire and bench/load stand by themselves. There are no locks here; of klink the package
// imports internal/kafkatest only.
package bench
