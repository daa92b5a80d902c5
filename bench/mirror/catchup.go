package mirror

import (
	"context"
	"fmt"
	"time"

	"klink/bench"
	"klink/bench/wire"

	"github.com/twmb/franz-go/pkg/kerr"
)

const (
	// startTimeout is how long a subject may take until its first record arrives, and stallTimeout
	// how long it may pause after that.
	startTimeout = 60 * time.Second
	stallTimeout = 30 * time.Second
)

// mark is the progress of a subject at a time, and what it had used by that time.
type mark struct {
	at    time.Time
	done  float64 // of the whole, 0 to 1
	usage bench.Usage
}

// subject is the program that is watched: a process, or several that share the work.
type subject interface {
	Usage() (bench.Usage, error)
	LogTail(lines int) string
}

// progress measures how much of the whole is done, from 0 to 1; it is 1 if and only if everything
// is done.
type progress interface {
	done() (float64, error)
	// every is how often it may be asked without disturbing the measurement.
	every() time.Duration
}

// await watches a subject from its first record to its last. The window begins with the last look
// that saw nothing, so that it covers all of the data, and is at most one look too long. With a
// lead, the window begins with the last look that saw at most that part of the whole, so that it
// leaves out what the subject does before it copies at full speed. With most above 0 the window
// ends after that time, even if the subject is not done.
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
			first = mark{at: began, usage: now.usage} // the first look saw more than the lead
		}
		if now.done > last.done {
			moved = now.at
		}
		last = now
		if now.done >= 1 {
			// The window includes everything that the process has used so far.
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

// values returns the figures of a catch-up of everything that the source holds.
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
	first   *wire.Conn // for metadata
	connect func() error
	conns   []*wire.Conn // to the leaders; empty until the topic exists
	leader  []int        // by partition, the index in conns
	topic   string
	targets []int64
	at      []int64
	open    []int32 // partitions that are not at their target
	begun   bool    // a record was seen
	total   int64
}

func newEnds(ctx context.Context, addr, topic string, targets []int64) (*ends, error) {
	first, err := dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	e := &ends{topic: topic, targets: targets, at: make([]int64, len(targets)), leader: make([]int, len(targets)), first: first}
	e.connect = func() error {
		leaders, n, err := first.Leaders(topic)
		if err != nil {
			return err
		}
		if n != len(targets) {
			return fmt.Errorf("topic %s has %d partitions instead of %d", topic, n, len(targets))
		}
		for i, l := range leaders {
			c, err := dial(ctx, l.Addr)
			if err != nil {
				return err
			}
			e.conns = append(e.conns, c)
			for _, p := range l.Partitions {
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

// look asks the leaders of partitions for their ends. A topic that does not exist yet has no
// progress.
func (e *ends) look(partitions []int32) error {
	if len(e.conns) == 0 {
		if err := e.connect(); kerr.IsRetriable(err) {
			return nil
		} else if err != nil {
			return err
		}
	}
	if len(e.conns) == 1 {
		return e.conns[0].Ends(e.topic, partitions, e.at)
	}
	by := make([][]int32, len(e.conns))
	for _, p := range partitions {
		by[e.leader[p]] = append(by[e.leader[p]], p)
	}
	for i, list := range by {
		if len(list) == 0 {
			continue
		}
		if err := e.conns[i].Ends(e.topic, list, e.at); err != nil {
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

// endsAtOnce bounds how many partitions one look asks for, so that a look at thousands does not
// disturb the broker that is measured.
const endsAtOnce = 100

func (e *ends) done() (float64, error) {
	for first := true; ; first = false {
		// Ask for all partitions until one of them has a record. From then on ask for one group
		// after the other.
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

// catchUp lets a subject that has just started mirror the workload's topic, either the whole or for
// a limited time, and verifies the result. all is true if it mirrored the whole.
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
		// The sink keeps no records that could be read. But its byte count must not be too high,
		// and must be exact if all is true.
		time.Sleep(50 * time.Millisecond) //nolint:forbidigo // for bytes too many, which nothing announces
		if got := sink.bytes.Load(); got > j.content.bytes || all && got < j.content.bytes {
			return v, all, fmt.Errorf("the relay passed on %d bytes of %d", got, j.content.bytes)
		}
		return v, all, nil
	}
	return v, all, verify(ctx, j, all)
}

// verify compares the workload's topic at the destination with that at the source. An incomplete
// topic has to be a prefix of the source's.
func verify(ctx context.Context, j *job, all bool) error {
	want := j.content
	var first []int64
	if !all {
		leaders, n, err := wire.Leaders(ctx, j.dst.addr, j.w.topic())
		if err != nil {
			return err
		}
		first = make([]int64, n) // the subject goes on; leave out what it appends from now on
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
