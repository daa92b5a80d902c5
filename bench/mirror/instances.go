package mirror

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"klink/bench"
)

const (
	// Several instances mirror one topic. Each of its partitions is in one of 24 slots, and the
	// instances share the slots.
	instanceTopics     = 1
	instancePartitions = 12
	instanceMegabytes  = 1536
	mostInstances      = 3
	// instanceLead is the part of the whole that is copied before the measurement begins, so that
	// all mirrors exist and run.
	instanceLead = 0.25
)

// Instances measures the same catch-up by one, two and three instances of klink, on one machine.
func Instances(ctx context.Context, o *Options) (*bench.Series, error) {
	b := newRun(o)
	if o.Rounds = max(1, o.Rounds); o.Scale <= 0 {
		if o.Scale = 1; o.Quick {
			o.Scale = quickScale
		}
	}
	for i := range instanceTopics {
		b.workloads = append(b.workloads, workload{
			name: fmt.Sprintf("instances-%02d", i), partitions: instancePartitions, recordSize: 1000, perBatch: 127, megabytes: instanceMegabytes,
		})
	}
	end, err := b.open("instances")
	if err != nil {
		return nil, err
	}
	defer end()
	if err := b.clusters(oneBroker); err != nil {
		return nil, err
	}
	defer b.stop()
	err = b.countInstances(ctx)
	if len(b.series.Runs) == 0 {
		return nil, err
	}
	return &b.series, errors.Join(err, b.save(), b.problems())
}

func (b *run) countInstances(ctx context.Context) error {
	b.p.line("filling a topic of %d partitions", instancePartitions)
	for i := range b.workloads {
		w := &b.workloads[i]
		var err error
		if b.contents[w.name], err = fill(ctx, b.src, w, b.o.Scale); err != nil {
			return err
		}
	}
	// The brokers' JVMs compile now, at the cost of no subject.
	if _, err := b.catchUpBy(ctx, "warm-up", 1); err != nil {
		return err
	}
	for round := 1; round <= b.o.Rounds; round++ {
		for i := range mostInstances {
			n := (i+round-1)%mostInstances + 1
			values, err := b.catchUpBy(ctx, fmt.Sprintf("%d-of-%d", round, n), n)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			r := bench.Run{Workload: strconv.Itoa(n), Subject: Klink, Round: round, Values: values, Problem: problem(err)}
			b.series.Runs = append(b.series.Runs, r)
			b.p.result(&r, b.o.Rounds)
		}
	}
	return nil
}

// team is several instances that share the work.
type team []*running

// Usage returns the usage of all instances together.
func (t team) Usage() (all bench.Usage, err error) {
	for _, r := range t {
		u, err := r.Usage()
		if err != nil {
			return all, err
		}
		all.CPU, all.RSS, all.Peak = all.CPU+u.CPU, all.RSS+u.RSS, all.Peak+u.Peak
	}
	return all, nil
}

// LogTail returns the last lines of each instance's log.
func (t team) LogTail(lines int) (text string) {
	for _, r := range t {
		text += r.LogTail(lines) + "\n"
	}
	return text
}

func (t team) end() {
	for _, r := range t {
		r.end()
	}
}

// catchUpBy lets n instances mirror the topic, and verifies the result.
func (b *run) catchUpBy(ctx context.Context, name string, n int) (v map[bench.Metric]float64, err error) {
	var t team
	defer func() {
		t.end()
		// All topics, klink's own too, so that the next instances begin like these.
		err = errors.Join(err, b.dst.deleteTopics(ctx, all))
	}()
	var first string
	for i := range n {
		r, addr, err := b.l.serve(fmt.Sprintf("%s-%d", name, i), b.dst.addr, "--instance-id", strconv.Itoa(i))
		if err != nil {
			return nil, err
		}
		t = append(t, r)
		if i == 0 {
			first = addr
		}
	}
	// The instances must have shared the slots before there is work.
	for _, r := range t {
		if err := r.AwaitLog(fmt.Sprintf("slots=%d of=24", 24/n), readyTimeout); err != nil {
			return nil, err
		}
	}
	whole := &content{}
	var topics []string
	every := &manyEnds{}
	defer every.close()
	for i := range b.workloads {
		w := &b.workloads[i]
		c := b.contents[w.name]
		topics = append(topics, w.topic())
		whole.bytes, whole.records = whole.bytes+c.bytes, whole.records+c.records
		e, err := newEnds(ctx, b.dst.addr, w.topic(), (&job{content: c}).dense())
		if err != nil {
			return nil, err
		}
		every.of = append(every.of, e)
	}
	made := make(chan error, 1)
	go func() { made <- mirrors(ctx, first, b.src.addr, b.dst, instancePartitions, topics) }()
	from, to, err := await(ctx, t, every, instanceLead, 0, func(done float64) { b.p.live("%s: %3.0f %%", name, 100*done) })
	if err = errors.Join(err, <-made); err != nil {
		return nil, err
	}
	for i := range b.workloads {
		w := &b.workloads[i]
		mirrored, err := scan(ctx, b.dst.addr, w.topic())
		if err == nil {
			err = compare(b.contents[w.name], mirrored)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", w.topic(), err)
		}
	}
	return values(from, to, whole), nil
}

// manyEnds is the progress of several topics.
type manyEnds struct{ of []*ends }

func (m *manyEnds) every() time.Duration { return 20 * time.Millisecond }

func (m *manyEnds) done() (float64, error) {
	sum, total, all := 0.0, 0.0, true
	for _, e := range m.of {
		done, err := e.done()
		if err != nil {
			return 0, err
		}
		sum, total, all = sum+done*float64(e.total), total+float64(e.total), all && done >= 1
	}
	if all {
		return 1, nil
	}
	return min(sum/total, 0.999999), nil
}

func (m *manyEnds) close() {
	for _, e := range m.of {
		e.close()
	}
}
