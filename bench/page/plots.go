package page

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"klink/bench"
)

// plot is an SVG. name becomes a part of its file name.
type plot struct {
	name, title string
	svg         []byte
}

// colours of subjects. Other subjects get the colours that are left.
var colours = map[string]int{klink: 0, "mirrormaker2": 1, "haproxy": 1, "copy": 2, "direct": 5, "raw": 5, "relay": 6}

func colourOf(s *bench.Series, subject string) int {
	if c, ok := colours[subject]; ok {
		return c
	}
	n := 3
	for _, other := range subjectsOf(s) {
		if _, ok := colours[other]; ok {
			continue
		}
		if other == subject {
			return n
		}
		n = min(n+1, 4)
	}
	return n
}

// plotsOf returns the plots for which a series has figures.
func plotsOf(s *bench.Series) (plots []plot) {
	add := func(name, title string, svg []byte) { plots = append(plots, plot{name, title, svg}) }
	for _, p := range []struct {
		metric     bench.Metric
		name, what string
	}{
		{bench.MBPerSecond, "throughput", "throughput in MB/s"},
		{bench.CPUPerGB, "cpu", "CPU seconds per GB"},
		{bench.BytesPerConn, "connections", "bytes per idle connection"},
	} {
		for _, kind := range kindsOf(s, p.metric) {
			groups := groupsOf(s, p.metric, kind.workloads)
			if len(groups) == 0 || !compares(groups) {
				continue
			}
			title := fmt.Sprintf("%s: %s", s.Bench, p.what)
			if kind.name != "" {
				title += ", " + kind.name
			}
			add(p.name+kind.suffix(), title, bars(title, "Median of the rounds as a bar, range as a line. Each workload has a scale of its own.", groups))
		}
	}
	latencies(s, add)
	for _, w := range workloadsWith(s, bench.P99) {
		if p := overTime(s, w); p != nil {
			add("lag-"+fileName(w), p.title, p.render())
		}
	}
	scaling(s, add)
	return plots
}

// latencies plots distributions, by kind of workload.
func latencies(s *bench.Series, add func(name, title string, svg []byte)) {
	for _, kind := range kindsOf(s, bench.P99) {
		var groups []group
		for _, w := range kind.workloads {
			g := group{name: w}
			for _, subject := range subjectsOf(s) {
				if slices.Contains(s.Subjects(w), subject) {
					at := func(m bench.Metric) bench.Spread { return bench.SpreadOf(s.Values(w, subject, m)) }
					g.rows = append(g.rows, row{name: subject, colour: colourOf(s, subject), low: at(bench.P50), mid: at(bench.P99), high: at(bench.P999)})
				}
			}
			groups = append(groups, g)
		}
		title := s.Bench + ": latency in ms"
		if kind.name != "" {
			title += ", " + kind.name
		}
		add("latency"+kind.suffix(), title, distribution(title, "Dot p50, bar p99, ring p99.9, each the median of the rounds.", groups))
	}
}

// compares reports whether a group of bars has more than one subject.
func compares(groups []group) bool {
	return slices.ContainsFunc(groups, func(g group) bool { return len(g.rows) > 1 })
}

func groupsOf(s *bench.Series, m bench.Metric, workloads []string) (groups []group) {
	subjects := subjectsWith(s, m)
	for _, w := range workloads {
		g := group{name: w}
		for _, subject := range subjects {
			if slices.Contains(s.Subjects(w), subject) {
				g.rows = append(g.rows, row{name: subject, colour: colourOf(s, subject), value: bench.SpreadOf(s.Values(w, subject, m))})
			}
		}
		groups = append(groups, g)
	}
	return groups
}

// kind is a set of workloads that share a plot, so that no plot is too long.
type kind struct {
	name      string
	workloads []string
}

func (k kind) suffix() string {
	if k.name == "" {
		return ""
	}
	return "-" + fileName(k.name)
}

// threeBrokers matches the names of workloads whose destination is three brokers.
var threeBrokers = regexp.MustCompile(`^(rf3-|far-destination)`)

// kindsOf groups the workloads with a metric by the words before the first number of their names
// ("produce 1KiB x16" is a "produce"). Workloads with three brokers are a kind of their own.
// kindsOf leaves out names that are numbers: see scaling. A series whose names have no numbers has
// one kind.
func kindsOf(s *bench.Series, m bench.Metric) (kinds []kind) {
	for _, w := range workloadsWith(s, m) {
		if isNumber(w) {
			continue
		}
		name := ""
		if i := strings.IndexAny(w, "0123456789"); i > 0 && w[i-1] == ' ' {
			name = strings.TrimSpace(w[:i])
		}
		if threeBrokers.MatchString(w) {
			name = "three brokers"
		}
		i := slices.IndexFunc(kinds, func(k kind) bool { return k.name == name })
		if i < 0 {
			i, kinds = len(kinds), append(kinds, kind{name: name})
		}
		kinds[i].workloads = append(kinds[i].workloads, w)
	}
	return kinds
}

func isNumber(text string) bool {
	_, err := strconv.Atoi(text)
	return err == nil
}

var notInFileName = regexp.MustCompile(`[^a-z0-9]+`)

func fileName(text string) string {
	return strings.Trim(notInFileName.ReplaceAllString(strings.ToLower(text), "-"), "-")
}

// overTime plots the p99 of a workload over the time of its runs; nil if there are no samples. At
// each moment the value is the median of the rounds, and the band their range.
func overTime(s *bench.Series, workload string) *lines {
	p := &lines{
		title: fmt.Sprintf("%s: lag in ms over time, %s", s.Bench, workload), xTitle: "seconds", logarithmic: true,
		note: "p99 of each interval; line: median of the rounds, band: their range. Logarithmic.",
	}
	every, n := 0.0, 0
	for _, subject := range subjectsOf(s) {
		var rounds [][]float64
		for _, r := range s.Runs {
			if samples := r.Samples[bench.P99]; r.Workload == workload && r.Subject == subject && r.Problem == "" && len(samples) > 0 {
				rounds = append(rounds, samples)
				every, n = r.SampleEvery, max(n, len(samples))
			}
		}
		if len(rounds) == 0 {
			continue
		}
		c := curve{name: subject, colour: colourOf(s, subject)}
		for i := range n {
			var values []float64
			for _, samples := range rounds {
				if i < len(samples) && samples[i] > 0 {
					values = append(values, samples[i])
				}
			}
			c.values = append(c.values, bench.SpreadOf(values))
		}
		p.lines = append(p.lines, c)
	}
	if len(p.lines) == 0 || n < 2 {
		return nil
	}
	if every == 0 {
		every, p.xTitle = 1, "samples"
	}
	for i := range n {
		p.xs = append(p.xs, float64(i+1)*every)
	}
	return p
}

// scaling plots workloads whose names are numbers: of partitions, or of instances.
func scaling(s *bench.Series, add func(name, title string, svg []byte)) {
	var workloads []string
	for _, w := range s.Workloads() {
		if isNumber(w) {
			workloads = append(workloads, w)
		}
	}
	if len(workloads) < 2 {
		return
	}
	slices.SortFunc(workloads, func(a, b string) int {
		x, _ := strconv.Atoi(a)
		y, _ := strconv.Atoi(b)
		return x - y
	})
	what := "partitions"
	if s.Bench == "instances" {
		what = "instances"
	}
	for _, m := range []struct {
		metric     bench.Metric
		name, text string
	}{
		{bench.MBPerSecond, "throughput", "throughput in MB/s"},
		{bench.RecordsPerSecond, "records", "records/s"},
		{bench.CPUPerGB, "cpu", "CPU seconds per GB"},
	} {
		if m.metric == bench.RecordsPerSecond && len(subjectsWith(s, bench.MBPerSecond)) > 0 {
			continue // the same curve
		}
		p := &lines{
			title: fmt.Sprintf("%s: %s by %s", s.Bench, m.text, what), xTitle: what, x: workloads, points: true, labelsOfLast: true,
			note: "Median of the rounds, with the range as a line. The label has the last value.",
		}
		for _, subject := range subjectsWith(s, m.metric) {
			c, any := curve{name: subject, colour: colourOf(s, subject)}, false
			for _, w := range workloads {
				v := bench.SpreadOf(s.Values(w, subject, m.metric))
				c.values, any = append(c.values, v), any || v.N > 0
			}
			if any {
				p.lines = append(p.lines, c)
			}
		}
		if len(p.lines) > 0 {
			add("scaling-"+what+"-"+m.name, p.title, p.render())
		}
	}
}
