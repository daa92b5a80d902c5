package load

import (
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Latencies are kept in microseconds, with three significant digits.
const (
	lowest  = 1
	highest = int64(time.Hour / time.Microsecond)
	digits  = 3
)

func newHistogram() *hdrhistogram.Histogram { return hdrhistogram.New(lowest, highest, digits) }

// recorder takes latencies from one goroutine and passes them to another.
type recorder struct {
	mu         sync.Mutex
	now, spare *hdrhistogram.Histogram
}

func newRecorder() *recorder { return &recorder{now: newHistogram(), spare: newHistogram()} }

// record records a latency. Below a microsecond it counts as one microsecond, above an hour as one
// hour.
func (r *recorder) record(d time.Duration) {
	us := min(max(d.Microseconds(), lowest), highest)
	r.mu.Lock()
	_ = r.now.RecordValue(us) // within the limits
	r.mu.Unlock()
}

// take moves the latencies recorded since its last call into the given histograms. Only one
// goroutine may call it.
func (r *recorder) take(to ...*hdrhistogram.Histogram) {
	r.mu.Lock()
	r.now, r.spare = r.spare, r.now
	r.mu.Unlock()
	for _, h := range to {
		h.Merge(r.spare)
	}
	r.spare.Reset()
}

// Latency is a distribution, in milliseconds. All figures are 0 if there were no samples.
type Latency struct {
	Count int64   `json:"count"`
	Mean  float64 `json:"mean_ms"`
	P50   float64 `json:"p50_ms"`
	P95   float64 `json:"p95_ms"`
	P99   float64 `json:"p99_ms"`
	P999  float64 `json:"p99_9_ms"`
	Max   float64 `json:"max_ms"`
}

func latencyOf(h *hdrhistogram.Histogram) Latency {
	if h.TotalCount() == 0 {
		return Latency{}
	}
	ms := func(us float64) float64 { return math.Round(us) / 1000 }
	at := func(q float64) float64 { return ms(float64(h.ValueAtQuantile(q))) }
	return Latency{h.TotalCount(), ms(h.Mean()), at(50), at(95), at(99), at(99.9), ms(float64(h.Max()))}
}

// counters count records and bytes (of values) since the start.
type counters struct {
	sent, sentBytes, acked, failed, read, readBytes atomic.Int64
}

// Second holds the figures of one second, or of a shorter rest at the end.
type Second struct {
	At        float64 `json:"at_s"`     // the end of the second, since the start
	Length    float64 `json:"length_s"` // 1, or less
	Phase     string  `json:"phase"`    // warm-up, run or drain
	Sent      int64   `json:"sent"`     // records given to the client
	SentBytes int64   `json:"sent_bytes"`
	Acked     int64   `json:"acked"`
	Failed    int64   `json:"failed"`
	Read      int64   `json:"read"`
	ReadBytes int64   `json:"read_bytes"`
	Lag       int64   `json:"lag"` // records acknowledged and not read, at its end; 0 without consumers
	Ack       Latency `json:"ack"`
	EndToEnd  Latency `json:"end_to_end"`
}

// The phases of a run.
const (
	PhaseWarmup = "warm-up"
	PhaseRun    = "run"
	PhaseDrain  = "drain"
)

// meter turns the counts of producers and consumers into seconds, and adds up those of the phase
// "run".
type meter struct {
	counters
	acks, reads []*recorder // one of each producer and consumer

	last  time.Duration
	seen  Second // the counters at that time
	ack   *hdrhistogram.Histogram
	end   *hdrhistogram.Histogram
	total Second // of the run, without latencies
	// ackAll and endAll are the latencies of the run. Records sent in the run and read after it
	// count too.
	ackAll, endAll *hdrhistogram.Histogram
}

func newMeter(producers, consumers int) *meter {
	m := &meter{ack: newHistogram(), end: newHistogram(), ackAll: newHistogram(), endAll: newHistogram()}
	for range producers {
		m.acks = append(m.acks, newRecorder())
	}
	for range consumers {
		m.reads = append(m.reads, newRecorder())
	}
	return m
}

// second ends a second. Only one goroutine may call it.
func (m *meter) second(at time.Duration, phase string) Second {
	now := Second{
		Sent: m.sent.Load(), SentBytes: m.sentBytes.Load(), Failed: m.failed.Load(),
		Read: m.read.Load(), ReadBytes: m.readBytes.Load(), Acked: m.acked.Load(),
	}
	s := Second{
		At: at.Seconds(), Length: (at - m.last).Seconds(), Phase: phase,
		Sent: now.Sent - m.seen.Sent, SentBytes: now.SentBytes - m.seen.SentBytes, Acked: now.Acked - m.seen.Acked, Failed: now.Failed - m.seen.Failed,
		Read: now.Read - m.seen.Read, ReadBytes: now.ReadBytes - m.seen.ReadBytes,
	}
	if len(m.reads) > 0 {
		s.Lag = max(0, now.Acked-now.Read)
	}
	m.last, m.seen = at, now
	m.ack.Reset()
	m.end.Reset()
	into := func(one, all *hdrhistogram.Histogram) []*hdrhistogram.Histogram {
		if phase == PhaseWarmup {
			return []*hdrhistogram.Histogram{one}
		}
		return []*hdrhistogram.Histogram{one, all}
	}
	for _, r := range m.acks {
		r.take(into(m.ack, m.ackAll)...)
	}
	for _, r := range m.reads {
		r.take(into(m.end, m.endAll)...)
	}
	s.Ack, s.EndToEnd = latencyOf(m.ack), latencyOf(m.end)
	if phase == PhaseRun {
		t := &m.total
		t.Length += s.Length
		t.Sent += s.Sent
		t.SentBytes += s.SentBytes
		t.Acked += s.Acked
		t.Read += s.Read
		t.ReadBytes += s.ReadBytes
		t.Lag = max(t.Lag, s.Lag)
	}
	return s
}

// percentiles are the points at which a whole distribution is shown.
var percentiles = []float64{0, 10, 25, 50, 75, 90, 95, 99, 99.5, 99.9, 99.95, 99.99, 99.999, 100}

// Percentile is a point of a distribution.
type Percentile struct {
	Percentile float64 `json:"percentile"`
	Ms         float64 `json:"ms"`
}

func distribution(h *hdrhistogram.Histogram) (points []Percentile) {
	if h.TotalCount() == 0 {
		return []Percentile{}
	}
	values := h.ValueAtPercentiles(slices.Clone(percentiles))
	for _, p := range percentiles {
		points = append(points, Percentile{p, float64(values[p]) / 1000})
	}
	return points
}
