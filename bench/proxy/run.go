package proxy

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"klink/bench"
	"klink/internal/kafkatest"
)

// How long one measurement takes, and the requests before it that do not count.
const (
	fullLength, quickLength = 800 * time.Millisecond, 500 * time.Millisecond
	lead                    = 150 * time.Millisecond
)

// Run measures clients of a real broker without a proxy, behind `klink serve`, behind HAProxy and
// behind a byte relay: throughput, latency, CPU and memory. fullWorkloads lists the loads.
// It returns the series with all that was measured, even if an error cut it short.
func Run(ctx context.Context, o *bench.Options) (s *bench.Series, err error) {
	workloads, err := workloadsOf(o)
	if err != nil {
		return nil, err
	}
	for _, name := range o.Subjects {
		if !slices.Contains(subjectsOf(o), name) {
			return nil, fmt.Errorf("subject %q: have %s", name, strings.Join(subjectsOf(o), ", "))
		}
	}
	if o.Rounds < 1 {
		return nil, fmt.Errorf("%d rounds: at least 1", o.Rounds)
	}
	if err := kafkatest.CheckJava(); err != nil {
		return nil, err
	}
	dir, err := kafkatest.ProcessDir("bench")
	if err != nil {
		return nil, err
	}
	if o.Keep {
		fmt.Fprintf(o.Progress, "logs are in %s\n", dir)
	} else {
		defer os.RemoveAll(dir)
	}
	series := &bench.Series{Bench: "proxy", Command: o.Command, Began: time.Now().UTC(), Machine: bench.ThisMachine(string(kafkatest.V431), o.Version)}
	fmt.Fprintf(o.Progress, "starting Apache Kafka %s ...\n", kafkatest.V431)
	w, err := newWorld(ctx, dir, o)
	if err != nil {
		return nil, err
	}
	defer w.stop()
	b := &benchmark{Options: o, world: w, series: series, length: fullLength}
	if o.Quick {
		b.length = quickLength
	}
	defer func() { series.Absent = append(series.Absent, w.absent...) }()
	return series, b.run(ctx, workloads)
}

// benchmark is one run of all workloads.
type benchmark struct {
	*bench.Options
	world  *world
	series *bench.Series
	length time.Duration
	filled map[int]bool // sizes whose topic for fetches exists
	mirror *mirrorWorld // nil until it is needed
}

func (b *benchmark) run(ctx context.Context, workloads []workload) error {
	if err := b.world.createTopic(ctx, produceTopic, producePartitions); err != nil {
		return err
	}
	if err := b.warmUp(ctx, workloads); err != nil {
		return fmt.Errorf("warm up the broker: %w", err)
	}
	defer func() {
		if b.mirror != nil {
			b.mirror.stop()
		}
	}()
	for _, w := range workloads {
		if err := b.workload(ctx, w); err != nil {
			return fmt.Errorf("%s: %w", w, err)
		}
	}
	return nil
}

// workload runs all rounds of a workload; each round runs every subject in turn. If a subject
// fails, its run gets a problem, and the others go on.
func (b *benchmark) workload(ctx context.Context, w workload) error {
	if err := b.prepare(ctx, w); err != nil {
		return err
	}
	subjects := b.world.present(b.Options, w.tls)
	if w.kind == "mirror fetch" {
		subjects = b.mirror.subjects(subjects)
	}
	if w.kind == "idle" {
		// The growth of the broker itself is not measured.
		subjects = slices.DeleteFunc(subjects, func(s *subject) bool { return s.name == Direct })
	}
	rounds := b.Rounds
	if w.kind == "idle" && (w.connections > 2000 || b.Quick) {
		rounds = 1 // the figures hardly vary, and ten thousand handshakes take long
	}
	for round := 1; round <= rounds; round++ {
		// Each round begins with another subject, so that no subject always runs after the same
		// one.
		for i := range subjects {
			s := subjects[(i+round-1)%len(subjects)]
			run := bench.Run{Workload: w.String(), Subject: s.name, Round: round}
			err := s.start(ctx)
			if err == nil {
				run.Values, err = b.measure(ctx, s, w)
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil {
				run.Problem = err.Error()
				fmt.Fprintf(b.Progress, "%s, %s, round %d: %v\n", w, s.name, round, err)
				s.stop()
			}
			b.series.Runs = append(b.series.Runs, run)
		}
		b.addedLatency(w, round)
	}
	// Show the table of the finished workload.
	b.series.Table(b.Progress, w.String(), Direct, HAProxy, bench.BytesPerConn, bench.MBPerSecond, bench.P50)
	return nil
}

// measure makes one run.
func (b *benchmark) measure(ctx context.Context, s *subject, w workload) (map[bench.Metric]float64, error) {
	switch w.kind {
	case "idle":
		return b.measureIdle(ctx, s, w)
	case "stall":
		return b.measureStall(ctx, s)
	}
	askers, err := b.askers(ctx, s, w)
	defer closeAll(askers)
	if err != nil {
		return nil, err
	}
	values, err := b.drive(ctx, s, w, askers)
	if w.kind == "produce" {
		err = errors.Join(err, b.world.empty(ctx, produceTopic, producePartitions))
	}
	return values, err
}

func closeAll(askers []asker) {
	for _, a := range askers {
		a.Close()
	}
}

// drive makes the load, and returns the figures of the load and of what the subject used.
func (b *benchmark) drive(ctx context.Context, s *subject, w workload, askers []asker) (map[bench.Metric]float64, error) {
	if _, err := closedLoop(ctx, askers, lead); err != nil {
		return nil, err
	}
	before, err := s.usage()
	if err != nil {
		return nil, err
	}
	var d *driven
	if w.rate > 0 {
		d, err = fixedRate(ctx, askers, w.rate, b.length)
	} else {
		d, err = closedLoop(ctx, askers, b.length)
	}
	if err != nil {
		return nil, err
	}
	after, err := s.usage()
	if err != nil {
		return nil, err
	}
	return d.values(s, before, after), nil
}

// values returns the figures of a load, and of what the subject used for it.
func (d *driven) values(s *subject, before, after bench.Usage) map[bench.Metric]float64 {
	v := map[bench.Metric]float64{
		bench.MBPerSecond: float64(d.bytes) / 1e6 / d.elapsed.Seconds(), bench.RequestsPerSec: float64(d.requests) / d.elapsed.Seconds(),
		bench.P50: d.quantile(50), bench.P99: d.quantile(99), bench.P999: d.quantile(99.9), bench.Max: d.quantile(100),
	}
	if s.name != Direct {
		cpu := (after.CPU - before.CPU).Seconds()
		v[bench.CPUPerGB] = cpu / (float64(d.bytes) / 1e9)
		v[bench.CPUPerRequest] = cpu * 1e6 / float64(d.requests)
		v[bench.RSS] = float64(after.RSS) / 1e6
	}
	return v
}

// addedLatency compares the latencies of a round with those without a proxy.
func (b *benchmark) addedLatency(w workload, round int) {
	if !w.single() {
		return
	}
	runs := b.series.Runs
	for i := range runs {
		if runs[i].Workload != w.String() || runs[i].Round != round || runs[i].Subject != Direct || runs[i].Problem != "" {
			continue
		}
		for j := range runs {
			if runs[j].Workload == w.String() && runs[j].Round == round && runs[j].Subject != Direct && runs[j].Problem == "" {
				runs[j].Values[bench.AddedP50] = 1000 * (runs[j].Values[bench.P50] - runs[i].Values[bench.P50])
			}
		}
	}
}
