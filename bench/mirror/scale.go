package mirror

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"klink/bench"
	"klink/internal/kafkatest"
	"klink/protocol/linkapi"

	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	// scalePartitions is the number of partitions of each topic.
	scalePartitions  = 200
	scaleTopics      = 50
	scaleTopicsQuick = 10
	// idleAfter is how long after the mirrors are up to date klink counts as idle, and idleFor is
	// how long it is then watched.
	idleAfter = 5 * time.Second
	idleFor   = 20 * time.Second
	// scaleTimeout is for brokers that open ten thousand logs.
	scaleTimeout = 5 * time.Minute
)

// Scale measures what many mirror partitions cost one klink. It measures how long klink takes to
// make them, and to be up to date after a start, and the memory, CPU and fetch sessions that it
// needs while nothing is written.
func Scale(ctx context.Context, o *Options) (*bench.Series, error) {
	b := newRun(o)
	o.Rounds = max(1, o.Rounds)
	topics := scaleTopics
	if o.Quick {
		topics = scaleTopicsQuick
	}
	if o.Scale > 0 {
		topics = max(1, int(float64(topics)*o.Scale))
	}
	for i := range topics {
		b.workloads = append(b.workloads, workload{name: fmt.Sprintf("scale-%02d", i), partitions: scalePartitions, recordSize: 100, perBatch: 1})
	}
	end, err := b.open("scale")
	if err != nil {
		return nil, err
	}
	defer end()
	if err := b.clusters(oneBroker); err != nil {
		return nil, err
	}
	defer b.stop()
	s := scale{run: b, ends: map[string][]int64{}, name: fmt.Sprintf("%d partitions", topics*scalePartitions)}
	err = s.measure(ctx)
	if len(b.series.Runs) == 0 {
		return nil, err
	}
	return &b.series, errors.Join(err, b.save(), b.problems())
}

// scale is a run of that benchmark. Each call of write adds one record to each partition.
type scale struct {
	*run
	name string
	ends map[string][]int64 // the source's ends, by topic
}

func (s *scale) measure(ctx context.Context) error {
	s.p.line("making %s at the source", s.name)
	var topics []string
	for i := range s.workloads {
		w := &s.workloads[i]
		if err := s.src.createTopic(ctx, w.topic(), w.partitions, w.configs()); err != nil {
			return err
		}
		topics = append(topics, w.topic())
	}
	if err := s.write(ctx); err != nil {
		return err
	}
	r, addr, err := s.l.serve("make", s.dst.addr)
	if err != nil {
		return err
	}
	made, err := s.makeMirrors(ctx, r, addr, topics)
	r.end()
	if err != nil {
		return err
	}
	for round := 1; round <= s.o.Rounds; round++ {
		v, err := s.round(ctx, round)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if round == 1 {
			v[bench.MakeSeconds] = made.Seconds()
		}
		s.series.Runs = append(s.series.Runs, bench.Run{Workload: s.name, Subject: Klink, Round: round, Values: v, Problem: problem(err)})
		s.p.line("%d/%d %s: %.1f s to make, up to date %.1f s after a start, at rest %.1f MB RSS (peak %.1f), %.3f CPU s/s, %.0f fetch sessions", round, s.o.Rounds, s.name,
			made.Seconds(), v[bench.StartSeconds], v[bench.RSS], v[bench.PeakRSS], v[bench.CPUShare], v[bench.FetchSessions])
	}
	return nil
}

// write writes one record to every partition at the source.
func (s *scale) write(ctx context.Context) error {
	for i := range s.workloads {
		w := &s.workloads[i]
		if err := fillBatches(ctx, s.src.addr, w, 0); err != nil { // one record per partition
			return err
		}
		if s.ends[w.topic()] == nil {
			s.ends[w.topic()] = make([]int64, w.partitions)
		}
		for p := range s.ends[w.topic()] {
			s.ends[w.topic()][p]++
		}
	}
	return nil
}

// makeMirrors makes all mirrors in one request, and waits until they have all records.
func (s *scale) makeMirrors(ctx context.Context, r *running, addr string, topics []string) (time.Duration, error) {
	cl, err := kgo.NewClient(seeds(addr), kgo.MaxVersions(nil), kgo.RequestTimeoutOverhead(scaleTimeout))
	if err != nil {
		return 0, err
	}
	defer cl.Close()
	if err := link(ctx, cl, s.src.addr); err != nil {
		return 0, err
	}
	req := &linkapi.CreateMirrorsRequest{TimeoutMs: int32(scaleTimeout.Milliseconds())}
	for _, topic := range topics {
		req.Mirrors = append(req.Mirrors, linkapi.CreateMirror{Topic: topic, Link: linkName, NumPartitions: -1, ReplicationFactor: -1})
	}
	began := time.Now()
	err = request(ctx, cl, req, func(resp *linkapi.CreateMirrorsResponse) error {
		for _, r := range resp.Results {
			if r.ErrorCode != 0 {
				return fmt.Errorf("%s: %w", r.Name, failure(r.ErrorCode, r.ErrorMessage))
			}
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("create the mirrors: %w", err)
	}
	if err := s.awaitEnds(ctx, r); err != nil {
		return 0, err
	}
	return time.Since(began), nil
}

// awaitEnds waits until the mirrors have everything that the source has. It polls one topic after
// the other, each only until it is complete, so that polling does not keep the brokers busy.
func (s *scale) awaitEnds(ctx context.Context, r *running) error {
	deadline := time.Now().Add(scaleTimeout)
	for topic, targets := range s.ends {
		if err := s.awaitTopic(ctx, r, topic, targets, deadline); err != nil {
			return err
		}
	}
	return nil
}

func (s *scale) awaitTopic(ctx context.Context, r *running, topic string, targets []int64, deadline time.Time) error {
	e, err := newEnds(ctx, s.dst.addr, topic, targets)
	if err != nil {
		return err
	}
	defer e.close()
	for {
		done, err := e.done()
		switch {
		case err != nil || done >= 1:
			return err
		case time.Now().After(deadline):
			return fmt.Errorf("%s has %.0f %% after %v\n%s", topic, 100*done, scaleTimeout, r.LogTail(20))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-r.Done():
			return fmt.Errorf("klink has ended\n%s", r.LogTail(20))
		case <-time.After(e.every()):
		}
	}
}

// round starts klink after each partition at the source got one more record, and watches it until
// it is idle.
func (s *scale) round(ctx context.Context, round int) (v map[bench.Metric]float64, err error) {
	v = map[bench.Metric]float64{}
	if err := s.write(ctx); err != nil {
		return v, err
	}
	port, release, err := kafkatest.ReservePorts(1)
	if err != nil {
		return v, err
	}
	defer release()
	telemetry := "127.0.0.1:" + strconv.Itoa(port)
	began := time.Now()
	r, _, err := s.l.serve(fmt.Sprintf("start-%d", round), s.dst.addr, "--http", telemetry)
	if err != nil {
		return v, err
	}
	defer r.end()
	if err := s.awaitEnds(ctx, r); err != nil {
		return v, err
	}
	v[bench.StartSeconds] = time.Since(began).Seconds()
	if err := s.verify(ctx); err != nil {
		return v, err
	}
	select {
	case <-time.After(idleAfter):
	case <-ctx.Done():
		return v, ctx.Err()
	}
	before, err := r.Usage()
	if err != nil {
		return v, err
	}
	watched := time.Now()
	select {
	case <-time.After(idleFor):
	case <-ctx.Done():
		return v, ctx.Err()
	}
	after, err := r.Usage()
	if err != nil {
		return v, err
	}
	v[bench.CPUShare] = (after.CPU - before.CPU).Seconds() / time.Since(watched).Seconds()
	v[bench.RSS], v[bench.PeakRSS] = float64(after.RSS)/1e6, float64(after.Peak)/1e6
	v[bench.FetchSessions], err = gauge(ctx, telemetry, "klink_replicator_fetch_sessions")
	return v, err
}

// verify compares the records of the mirrors with the source's.
func (s *scale) verify(ctx context.Context) error {
	for i := range s.workloads {
		topic := s.workloads[i].topic()
		want, err := scan(ctx, s.src.addr, topic)
		if err != nil {
			return err
		}
		got, err := scan(ctx, s.dst.addr, topic)
		if err != nil {
			return err
		}
		if err := compare(want, got); err != nil {
			return fmt.Errorf("%s: %w", topic, err)
		}
	}
	return nil
}

// gauge reads a metric without labels from a klink.
func gauge(ctx context.Context, addr, name string) (float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), name+" "); ok {
			return strconv.ParseFloat(value, 64)
		}
	}
	return 0, fmt.Errorf("metric %s is missing", name)
}
