package proxy

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sys/unix"
)

// asker makes one request after the other on a connection of its own.
type asker interface {
	// Once makes a request, checks the answer, and returns how many bytes of record batches it has
	// moved.
	Once() (int64, error)
	Close()
}

// driven adds up the requests of a load, and their latencies.
type driven struct {
	requests, bytes int64
	elapsed         time.Duration
	latency         *hdrhistogram.Histogram // in units of latencyUnit
}

// latencyUnit is the resolution of latencies. The histogram keeps three significant digits of them,
// up to a minute.
const latencyUnit = 100 * time.Nanosecond

func newLatency() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, int64(time.Minute/latencyUnit), 3)
}

func record(h *hdrhistogram.Histogram, d time.Duration) {
	_ = h.RecordValue(min(max(int64(d/latencyUnit), 1), h.HighestTrackableValue()))
}

// quantile returns a latency in milliseconds; q is in percent.
func (d *driven) quantile(q float64) float64 {
	return float64(d.latency.ValueAtQuantile(q)) * float64(latencyUnit) / float64(time.Millisecond)
}

// closedLoop lets all askers ask as fast as they get answers, for a while. A latency here is that
// of one request as its connection saw it. It leaves out the requests that would have been made
// while an answer was late, see [fixedRate].
func closedLoop(ctx context.Context, askers []asker, length time.Duration) (*driven, error) {
	began := time.Now()
	end := began.Add(length)
	return drive(ctx, askers, func(_ int, a asker, d *driven, stop *atomic.Bool) error {
		for now := time.Now(); now.Before(end) && !stop.Load(); {
			n, err := a.Once()
			if err != nil {
				return err
			}
			done := time.Now()
			record(d.latency, done.Sub(now))
			d.requests, d.bytes, now = d.requests+1, d.bytes+n, done
		}
		return nil
	})
}

// fixedRate spreads rate requests per second over the askers. Each request has a time that is set
// beforehand, and its latency counts from that time. So a stall shows in every request that it
// delayed, not only in one (no coordinated omission). When twice the length has passed, fixedRate
// stops, and counts each request that is still due with its delay so far.
func fixedRate(ctx context.Context, askers []asker, rate float64, length time.Duration) (*driven, error) {
	if rate <= 0 || len(askers) == 0 {
		return nil, errors.New("the rate must be above 0, and at least one client must send requests")
	}
	began := time.Now().Add(5 * time.Millisecond)
	every := time.Duration(float64(time.Second) / rate)
	return drive(ctx, askers, func(i int, a asker, d *driven, stop *atomic.Bool) error {
		sleeper := newSleeper()
		defer sleeper.close()
		for k := int64(i); ; k += int64(len(askers)) {
			due := time.Duration(k) * every
			if due >= length {
				return nil
			}
			intended := began.Add(due)
			if time.Since(began) > 2*length || stop.Load() {
				record(d.latency, time.Since(intended))
				continue
			}
			sleeper.until(intended)
			n, err := a.Once()
			if err != nil {
				return err
			}
			record(d.latency, time.Since(intended))
			d.requests, d.bytes = d.requests+1, d.bytes+n
		}
	})
}

// drive runs one goroutine per asker and adds up their results. If one fails, it stops the others.
func drive(ctx context.Context, askers []asker, loop func(i int, a asker, d *driven, stop *atomic.Bool) error) (*driven, error) {
	var stop atomic.Bool
	unwatch := context.AfterFunc(ctx, func() { stop.Store(true) })
	defer unwatch()
	each := make([]driven, len(askers))
	errs := make([]error, len(askers))
	began := time.Now()
	var wg sync.WaitGroup
	for i, a := range askers {
		each[i].latency = newLatency()
		wg.Go(func() {
			if errs[i] = loop(i, a, &each[i], &stop); errs[i] != nil {
				stop.Store(true)
			}
		})
	}
	wg.Wait()
	all := &driven{latency: newLatency(), elapsed: time.Since(began)}
	for i := range each {
		all.requests += each[i].requests
		all.bytes += each[i].bytes
		all.latency.Merge(each[i].latency)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

// sleeper waits with the precision of the kernel's timers. The Go runtime's timers may be late by a
// millisecond, which would add to the measurement. sleeper keeps its goroutine on one thread.
type sleeper struct{}

func newSleeper() sleeper {
	runtime.LockOSThread()
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0) // nanoseconds; 50 us otherwise
	return sleeper{}
}

func (sleeper) close() {
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 0, 0, 0, 0) // back to the default
	runtime.UnlockOSThread()
}

// until returns at once if t has passed.
func (sleeper) until(t time.Time) {
	for {
		d := time.Until(t)
		if d <= 0 {
			return
		}
		ts := unix.NsecToTimespec(int64(d))
		_ = unix.Nanosleep(&ts, nil) // the loop repeats it if it was interrupted
	}
}
