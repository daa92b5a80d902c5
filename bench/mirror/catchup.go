package mirror

import (
	"context"
	"fmt"
	"time"

	"klink/bench"

	"github.com/twmb/franz-go/pkg/kerr"
)

const (
	// startTimeout is how long a subject may take until its first record is there, and stallTimeout
	// how long it may then pause.
	startTimeout = 60 * time.Second
	stallTimeout = 30 * time.Second
)

// mark is how far a subject had come at a time, and what it had used.
type mark struct {
	at    time.Time
	done  float64 // of the whole, 0 to 1
	usage bench.Usage
}

// subject is what is watched: a process, or several at the same work.
type subject interface {
	Usage() (bench.Usage, error)
	LogTail(lines int) string
}

// progress tells how much of the whole is done, from 0 to 1; 1 if and only if all is.
type progress interface {
	done() (float64, error)
	// every is how often it may be asked without being felt.
	every() time.Duration
}

// await watches a subject from its first record to its last. The window begins with the last look
// that saw nothing, so that all of the data falls into it, and is too long by one look at most; or,
// with a lead, with the last look that saw at most so much of the whole, so that what the subject
// has to do before it copies at full speed is not in it. With most above 0 the window ends after
// that time, whatever is left then.
func await(ctx context.Context, p subject, of progress, lead float64, most time.Duration, live func(float64)) (first, last mark, err error) {
	began := time.Now()
	moved := began
	look := time.NewTicker(of.every())
	defer look.Stop()
	for {
		now := mark{at: time.Now()}
		if now.usage, err = p.Usage(); err != nil {
			return first, last, err
		}
		if now.done, err = of.done(); err != nil {
			return first, last, err
		}
		switch {
		case now.done <= lead:
			first = now
			if now.done == 0 && time.Since(began) > startTimeout {
				return first, last, fmt.Errorf("nothing was mirrored within %v\n%s", startTimeout, p.LogTail(20))
			}
		case first.at.IsZero():
			first = mark{at: began, usage: now.usage} // more than everything at the first look
		}
		if now.done > last.done {
			moved = now.at
		}
		last = now
		if now.done >= 1 {
			// What the process has used so far belongs to it.
			last.usage, err = p.Usage()
			return first, last, err
		}
		if now.done > 0 && time.Since(moved) > stallTimeout {
			return first, last, fmt.Errorf("nothing more was mirrored for %v, with %.1f %% done\n%s", stallTimeout, 100*now.done, p.LogTail(20))
		}
		if most > 0 && now.done > lead && now.at.Sub(first.at) >= most {
			return first, last, nil
		}
		live(now.done)
		select {
		case <-ctx.Done():
			return first, last, ctx.Err()
		case <-look.C:
		}
	}
}

// values are the figures of a catch-up of what the source holds.
func values(first, last mark, of *content) map[bench.Metric]float64 {
	seconds := last.at.Sub(first.at).Seconds()
	cpu := (last.usage.CPU - first.usage.CPU).Seconds()
	part := last.done - first.done
	bytes, records := float64(of.bytes)*part, float64(of.records)*part
	return map[bench.Metric]float64{
		bench.Seconds:          seconds,
		bench.MBPerSecond:      bytes / 1e6 / seconds,
		bench.RecordsPerSecond: records / seconds,
		bench.CPUPerGB:         cpu / (bytes / 1e9),
		bench.CPUPerMRecords:   cpu / (records / 1e6),
		bench.PeakRSS:          float64(last.usage.Peak) / 1e6,
	}
}

// ends is the progress of a topic at the destination.
type ends struct {
	first   *conn // for metadata
	connect func() error
	conns   []*conn // to the leaders; none until there is a topic
	leader  []int   // by partition, the place in conns
	topic   string
	targets []int64
	at      []int64
	open    []int32 // partitions that are not at their target
	begun   bool    // something was seen
	total   int64
}

func newEnds(ctx context.Context, addr, topic string, targets []int64) (*ends, error) {
	first, err := dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	e := &ends{topic: topic, targets: targets, at: make([]int64, len(targets)), leader: make([]int, len(targets)), first: first}
	e.connect = func() error {
		leaders, n, err := first.partitions(topic)
		if err != nil {
			return err
		}
		if n != len(targets) {
			return fmt.Errorf("topic %s has %d partitions instead of %d", topic, n, len(targets))
		}
		for i, l := range leaders {
			c, err := dial(ctx, l.addr)
			if err != nil {
				return err
			}
			e.conns = append(e.conns, c)
			for _, p := range l.partitions {
				e.leader[p] = i
			}
		}
		return nil
	}
	for p, target := range targets {
		if e.total += target; target > 0 {
			e.open = append(e.open, int32(p))
		}
	}
	return e, nil
}

func (e *ends) close() {
	e.first.Close()
	for _, c := range e.conns {
		c.Close()
	}
}

// look asks the leaders of partitions for their ends. A topic that is not there yet has nothing.
func (e *ends) look(partitions []int32) error {
	if len(e.conns) == 0 {
		if err := e.connect(); kerr.IsRetriable(err) {
			return nil
		} else if err != nil {
			return err
		}
	}
	if len(e.conns) == 1 {
		return e.conns[0].ends(e.topic, partitions, e.at)
	}
	by := make([][]int32, len(e.conns))
	for _, p := range partitions {
		by[e.leader[p]] = append(by[e.leader[p]], p)
	}
	for i, list := range by {
		if len(list) == 0 {
			continue
		}
		if err := e.conns[i].ends(e.topic, list, e.at); err != nil {
			return err
		}
	}
	return nil
}

func (e *ends) every() time.Duration {
	if len(e.targets) > endsAtOnce {
		return 50 * time.Millisecond
	}
	return 5 * time.Millisecond
}

// endsAtOnce bounds how many partitions are asked for in a look, so that a look at thousands is not
// felt by the broker that is measured.
const endsAtOnce = 100

func (e *ends) done() (float64, error) {
	for first := true; ; first = false {
		// Nothing is done until any partition has something; from then on those that are asked for
		// come one group after the other.
		ask := e.open
		if e.begun && len(ask) > endsAtOnce {
			ask = ask[:endsAtOnce]
		}
		if err := e.look(ask); err != nil {
			return 0, err
		}
		n := len(ask)
		open := e.open[:0]
		for _, p := range ask {
			e.begun = e.begun || e.at[p] > 0
			if e.at[p] < e.targets[p] {
				open = append(open, p)
			}
		}
		left := len(open)
		e.open = append(open, e.open[n:]...)
		if len(e.open) == 0 {
			return 1, nil
		}
		if left > 0 || first && !e.begun {
			break
		}
	}
	var sum int64
	for p, target := range e.targets {
		sum += min(e.at[p], target)
	}
	return float64(sum) / float64(e.total), nil
}

// drained is the progress of the relay.
type drained struct {
	s     *sink
	total int64
}

func (d *drained) every() time.Duration { return 5 * time.Millisecond }

func (d *drained) done() (float64, error) {
	return min(1, float64(d.s.bytes.Load())/float64(d.total)), nil
}

// catchUp lets a subject that was just started mirror the workload's topic, the whole or for as
// long as it may take, and verifies what came of it. all says that it was the whole.
func (b *run) catchUp(ctx context.Context, p *running, subject string, j *job, sink *sink, live func(string)) (v map[bench.Metric]float64, all bool, err error) {
	var of progress
	if subject == Relay {
		of = &drained{sink, j.content.bytes}
	} else {
		e, err := newEnds(ctx, j.dst.addr, j.w.topic(), p.targets)
		if err != nil {
			return nil, false, err
		}
		defer e.close()
		of = e
	}
	began := time.Now()
	first, last, err := await(ctx, p, of, 0, j.w.most, func(done float64) {
		live(fmt.Sprintf("%3.0f %% after %.0f s", 100*done, time.Since(began).Seconds()))
	})
	if err != nil {
		return nil, false, err
	}
	v, all = values(first, last, j.content), last.done >= 1
	live("reading what was mirrored")
	if subject == Relay {
		// It has nowhere to be read from; but no byte may be too many.
		time.Sleep(50 * time.Millisecond)
		if got := sink.bytes.Load(); got > j.content.bytes || all && got < j.content.bytes {
			return v, all, fmt.Errorf("the relay passed on %d bytes of %d", got, j.content.bytes)
		}
		return v, all, nil
	}
	return v, all, verify(ctx, j, all)
}

// verify compares the workload's topic at the destination with that at the source; what is not all
// there has to be its beginning.
func verify(ctx context.Context, j *job, all bool) error {
	want := j.content
	var first []int64
	if !all {
		leaders, n, err := leadersOf(ctx, j.dst.addr, j.w.topic())
		if err != nil {
			return err
		}
		first = make([]int64, n) // the subject goes on, and what it appends from now on is left out
		if err := endsOf(ctx, leaders, j.w.topic(), first); err != nil {
			return err
		}
		if want, err = scanFirst(ctx, j.src.addr, j.w.topic(), first); err != nil {
			return err
		}
	}
	got, err := scanFirst(ctx, j.dst.addr, j.w.topic(), first)
	if err != nil {
		return err
	}
	return compare(want, got)
}
