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
	AckP50         Metric = "ack p50 ms" // until the source has acknowledged, where lag is measured
	AckP99         Metric = "ack p99 ms"
	// The lag behind the source's acknowledgement, in the first and the last third of a steady
	// phase.
	FirstP50 Metric = "first third p50 ms"
	FirstP99 Metric = "first third p99 ms"
	LastP50  Metric = "last third p50 ms"
	LastP99  Metric = "last third p99 ms"
	// AddedP50 is the p50 minus that of no proxy in the same round, where one connection asks.
	AddedP50    Metric = "added p50 us"
	Connections Metric = "connections"
	CPUPerConn  Metric = "CPU us/connection" // of opening it, handshakes included
	// What readers get beside one that does not read, as a part of what they get without it, and
	// how far the resident memory goes up.
	OfUndisturbed Metric = "of undisturbed"
	GrowthMB      Metric = "RSS growth MB"
	// MakeSeconds is until mirrors that are made have everything, StartSeconds from the start of
	// the process until they have what was written while it was not there.
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

// SpreadOf is the spread of values; of none all is NaN.
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

// Values are a metric's values of a subject in a workload, by round; runs with a problem are left
// out.
func (s *Serie) Values(workload, subject string, m Metric) (values []float64) {
	for _, r := range s.Runs {
		if v, ok := r.Values[m]; ok && r.Workload == workload && r.Subject == subject && r.Problem == "" {
			values = append(values, v)
		}
	}
	return values
}

// Ratios are the values of a subject divided by another's of the same round: what is the same in a
// round falls out.
func (s *Serie) Ratios(workload, subject, to string, m Metric) (ratios []float64) {
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

// Workloads are those of the serie, and Subjects those that have run in one, in the order in which
// they came.
func (s *Serie) Workloads() (names []string) {
	for _, r := range s.Runs {
		if !slices.Contains(names, r.Workload) {
			names = append(names, r.Workload)
		}
	}
	return names
}

// Subjects are those that have run in a workload.
func (s *Serie) Subjects(workload string) (names []string) {
	for _, r := range s.Runs {
		if r.Workload == workload && !slices.Contains(names, r.Subject) {
			names = append(names, r.Subject)
		}
	}
	return names
}

func compareText(a, b string) int { return cmp.Compare(a, b) }
