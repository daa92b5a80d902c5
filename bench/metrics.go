package bench

import (
	"cmp"
	"math"
	"slices"
)

// Metric names a figure of a run. The unit is in the name.
type Metric string

// The metrics.
const (
	// Megabytes are 10^6 bytes of record batches as the source holds them, gigabytes 10^9.
	MBPerSecond      Metric = "MB/s"
	RecordsPerSecond Metric = "records/s"
	RequestsPerSec   Metric = "requests/s"
	// CPU is user and system time of the subject's process.
	CPUPerGB       Metric = "CPU s/GB"
	CPUPerMRecords Metric = "CPU s/M records"
	CPUPerRequest  Metric = "CPU us/request"
	CPUShare       Metric = "CPU s/s"
	PeakRSS        Metric = "peak RSS MB"
	RSS            Metric = "RSS MB"
	BytesPerConn   Metric = "bytes/connection"
	P50            Metric = "p50 ms"
	P99            Metric = "p99 ms"
	P999           Metric = "p99.9 ms"
	Max            Metric = "max ms"
	AckP50         Metric = "ack p50 ms" // until the source's acknowledgement; with lag only
	AckP99         Metric = "ack p99 ms"
	// The lag behind the source's acknowledgement, in the first and the last third of a steady
	// phase.
	FirstP50 Metric = "first third p50 ms"
	FirstP99 Metric = "first third p99 ms"
	LastP50  Metric = "last third p50 ms"
	LastP99  Metric = "last third p99 ms"
	// AddedP50 is the p50 minus the p50 without a proxy in the same round, for workloads with one
	// connection.
	AddedP50    Metric = "added p50 us"
	Connections Metric = "connections"
	CPUPerConn  Metric = "CPU us/connection" // of opening it, handshakes included
	// Effects of a reader that does not read: OfUndisturbed is the share of their usual throughput
	// that other readers keep, GrowthMB is how far the resident memory grows.
	OfUndisturbed Metric = "of undisturbed"
	GrowthMB      Metric = "RSS growth MB"
	// MakeSeconds is the time from making mirrors until they have everything. StartSeconds is the
	// time from the start of the process until the mirrors have what was written while it was down.
	MakeSeconds   Metric = "s to make"
	StartSeconds  Metric = "s to start"
	FetchSessions Metric = "fetch sessions"
	Seconds       Metric = "s" // of the whole
)

// Spread is the median of repeated measurements, and their range.
type Spread struct {
	Median, Low, High float64
	N                 int
}

// SpreadOf returns the spread of values; of no values, all its figures are NaN.
func SpreadOf(values []float64) Spread {
	if len(values) == 0 {
		return Spread{math.NaN(), math.NaN(), math.NaN(), 0}
	}
	v := slices.Sorted(slices.Values(values))
	mid := v[len(v)/2]
	if len(v)%2 == 0 {
		mid = (v[len(v)/2-1] + mid) / 2
	}
	return Spread{Median: mid, Low: v[0], High: v[len(v)-1], N: len(v)}
}

// Values returns a metric's values of a subject in a workload, by round. It leaves out runs with a
// problem.
func (s *Series) Values(workload, subject string, m Metric) (values []float64) {
	for _, r := range s.Runs {
		if v, ok := r.Values[m]; ok && r.Workload == workload && r.Subject == subject && r.Problem == "" {
			values = append(values, v)
		}
	}
	return values
}

// Ratios returns the values of a subject divided by another subject's of the same round. So
// influences that are the same within a round cancel out.
func (s *Series) Ratios(workload, subject, to string, m Metric) (ratios []float64) {
	for _, r := range s.Runs {
		if r.Workload != workload || r.Subject != subject || r.Problem != "" {
			continue
		}
		for _, o := range s.Runs {
			a, b := r.Values[m], o.Values[m]
			if o.Workload == workload && o.Subject == to && o.Round == r.Round && o.Problem == "" && a > 0 && b > 0 {
				ratios = append(ratios, a/b)
			}
		}
	}
	return ratios
}

// Workloads returns the workloads of the series, in the order in which they first appear.
func (s *Series) Workloads() (names []string) {
	for _, r := range s.Runs {
		if !slices.Contains(names, r.Workload) {
			names = append(names, r.Workload)
		}
	}
	return names
}

// Subjects returns the subjects that have run in a workload, in the order in which they first
// appear.
func (s *Series) Subjects(workload string) (names []string) {
	for _, r := range s.Runs {
		if r.Workload == workload && !slices.Contains(names, r.Subject) {
			names = append(names, r.Subject)
		}
	}
	return names
}

func compareText(a, b string) int { return cmp.Compare(a, b) }
