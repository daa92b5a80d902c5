package bench

import (
	"context"
	"crypto/tls"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// The stalling reader asks for the whole topic, several times, and reads none of the answers.
const (
	stallRequests = 8
	stallReaders  = 16 // the other readers, which must still be served
	stallLength   = 1500 * time.Millisecond
)

// measureStall runs readers, and then the same readers beside one that does not read its answers.
// It measures how far memory grows, and how much throughput the other readers keep.
func (b *proxyBench) measureStall(ctx context.Context, s *subject) (map[Metric]float64, error) {
	w := proxyWorkload{kind: "fetch", size: 64 << 10, connections: stallReaders, tls: s.tls}
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
	defer stalled.close()
	watch := watchRSS(s, before.RSS)
	d, err := closedLoop(ctx, askers, stallLength)
	peak, after := watch()
	if err != nil {
		return nil, fmt.Errorf("beside a stalled reader: %w", err)
	}
	v := d.values(s, before, after)
	v[OfUndisturbed] = float64(d.bytes) / d.elapsed.Seconds() / (float64(undisturbed.bytes) / undisturbed.elapsed.Seconds())
	if s.name != Direct {
		v[GrowthMB] = float64(peak-before.RSS) / 1e6
	}
	return v, nil
}

// stall asks for all partitions of a topic at once, more than once.
func stall(ctx context.Context, addr string, config *tls.Config, topic string) (*wire, error) {
	c, err := dialWire(ctx, addr, config)
	if err != nil {
		return nil, err
	}
	req := kmsg.NewPtrFetchRequest()
	req.SetVersion(fetchVersion)
	req.ReplicaID, req.MaxWaitMillis, req.MinBytes, req.MaxBytes, req.SessionEpoch = -1, 500, 1, 1<<30, -1
	t := kmsg.NewFetchRequestTopic()
	t.Topic = topic
	for i := range int32(fetchPartitions) {
		p := kmsg.NewFetchRequestTopicPartition()
		p.Partition, p.PartitionMaxBytes = i, fetchFill
		t.Partitions = append(t.Partitions, p)
	}
	req.Topics = append(req.Topics, t)
	frame := requestFrame(req)
	for range stallRequests {
		if err := c.send(frame); err != nil {
			c.close()
			return nil, err
		}
	}
	return c, nil
}

// watchRSS samples the resident memory of a subject until the returned function is called. That
// function returns the highest sample and the last one.
func watchRSS(s *subject, peak int64) func() (peak int64, last Usage) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	var last Usage
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
	return func() (int64, Usage) {
		close(done)
		wg.Wait()
		return peak, last
	}
}
