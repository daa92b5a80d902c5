package page

import (
	"math"
	"strconv"
	"strings"

	"klink/bench"
)

// better is the direction in which a metric improves.
type better int

const (
	neither better = iota
	higher
	lower
)

// shown says how to show a metric.
type shown struct {
	metric bench.Metric
	title  string // of a table; the unit follows
	unit   string
	better better
}

// metrics have a table each, in this order. Other metrics of a report come after them, without a
// verdict. "s" and "connections" have no table, because other metrics are computed from them.
var metrics = []shown{
	{bench.MBPerSecond, "Throughput", "MB/s", higher},
	{bench.RecordsPerSecond, "Throughput", "records/s", higher},
	{bench.RequestsPerSec, "Throughput", "requests/s", higher},
	{bench.CPUPerGB, "CPU", "s per GB", lower},
	{bench.CPUPerMRecords, "CPU", "s per million records", lower},
	{bench.CPUPerRequest, "CPU", "us per request", lower},
	{bench.CPUShare, "CPU", "s per s", lower},
	{bench.P50, "Latency, p50", "ms", lower},
	{"added p50 us", "Latency added to direct, p50", "us", lower},
	{bench.P99, "Latency, p99", "ms", lower},
	{bench.P999, "Latency, p99.9", "ms", lower},
	{bench.Max, "Latency, largest", "ms", lower},
	{"ack p50 ms", "Until the source has acknowledged, p50", "ms", neither},
	{"ack p99 ms", "Until the source has acknowledged, p99", "ms", neither},
	{bench.FirstP50, "Lag behind the source's acknowledgement, first third, p50", "ms", lower},
	{bench.FirstP99, "Lag behind the source's acknowledgement, first third, p99", "ms", lower},
	{bench.LastP50, "Lag behind the source's acknowledgement, last third, p50", "ms", lower},
	{bench.LastP99, "Lag behind the source's acknowledgement, last third, p99", "ms", lower},
	{bench.PeakRSS, "Memory, peak RSS", "MB", lower},
	{bench.RSS, "Memory, RSS", "MB", lower},
	{bench.BytesPerConn, "Memory", "bytes per idle connection", lower},
	{"CPU us/connection", "CPU to open a connection", "us", lower},
	{"of undisturbed", "Throughput beside a stalled reader", "part of what it is without", higher},
	{bench.MakeSeconds, "Until new mirrors have everything", "s", lower},
	{bench.StartSeconds, "From the start of the process until mirrors are up to date", "s", lower},
	{bench.FetchSessions, "Fetch sessions at the source", "", lower},
	{"RSS growth MB", "Memory that a stalled reader takes", "MB", lower},
}

var untold = []bench.Metric{bench.Seconds, "connections"}

// floors are the subjects that do less than a peer has to. So no peer can be ahead of them.
var floors = map[string]string{
	"direct": "no proxy",
	"raw":    "batches appended as they were fetched, and not looked at",
	"relay":  "bytes passed on unread",
}

// variants are klink with other settings. They are shown, but are not peers.
var variants = map[string]string{
	"klink-unjoined": "klink with append.join.below=0, batches appended one by one",
}

// klink is the subject of all ratios.
const klink = "klink"

// figure formats v with three significant digits, and commas.
func figure(v float64) string {
	switch {
	case math.IsNaN(v):
		return "-"
	case v == 0 || math.IsInf(v, 0):
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	digits := 2 - int(math.Floor(math.Log10(math.Abs(v))))
	if digits < 0 {
		unit := math.Pow10(-digits)
		v, digits = math.Round(v/unit)*unit, 0
	}
	s := strconv.FormatFloat(v, 'f', min(digits, 5), 64)
	whole, part, _ := strings.Cut(s, ".")
	for i := len(whole) - 3; i > 0 && whole[i-1] != '-'; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	if part == "" {
		return whole
	}
	return whole + "." + part
}

// spreadText returns the median, and the range if there is one.
func spreadText(s bench.Spread, unit string) string {
	switch {
	case s.N == 0:
		return "-"
	case s.N == 1 || figure(s.Low) == figure(s.High):
		return figure(s.Median) + unit
	}
	return figure(s.Median) + unit + " (" + figure(s.Low) + "–" + figure(s.High) + ")"
}
