package bench

import (
	"fmt"
	"io"
	"math"
	"strconv"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// Tables writes the measurements: one table per workload, one row per subject. A figure is the
// median of its rounds, with the range behind it; ratios are medians of the ratios within rounds.
func (s *Series) Tables(w io.Writer, base, peer string, main ...Metric) {
	for _, a := range s.Absent {
		fmt.Fprintf(w, "not measured: %s: %s\n", a.Subject, a.Why)
	}
	for _, workload := range s.Workloads() {
		s.Table(w, workload, base, peer, main...)
	}
}

// Table writes one table of [Series.Tables]. It compares the first metric of main that the workload
// has with base and peer. Its columns are the metrics that the workload has.
func (s *Series) Table(w io.Writer, workload, base, peer string, main ...Metric) {
	subjects := s.Subjects(workload)
	columns := s.metrics(workload)
	var first Metric
	for _, m := range main {
		for _, c := range columns {
			if c == m && first == "" {
				first = m
			}
		}
	}
	t := table.NewWriter()
	style := table.StyleDefault
	style.Options.DrawBorder = false
	style.Format.Header = text.FormatDefault
	t.SetStyle(style)
	t.SuppressTrailingSpaces()
	header := table.Row{workload}
	for _, c := range columns {
		header = append(header, string(c))
		if c == first {
			header = append(header, "/ "+base, "/ "+peer)
		}
	}
	header = append(header, "rounds")
	t.AppendHeader(header)
	for _, subject := range subjects {
		row := table.Row{subject}
		n := 0
		for _, c := range columns {
			spread := SpreadOf(s.Values(workload, subject, c))
			n = max(n, spread.N)
			row = append(row, spread.String())
			if c == first {
				row = append(row, ratioText(s.Ratios(workload, subject, base, c)), ratioText(s.Ratios(workload, subject, peer, c)))
			}
		}
		t.AppendRow(append(row, n))
	}
	fmt.Fprintf(w, "%s\n\n", t.Render())
}

// metricOrder is the order of columns.
var metricOrder = []Metric{
	Connections, BytesPerConn, MBPerSecond, RequestsPerSec, RecordsPerSecond, OfUndisturbed, GrowthMB, P50, AddedP50, P99, P999, CPUPerGB, CPUPerRequest,
	CPUPerConn, CPUPerMRecords, CPUShare, RSS, PeakRSS, Max, Seconds,
}

// metrics returns the metrics of a workload, in the order of columns.
func (s *Series) metrics(workload string) (metrics []Metric) {
	for _, m := range metricOrder {
		for _, subject := range s.Subjects(workload) {
			if len(s.Values(workload, subject, m)) > 0 {
				metrics = append(metrics, m)
				break
			}
		}
	}
	return metrics
}

// String returns the median and, if there is one, the range.
func (p Spread) String() string {
	switch {
	case p.N == 0:
		return "-"
	case p.N == 1:
		return figure(p.Median)
	}
	return fmt.Sprintf("%s (%s-%s)", figure(p.Median), figure(p.Low), figure(p.High))
}

func ratioText(ratios []float64) string {
	if len(ratios) == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f", SpreadOf(ratios).Median)
}

// figure formats v with three significant digits.
func figure(v float64) string {
	if v == 0 || math.IsNaN(v) || math.IsInf(v, 0) {
		return strconv.FormatFloat(v, 'g', 3, 64)
	}
	digits := 2 - int(math.Floor(math.Log10(math.Abs(v))))
	return strconv.FormatFloat(v, 'f', max(min(digits, 4), 0), 64)
}
