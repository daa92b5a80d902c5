package proxy

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sys/unix"

	"klink/bench"
	"klink/bench/wire"
)

// idleSettle is how long idle connections are left alone before memory is measured.
const idleSettle = 3 * time.Second

// maxIdle returns how many of n idle connections this machine allows. A proxy needs two descriptors
// for each, and some for itself.
func maxIdle(n int) int {
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) != nil {
		return n
	}
	if limit.Cur < limit.Max {
		raised := unix.Rlimit{Cur: limit.Max, Max: limit.Max}
		if unix.Setrlimit(unix.RLIMIT_NOFILE, &raised) == nil {
			limit = raised
		}
	}
	if need := uint64(2*n + idleSpare); limit.Max < need { // root may raise the limit
		raised := unix.Rlimit{Cur: need, Max: need}
		if unix.Setrlimit(unix.RLIMIT_NOFILE, &raised) == nil {
			return n
		}
	}
	return min(n, (int(min(limit.Cur, 1<<30))-idleSpare)/2)
}

// idleSpare is the number of a proxy's descriptors that belong to no client.
const idleSpare = 400

// measureIdle restarts the subject, opens connections that make one request each, leaves them
// alone, and measures how far the subject's memory has grown.
func (b *benchmark) measureIdle(ctx context.Context, s *subject, w workload) (map[bench.Metric]float64, error) {
	n := maxIdle(w.connections)
	if n < w.connections {
		why := fmt.Sprintf("%d connections instead: RLIMIT_NOFILE does not allow more, and could not be raised", n)
		if a := (bench.Absent{Subject: w.String(), Why: why}); !containsAbsent(b.series.Absent, a) {
			b.series.Absent = append(b.series.Absent, a)
		}
	}
	s.stop()
	if err := s.start(ctx); err != nil {
		return nil, err
	}
	addr, err := s.leader(ctx)
	if err != nil {
		return nil, err
	}
	// The first connections cause allocations that happen only once.
	first, err := openIdle(ctx, s, addr, 20)
	closeConns(first)
	if err != nil {
		return nil, err
	}
	time.Sleep(500 * time.Millisecond) //nolint:forbidigo // what the first connections left behind is collected meanwhile
	before, err := s.usage()
	if err != nil {
		return nil, err
	}
	conns, err := openIdle(ctx, s, addr, n)
	defer closeConns(conns)
	if err != nil {
		return nil, err
	}
	opened, err := s.usage()
	if err != nil {
		return nil, err
	}
	settle := idleSettle
	if n < 100 {
		settle = time.Second // a trial, not a measurement
	}
	select {
	case <-time.After(settle):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	after, err := s.usage()
	if err != nil {
		return nil, err
	}
	// The connections must still be open.
	for _, c := range []*wire.Conn{conns[0], conns[n-1]} {
		if err := apiVersions(c); err != nil {
			return nil, fmt.Errorf("an idle connection: %w", err)
		}
	}
	v := map[bench.Metric]float64{
		bench.Connections: float64(n), bench.BytesPerConn: float64(after.RSS-before.RSS) / float64(n), bench.RSS: float64(after.RSS) / 1e6,
		bench.PeakRSS: float64(after.Peak) / 1e6, bench.CPUPerConn: (opened.CPU - before.CPU).Seconds() * 1e6 / float64(n),
		bench.CPUShare: (after.CPU - opened.CPU).Seconds() / settle.Seconds(),
	}
	closeConns(conns)
	conns = nil
	s.stop() // so that the next subject finds a broker without these connections
	return v, nil
}

func containsAbsent(absent []bench.Absent, a bench.Absent) bool {
	for _, b := range absent {
		if a == b {
			return true
		}
	}
	return false
}

// openIdle opens connections, a few at a time, each of which has asked for something.
func openIdle(ctx context.Context, s *subject, addr string, n int) ([]*wire.Conn, error) {
	conns := make([]*wire.Conn, n)
	errs := make([]error, 8)
	var wg sync.WaitGroup
	for worker := range errs {
		wg.Go(func() {
			for i := worker; i < n; i += len(errs) {
				c, err := wire.Dial(ctx, addr, s.client())
				if err == nil {
					conns[i] = c
					err = apiVersions(c)
				}
				if err != nil {
					errs[worker] = fmt.Errorf("connection %d: %w", i, err)
					return
				}
			}
		})
	}
	wg.Wait()
	return conns, errors.Join(errs...)
}

func apiVersions(c *wire.Conn) error {
	req := kmsg.NewPtrApiVersionsRequest()
	req.SetVersion(2)
	resp, err := c.Request(req)
	if err == nil && len(resp.(*kmsg.ApiVersionsResponse).ApiKeys) == 0 {
		err = errors.New("no API in the response")
	}
	return err
}

func closeConns(conns []*wire.Conn) {
	for _, c := range conns {
		if c != nil {
			c.Close()
		}
	}
}
