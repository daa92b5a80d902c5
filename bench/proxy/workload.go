package proxy

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"

	"klink/bench"
)

// workload is a load on a proxy: the kind of request, its size, the number of connections, the
// rate, and whether TLS is on.
type workload struct {
	// kind is produce, fetch, mirror (fetches of a mirror whose offsets are shifted), idle or
	// stall.
	kind        string
	size        int // bytes of batches in a request or answer
	connections int
	rate        float64 // requests per second over all connections; 0 = as fast as answers come
	tls         bool
}

var workloadName = regexp.MustCompile(`^(?:(produce|fetch|mirror fetch) (\d+)(KiB|MiB) x(\d+)(?: at (\d+)/s)?|(idle) x(\d+)|(stalled reader))( tls)?$`)

// parseWorkload reads a name as [workload.String] writes it.
func parseWorkload(name string) (w workload, err error) {
	m := workloadName.FindStringSubmatch(name)
	if m == nil {
		return w, fmt.Errorf("workload %q: want \"produce|fetch|mirror fetch SIZE(KiB|MiB) xCONNECTIONS [at RATE/s] [tls]\", \"idle xCONNECTIONS [tls]\" or \"stalled reader [tls]\"", name)
	}
	number := func(s string) int {
		n, e := strconv.Atoi(s)
		if s != "" && (e != nil || n < 1 || n > 1_000_000) {
			err = fmt.Errorf("workload %q: %q must be from 1 to 1000000", name, s)
		}
		return n
	}
	w.kind, w.size, w.connections = m[1], number(m[2])<<10, number(m[4])
	if m[3] == "MiB" {
		w.size <<= 10
	}
	w.rate = float64(number(m[5]))
	if m[6] != "" {
		w.kind, w.connections = "idle", number(m[7])
	}
	if m[8] != "" {
		w.kind, w.connections = "stall", 16
	}
	w.tls = m[9] != ""
	switch {
	case err != nil:
	case w.size > 1<<20:
		err = fmt.Errorf("workload %q: brokers accept no batch above 1 MiB", name)
	case w.kind == "mirror fetch" && w.tls:
		err = fmt.Errorf("workload %q: mirrors are read without TLS only", name)
	}
	return w, err
}

func (w workload) String() (s string) {
	switch w.kind {
	case "idle":
		s = fmt.Sprintf("idle x%d", w.connections)
	case "stall":
		s = "stalled reader"
	default:
		size := fmt.Sprintf("%dKiB", w.size>>10)
		if w.size >= 1<<20 {
			size = fmt.Sprintf("%dMiB", w.size>>20)
		}
		s = fmt.Sprintf("%s %s x%d", w.kind, size, w.connections)
		if w.rate > 0 {
			s += fmt.Sprintf(" at %.0f/s", w.rate)
		}
	}
	if w.tls {
		s += " tls"
	}
	return s
}

// single reports whether the workload is about the latency of one request.
func (w workload) single() bool { return w.connections == 1 && w.rate == 0 }

// The workloads that run by default: those of the cross product of sizes, connections and TLS that
// differ. Users can name any other.
var (
	quickWorkloads = []string{
		"produce 1KiB x1", "produce 1MiB x16", "fetch 64KiB x16", "fetch 64KiB x16 tls", "fetch 1KiB x16 at 1000/s", "mirror fetch 64KiB x16", "idle x1000 tls",
	}
	fullWorkloads = []string{
		"produce 1KiB x1", "produce 1KiB x16", "produce 64KiB x16", "produce 64KiB x64", "produce 1MiB x1", "produce 1MiB x16",
		"fetch 1KiB x1", "fetch 1KiB x64", "fetch 64KiB x16", "fetch 1MiB x1", "fetch 1MiB x16",
		"produce 64KiB x16 tls", "fetch 1KiB x1 tls", "fetch 64KiB x16 tls", "fetch 1MiB x16 tls",
		"produce 1KiB x16 at 1000/s", "fetch 1KiB x16 at 1000/s",
		"mirror fetch 1KiB x1", "mirror fetch 64KiB x16", "mirror fetch 1MiB x16",
		"stalled reader", "idle x1000", "idle x10000", "idle x1000 tls", "idle x10000 tls",
	}
)

// workloadsOf returns the workloads that the options ask for. Those of mirrors come last,
// because they need more than a broker.
func workloadsOf(o *bench.Options) (workloads []workload, err error) {
	names := o.Workloads
	if len(names) == 0 {
		if names = fullWorkloads; o.Quick {
			names = quickWorkloads
		}
	}
	for _, name := range names {
		w, err := parseWorkload(name)
		if err != nil {
			return nil, err
		}
		workloads = append(workloads, w)
	}
	order := map[string]int{"mirror fetch": 1, "idle": 2}
	slices.SortStableFunc(workloads, func(a, b workload) int { return order[a.kind] - order[b.kind] })
	return workloads, nil
}
