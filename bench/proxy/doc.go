// Package proxy measures what a proxy costs: clients of one broker without a proxy, behind `klink
// serve`, behind HAProxy, and behind a program that only copies bytes.
//
// For each subject the broker has a listener that advertises the subject's address, so that a
// client which bootstraps at a subject stays there. The clients are those of bench/wire, which
// check every answer. All subjects take turns, round by round.
//
// Reading order: workload.go (what is measured, and its name), world.go (the broker and the
// subjects, with haproxy.go and relay.go), drive.go (closed loops and fixed rates), run.go (rounds
// and figures), and then the kinds of loads: load.go (produce and fetch), mirror.go, idle.go,
// stall.go.
//
// There are no locks: a connection belongs to one goroutine of a load. The package imports bench,
// bench/wire and internal/kafkatest; of what klink serves with it imports nothing, as klink is a
// subject, and another process.
package proxy
