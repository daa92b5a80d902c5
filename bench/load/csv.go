package load

import (
	"encoding/csv"
	"io"
	"strconv"
)

// CSV writes seconds as they come, one per line.
type CSV struct{ w *csv.Writer }

// NewCSV returns a CSV and writes its header. [CSV.Err] returns errors.
func NewCSV(to io.Writer) *CSV {
	c := &CSV{csv.NewWriter(to)}
	c.line([]string{
		"at_s", "length_s", "phase", "sent_records_per_s", "sent_mb_per_s", "acked_records_per_s", "failed_records", "read_records_per_s", "read_mb_per_s",
		"lag_records", "ack_p50_ms", "ack_p99_ms", "ack_max_ms", "end_to_end_p50_ms", "end_to_end_p99_ms", "end_to_end_max_ms",
	})
	return c
}

// Second writes the line of a second.
func (c *CSV) Second(s Second) {
	rate := func(n int64, unit float64) string {
		return strconv.FormatFloat(float64(n)/max(s.Length, 1e-9)/unit, 'f', 3, 64)
	}
	n := func(n int64) string { return strconv.FormatInt(n, 10) }
	f := func(f float64) string { return strconv.FormatFloat(f, 'f', 3, 64) }
	c.line([]string{
		f(s.At), f(s.Length), s.Phase, rate(s.Sent, 1), rate(s.SentBytes, 1e6), rate(s.Acked, 1), n(s.Failed), rate(s.Read, 1), rate(s.ReadBytes, 1e6),
		n(s.Lag), f(s.Ack.P50), f(s.Ack.P99), f(s.Ack.Max), f(s.EndToEnd.P50), f(s.EndToEnd.P99), f(s.EndToEnd.Max),
	})
}

// line writes a line and flushes it, so that a run that is cut off leaves its measurements.
func (c *CSV) line(fields []string) {
	_ = c.w.Write(fields) // see Err
	c.w.Flush()
}

// Err returns the first error of writing.
func (c *CSV) Err() error { return c.w.Error() }
