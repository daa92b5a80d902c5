package mirror

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"klink/bench"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	// steadyWarmUp is the time before the measurement begins, and steadyDrain is how long the last
	// record may take to arrive.
	steadyWarmUp = 1500 * time.Millisecond
	steadyDrain  = 30 * time.Second
	// sampleEvery is the interval of the samples over time.
	sampleEvery = 250 * time.Millisecond
)

// lags collects how old records are when a consumer at the destination gets them, counted from the
// time at which they were due.
type lags struct {
	from    time.Time // when counting begins
	until   time.Time
	all     *hdrhistogram.Histogram // microseconds
	samples []*hdrhistogram.Histogram
	seen    int64
}

// largestLag is longer than a run waits.
const largestLag = int64(2 * time.Minute / time.Microsecond)

func newLags(from time.Time, length time.Duration) *lags {
	l := &lags{from: from, until: from.Add(length), all: hdrhistogram.New(1, largestLag, 3)}
	for range (length + sampleEvery - 1) / sampleEvery {
		l.samples = append(l.samples, hdrhistogram.New(1, largestLag, 2))
	}
	return l
}

// add counts a record that was due at one time and seen at another.
func (l *lags) add(due, seen time.Time) {
	l.seen++
	if due.Before(l.from) || !due.Before(l.until) {
		return
	}
	lag := min(max(int64(seen.Sub(due)/time.Microsecond), 1), largestLag)
	_ = l.all.RecordValue(lag) // in range
	_ = l.samples[due.Sub(l.from)/sampleEvery].RecordValue(lag)
}

func ms(h *hdrhistogram.Histogram, percentile float64) float64 {
	return float64(h.ValueAtPercentile(percentile)) / 1000
}

func (l *lags) values(v map[bench.Metric]float64) {
	v[bench.P50], v[bench.P99], v[bench.P999] = ms(l.all, 50), ms(l.all, 99), ms(l.all, 99.9)
	v[bench.Max] = float64(l.all.Max()) / 1000
}

func (l *lags) overTime() map[bench.Metric][]float64 {
	out := map[bench.Metric][]float64{}
	for _, h := range l.samples {
		if h.TotalCount() == 0 {
			continue
		}
		out[bench.P50] = append(out[bench.P50], ms(h, 50))
		out[bench.P99] = append(out[bench.P99], ms(h, 99))
	}
	return out
}

// thirds adds the lags behind the source's acknowledgement in the first and the last third of the
// measured records. A subject that falls behind has more lag in the last third.
func thirds(v map[bench.Metric]float64, acked, seen []time.Time, from int) {
	n := (len(acked) - from) / 3
	if n == 0 {
		return
	}
	percentiles := func(from int, p50, p99 bench.Metric) {
		var lags []time.Duration
		for i := from; i < from+n; i++ {
			lags = append(lags, max(seen[i].Sub(acked[i]), time.Microsecond)) // seen may be before acked
		}
		slices.Sort(lags)
		v[p50], v[p99] = lags[n/2].Seconds()*1000, lags[n*99/100].Seconds()*1000
	}
	percentiles(from, bench.FirstP50, bench.FirstP99)
	percentiles(len(acked)-n, bench.LastP50, bench.LastP99)
}

// due returns the time in a value of a steady phase, and the record's number.
func due(w *workload, value []byte) (time.Time, int64, error) {
	if w.json {
		var at, seq int64
		if _, err := fmt.Sscanf(string(value[:min(len(value), 43)]), `{"stamp":"%016x%016x`, &at, &seq); err != nil {
			return time.Time{}, 0, err
		}
		return time.Unix(0, at), seq, nil
	}
	if len(value) < stampSize {
		return time.Time{}, 0, errors.New("a value without a stamp")
	}
	return time.Unix(0, int64(binary.BigEndian.Uint64(value))), int64(binary.BigEndian.Uint64(value[8:])), nil
}

// steady measures the lag of a subject that has caught up, and verifies the result.
func (b *run) steady(ctx context.Context, p *running, j *job, live func(string)) (v map[bench.Metric]float64, samples map[bench.Metric][]float64, err error) {
	in, err := kgo.NewClient(seeds(j.dst.addr), kgo.ConsumeTopics(j.steady), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchMinBytes(1), kgo.MetadataMinAge(50*time.Millisecond), kgo.FetchMaxWait(500*time.Millisecond), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	if err != nil {
		return nil, nil, err
	}
	defer in.Close()
	counts := b.steadyOf(j.w)
	length := steadyWarmUp + counts
	out, err := newLoad(ctx, j.src.addr, j.w, j.steady, length)
	if err != nil {
		return nil, nil, err
	}
	defer out.close()
	began := time.Now()
	l := newLags(began.Add(steadyWarmUp), counts)
	seen := make([]time.Time, len(out.acked))
	out.from = l.from
	before, err := p.Usage()
	if err != nil {
		return nil, nil, err
	}
	wctx, cancel := context.WithCancel(ctx)
	defer cancel()
	written := make(chan error, 1)
	go func() { written <- out.run(wctx) }()
	var sent int64 = -1 // -1 until all records are sent
	var after bench.Usage
	var busy time.Duration
	deadline := began.Add(length + steadyDrain)
	for sent < 0 || l.seen < sent {
		pctx, stop := context.WithTimeout(ctx, 100*time.Millisecond)
		fetches := in.PollFetches(pctx)
		stop()
		now := time.Now()
		if err := ctx.Err(); err != nil {
			return nil, nil, err
		}
		var bad error
		fetches.EachRecord(func(r *kgo.Record) {
			at, seq, err := due(j.w, r.Value)
			if err == nil && (seq < 0 || seq >= int64(len(seen))) {
				err = fmt.Errorf("a record with the number %d of %d", seq, len(seen))
			}
			if err != nil {
				bad = err
				return
			}
			seen[seq] = now
			l.add(at, now)
		})
		if bad != nil {
			return nil, nil, bad
		}
		select {
		case err := <-written:
			if err != nil {
				return nil, nil, err
			}
			sent = out.sent
			if after, err = p.Usage(); err != nil {
				return nil, nil, err
			}
			busy = time.Since(began)
		default:
		}
		if now.After(deadline) {
			return nil, nil, fmt.Errorf("%d of %d records had arrived %v after the last was written\n%s", l.seen, sent, steadyDrain, p.LogTail(20))
		}
		live(fmt.Sprintf("%.0f of %.0f s at %d records/s, p99 %.1f ms", time.Since(began).Seconds(), length.Seconds(), j.w.rate, ms(l.all, 99)))
	}
	v = map[bench.Metric]float64{
		bench.CPUShare: (after.CPU - before.CPU).Seconds() / busy.Seconds(),
		bench.AckP50:   ms(out.acks, 50), bench.AckP99: ms(out.acks, 99),
		bench.RecordsPerSecond: float64(sent) / busy.Seconds(),
		bench.PeakRSS:          float64(after.Peak) / 1e6,
	}
	l.values(v)
	thirds(v, out.acked, seen, int(steadyWarmUp.Seconds()*float64(j.w.rate)))
	want, err := scan(ctx, j.src.addr, j.steady)
	if err != nil {
		return v, nil, err
	}
	got, err := scan(ctx, j.dst.addr, j.steady)
	if err != nil {
		return v, nil, err
	}
	if want.records != sent {
		return v, nil, fmt.Errorf("the source has %d records of %d that were written", want.records, sent)
	}
	return v, l.overTime(), compare(want, got)
}
