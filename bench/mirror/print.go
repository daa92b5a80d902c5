package mirror

import (
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"time"

	"klink/bench"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"golang.org/x/term"
)

// printer shows the progress of the benchmark: a line for each finished step, and at a terminal a
// changing line for the running one.
type printer struct {
	w        io.Writer
	terminal bool
	began    time.Time
	last     time.Time
	shown    bool // a changing line is there
}

func newPrinter(w io.Writer) *printer {
	if w == nil {
		w = io.Discard
	}
	f, ok := w.(*os.File)
	return &printer{w: w, began: time.Now(), terminal: ok && term.IsTerminal(int(f.Fd()))}
}

func (p *printer) line(format string, args ...any) {
	p.clear()
	fmt.Fprintf(p.w, format+"\n", args...)
}

func (p *printer) clear() {
	if p.shown {
		fmt.Fprint(p.w, "\r\x1b[K")
		p.shown = false
	}
}

// live replaces the changing line, at most a few times a second.
func (p *printer) live(format string, args ...any) {
	if !p.terminal || time.Since(p.last) < 200*time.Millisecond {
		return
	}
	p.clear()
	fmt.Fprintf(p.w, "\r"+format, args...)
	p.last, p.shown = time.Now(), true
}

func (p *printer) result(r *bench.Run, rounds int) {
	head := fmt.Sprintf("%4.0f s  %d/%d %-14s %-12s", time.Since(p.began).Seconds(), r.Round, rounds, r.Workload, r.Subject)
	v := r.Values
	switch {
	case r.Problem != "":
		p.line("%s DOES NOT COUNT: %s", head, r.Problem)
	case v[bench.P50] > 0:
		p.line("%s lag p50 %.1f ms  p99 %.1f ms  p99.9 %.1f ms  max %.0f ms  (written after p50 %.1f, p99 %.1f ms; behind that p99 %.1f ms in the first third, %.1f in the last)  %.2f CPU s/s", head,
			v[bench.P50], v[bench.P99], v[bench.P999], v[bench.Max], v[bench.AckP50], v[bench.AckP99], v[bench.FirstP99], v[bench.LastP99], v[bench.CPUShare])
	default:
		p.line("%s %6.1f MB/s  %7.0f records/s  %5.2f CPU s/GB  %5.2f CPU s/M records  %5.0f MB RSS  in %.1f s", head,
			v[bench.MBPerSecond], v[bench.RecordsPerSecond], v[bench.CPUPerGB], v[bench.CPUPerMRecords], v[bench.PeakRSS], v[bench.Seconds])
	}
}

// The columns of the tables.
var (
	catchUpColumns = []bench.Metric{bench.MBPerSecond, bench.RecordsPerSecond, bench.CPUPerGB, bench.CPUPerMRecords, bench.PeakRSS}
	steadyColumns  = []bench.Metric{bench.P50, bench.P99, bench.P999, bench.AckP50, bench.FirstP50, bench.FirstP99, bench.LastP50, bench.LastP99, bench.CPUShare, bench.PeakRSS}
)

// tables prints the measurements: medians with their range, and klink's figure divided by that of
// the others in the same round.
func (p *printer) tables(s *bench.Series) {
	m := s.Machine
	p.line("")
	p.line("%s, %d cores, %d GiB, %s; %s, Java %s, Apache Kafka %s, klink %s; load before %.1f", m.CPU, m.Cores, m.Memory, m.Kernel, m.Go, m.Java, m.Kafka, m.Klink, m.Load)
	p.line("%s", s.Command)
	for _, a := range s.Absent {
		p.line("absent: %s: %s", a.Subject, a.Why)
	}
	for _, w := range s.Workloads() {
		columns := catchUpColumns
		title := "catch-up: "
		name, steady := strings.CutSuffix(w, steadySuffix)
		def, _ := workloadNamed(name)
		if steady {
			columns = steadyColumns
			title = fmt.Sprintf("steady, %d records/s: ", def.rate)
		}
		t := table.NewWriter()
		t.SetStyle(table.StyleDefault)
		t.Style().Format.Header = text.FormatDefault
		header := table.Row{w, "runs"}
		for _, c := range columns {
			header = append(header, c)
		}
		header = append(header, "klink : it")
		t.AppendHeader(header)
		for _, subject := range s.Subjects(w) {
			row := table.Row{subject, len(s.Values(w, subject, columns[0]))}
			for _, c := range columns {
				row = append(row, spread(bench.SpreadOf(s.Values(w, subject, c))))
			}
			t.AppendRow(append(row, ratios(s, w, subject, steady)))
		}
		p.line("\n%s%s", title, def.why)
		p.line("%s", t.Render())
	}
}

func number(v float64) string {
	switch {
	case math.IsNaN(v):
		return "-"
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

func spread(s bench.Spread) string {
	if s.N < 2 {
		return number(s.Median)
	}
	return fmt.Sprintf("%s (%s-%s)", number(s.Median), number(s.Low), number(s.High))
}

// ratios returns klink's throughput and CPU divided by the subject's, or its lags divided by the
// subject's.
func ratios(s *bench.Series, w, subject string, steady bool) string {
	if subject == Klink {
		return ""
	}
	metrics := []bench.Metric{bench.MBPerSecond, bench.CPUPerGB}
	if steady {
		metrics = []bench.Metric{bench.P50, bench.P99}
	}
	var out []string
	for _, c := range metrics {
		if r := s.Ratios(w, Klink, subject, c); len(r) > 0 {
			out = append(out, fmt.Sprintf("%s x %s", number(bench.SpreadOf(r).Median), c))
		}
	}
	return strings.Join(out, ", ")
}
