package main

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"klink/bench/load"
)

// loadJSON is what `bench load -o json` prints.
type loadJSON struct {
	loadSetup
	Rate        float64 `json:"rate"` // records a second, 0 = as fast as possible
	RecordSize  int     `json:"record_size"`
	Payload     string  `json:"payload"`
	Compression string  `json:"compression"`
	Acks        string  `json:"acks"`
	Producers   int     `json:"producers"`
	Consumers   int     `json:"consumers"`
	*load.Result
}

// text announces the load before it begins.
func (s loadSetup) text(l *loadFlags) string {
	rate := "as fast as possible"
	if l.Rate > 0 {
		rate = fmt.Sprintf("%s records/s (%.1f MB/s)", thousands(int64(math.Round(l.Rate))), l.Rate*float64(l.RecordSize)/1e6)
	}
	t := fmt.Sprintf("Writing to topic %q (%s) at %s, %s for %v", s.Topic, plural(s.Partitions, "partition"), s.WriteTo, rate, l.Warmup+l.Duration)
	switch {
	case s.Mirror:
		t += ", reading from " + s.ReadFrom
	case l.Consumers == 0:
		t += ", reading nothing"
	}
	return t + "."
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// wideEnough is the terminal width from which on the line of a second includes its explanatory
// words.
const wideEnough = 140

// secondText returns the line for one second. A narrow terminal gets it without the explanatory
// words.
func secondText(s load.Second, reads, narrow bool) string {
	per := func(n int64) float64 { return float64(n) / max(s.Length, 1e-9) }
	latency := func(l load.Latency) string {
		if narrow {
			return fmt.Sprintf("%s/%s ms", msText(l.P50), msText(l.P99))
		}
		return fmt.Sprintf("p50 %s p99 %s ms", msText(l.P50), msText(l.P99))
	}
	t := time.Duration(s.At * float64(time.Second)).Round(time.Second).String()
	if s.Phase != load.PhaseRun {
		t += " " + s.Phase
	}
	t += fmt.Sprintf(" sent %s, ack %s", rateText(per(s.Sent), per(s.SentBytes)/1e6), latency(s.Ack))
	switch {
	case reads && narrow:
		t += fmt.Sprintf(", read %s/s %s, lag %s", thousands(int64(per(s.Read)+.5)), latency(s.EndToEnd), thousands(s.Lag))
	case reads:
		t += fmt.Sprintf(", read %s %s, lag %s", rateText(per(s.Read), per(s.ReadBytes)/1e6), latency(s.EndToEnd), thousands(s.Lag))
	}
	if s.Failed > 0 {
		t += fmt.Sprintf(", FAILED %s", thousands(s.Failed))
	}
	return t
}

// showLoad prints the summary. It returns an error if the records read are not the records written.
func (a *app) showLoad(s loadSetup, l *loadFlags, r *load.Result) error {
	if a.output == "json" {
		if err := a.json(loadJSON{s, l.Rate, l.RecordSize, l.Payload, l.compression, l.acks, l.Producers, l.Consumers, r}); err != nil {
			return err
		}
		return loadFailure(l, r)
	}
	a.table([]string{"", "Records", "Records/s", "MB/s", "Latency (ms): Mean", "p50", "p95", "p99", "p99.9", "Max"}, loadRows(s, l, r))
	fmt.Fprintln(a.out)
	fmt.Fprintln(a.out, strings.Join(loadNotes(s, l, r), "\n"))
	return loadFailure(l, r)
}

func loadRows(s loadSetup, l *loadFlags, r *load.Result) [][]any {
	whole := func(f float64) string { return thousands(int64(math.Round(f))) }
	row := func(name string, n int64, rate, mb float64, lat load.Latency) []any {
		cells := []any{name, thousands(n), whole(rate), fmt.Sprintf("%.2f", mb)}
		for _, ms := range []float64{lat.Mean, lat.P50, lat.P95, lat.P99, lat.P999, lat.Max} {
			cells = append(cells, msText(ms))
		}
		return cells
	}
	rows := [][]any{
		{"Sent", thousands(r.Sent), whole(r.SentPerSecond), fmt.Sprintf("%.2f", r.SentMB), "", "", "", "", "", ""},
		row("Acknowledged", r.Acked, r.AckedPerSecond, r.AckedPerSecond*float64(l.RecordSize)/1e6, r.Ack),
	}
	if l.Consumers > 0 {
		name := "Read"
		if s.Mirror {
			name = "Read from " + s.ReadFrom
		}
		rows = append(rows, row(name, r.Read, r.ReadPerSecond, r.ReadMB, r.EndToEnd))
	}
	return rows
}

// loadNotes returns the sentences below the table.
func loadNotes(s loadSetup, l *loadFlags, r *load.Result) (notes []string) {
	add := func(format string, args ...any) { notes = append(notes, fmt.Sprintf(format, args...)) }
	if r.Interrupted {
		add("Interrupted after %.1f s.", r.Seconds)
	}
	if 1000*r.Unsent > r.Sent { // fewer are just those of the last moment
		add("The rate was not reached: %s records of %s were not sent in time. The latencies do not include them.", thousands(r.Unsent), thousands(r.Sent+r.Unsent))
	}
	if l.Consumers > 0 {
		add("Greatest lag: %s records.", thousands(r.MaxLag))
	}
	v := r.Verification
	if v.Foreign > 0 {
		add("%s records of other producers were read and ignored.", thousands(v.Foreign))
	}
	switch {
	case l.Consumers == 0:
		add("Nothing was read, so nothing was verified.")
	case r.Verified && r.Read == 0:
		add("Verified: there were no records.")
	case r.Verified:
		add("Verified: all %s acknowledged records were read once, unchanged, in order and at their offsets.", thousands(r.Acked))
	default:
		var counts []string
		for _, d := range load.Damages() {
			if n := v.Damage[d]; n > 0 {
				counts = append(counts, fmt.Sprintf("%s %s", d, thousands(n)))
			}
		}
		add("What was read differs from what was written: %s. The first of each:", strings.Join(counts, ", "))
		for _, f := range v.First {
			at := ""
			if f.Offset >= 0 {
				at = fmt.Sprintf(" offset %d", f.Offset)
			}
			add("  %s: partition %d%s: %s", f.Damage, f.Partition, at, f.Text)
		}
	}
	if r.ErrorCount > 0 {
		add("%s errors; the first:", thousands(r.ErrorCount))
		for _, e := range r.Errors {
			add("  %s", e)
		}
	}
	if s.Created {
		add("Topic %q was created for this run and was not deleted; to delete it: `klink topic delete %s`.", s.Topic, s.Topic)
	}
	return notes
}

func loadFailure(l *loadFlags, r *load.Result) error {
	var failures []error
	if l.Consumers > 0 && !r.Verified {
		failures = append(failures, errors.New("what was read differs from what was written"))
	}
	if r.Failed > 0 {
		failures = append(failures, fmt.Errorf("%s records were not acknowledged", thousands(r.Failed)))
	}
	return errors.Join(failures...)
}
