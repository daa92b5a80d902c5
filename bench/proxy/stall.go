package proxy

import (
	"context"
	"crypto/tls"
	"fmt"
	"sync"
	"time"

	"klink/bench"
	"klink/bench/wire"
)

// The stalling reader asks for the whole topic, several times, and reads none of the answers.
const (
	stallRequests = 8
	stallReaders  = 16 // the other readers, which must still be served
	stallLength   = 1500 * time.Millisecond
)

// measureStall runs readers, and then the same readers beside one that does not read its answers.
// It measures how far memory grows, and how much throughput the other readers keep.
func (b *benchmark) measureStall(ctx context.Context, s *subject) (map[bench.Metric]float64, error) {
	w := workload{kind: "fetch", size: 64 << 10, connections: stallReaders, tls: s.tls}
	askers, err := b.askers(ctx, s, w)
	defer closeAll(askers)
	if err != nil {
		return nil, err
	}
	undisturbed, err := closedLoop(ctx, askers, b.length)
	if err != nil {
		return nil, err
	}
	before, err := s.usage()
	if err != nil {
		return nil, err
	}
	addr, err := s.leader(ctx)
	if err != nil {
		return nil, err
	}
	stalled, err := stall(ctx, addr, s.client(), fetchTopic(w.size))
	if err != nil {
		return nil, err
	}
	defer stalled.Close()
	watch := watchRSS(s, before.RSS)
	d, err := closedLoop(ctx, askers, stallLength)
	peak, after := watch()
	if err != nil {
		return nil, fmt.Errorf("beside a stalled reader: %w", err)
	}
	v := d.values(s, before, after)
	v[bench.OfUndisturbed] = float64(d.bytes) / d.elapsed.Seconds() / (float64(undisturbed.bytes) / undisturbed.elapsed.Seconds())
	if s.name != Direct {
		v[bench.GrowthMB] = float64(peak-before.RSS) / 1e6
	}
	return v, nil
}

// stall asks for all partitions of a topic at once, more than once.
func stall(ctx context.Context, addr string, config *tls.Config, topic string) (*wire.Conn, error) {
	c, err := wire.Dial(ctx, addr, config)
	if err != nil {
		return nil, err
	}
	partitions := make([]int32, fetchPartitions)
	for p := range partitions {
		partitions[p] = int32(p)
	}
	frame := wire.FetchFrame(topic, partitions, 0, fetchFill)
	for range stallRequests {
		if err := c.SendFrame(frame); err != nil {
			c.Close()
			return nil, err
		}
	}
	return c, nil
}

// watchRSS samples the resident memory of a subject until the returned function is called. That
// function returns the highest sample and the last one.
func watchRSS(s *subject, peak int64) func() (peak int64, last bench.Usage) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	var last bench.Usage
	sample := func() {
		if u, err := s.usage(); err == nil {
			last, peak = u, max(peak, u.RSS)
		}
	}
	wg.Go(func() {
		t := time.NewTicker(20 * time.Millisecond)
		defer t.Stop()
		for {
			select {
			case <-done:
				sample()
				return
			case <-t.C:
				sample()
			}
		}
	})
	return func() (int64, bench.Usage) {
		close(done)
		wg.Wait()
		return peak, last
	}
}
