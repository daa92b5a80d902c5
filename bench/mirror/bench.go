package mirror

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

	"golang.org/x/sync/errgroup"
)

// Options say what to measure.
type Options struct {
	bench.Options
	// Binary is the klink to measure; "" = this program.
	Binary string
	// Budget is the time after which no further measurement begins; 0 = no limit.
	Budget time.Duration
	// Scale multiplies the amount of data; 0 = 1.
	Scale float64
	// Steady is how long a steady phase counts; 0 = a length that depends on Quick.
	Steady time.Duration
}

// quickScale is the scale of the quick mode.
const quickScale = 0.3

// run is one run of the benchmark.
type run struct {
	o         *Options
	l         *launcher
	src, dst  *cluster
	workloads []workload
	subjects  []string
	contents  map[string]*content
	series    bench.Series
	plan      *plan
	began     time.Time
	p         *printer
}

// Run measures, prints tables, and puts the results in the report file. If a subject cannot be
// measured, the series has a problem. Run returns an error if the benchmark could not run at all,
// or if a run did not verify.
func Run(ctx context.Context, o *Options) (*bench.Series, error) {
	b := newRun(o)
	if err := b.choose(); err != nil {
		return nil, err
	}
	end, err := b.open("mirror")
	if err != nil {
		return nil, err
	}
	defer end()
	if slices.Contains(b.subjects, MirrorMaker) {
		if b.l.lib, b.series.Absent = peers(); len(b.series.Absent) > 0 {
			b.subjects = slices.DeleteFunc(b.subjects, func(s string) bool { return s == MirrorMaker })
			b.p.line("absent: %s: %s", MirrorMaker, b.series.Absent[0].Why)
		}
	}
	b.plan = newPlan(b)
	b.p.line("%s", b.plan.text(o.Rounds))
	if err := b.clusters(b.plan.legs[0].to); err != nil {
		return nil, err
	}
	defer b.stop()
	err = b.rounds(ctx)
	if len(b.series.Runs) == 0 {
		return nil, err
	}
	// The measurements from before an interruption are valid.
	b.p.tables(&b.series)
	return &b.series, errors.Join(err, b.save(), b.problems())
}

func newRun(o *Options) *run {
	return &run{o: o, contents: map[string]*content{}, began: time.Now(), p: newPrinter(o.Progress)}
}

// open prepares a benchmark before its clusters start: it checks the room on the disk and the
// report file, makes a directory, which end removes, and finds the program.
func (b *run) open(name string) (end func(), err error) {
	o := b.o
	if err := checkDisk(b.workloads, o.Scale); err != nil {
		return nil, err
	}
	if o.Out != "" { // fail now, not after a quarter of an hour
		if _, err := bench.ReadReport(o.Out); err != nil {
			return nil, err
		}
	}
	b.l = &launcher{binary: o.Binary}
	if o.Binary == "" {
		if b.l.binary, err = os.Executable(); err != nil {
			return nil, err
		}
	}
	if b.l.dir, err = kafkatest.ProcessDir("bench"); err != nil {
		return nil, err
	}
	b.series.Bench, b.series.Command, b.series.Began = name, o.Command, b.began.UTC().Truncate(time.Second)
	b.series.Machine = bench.ThisMachine(string(kafkatest.V431), o.Version)
	if o.Keep {
		b.p.line("logs: %s", b.l.dir)
		return func() {}, nil
	}
	return func() { os.RemoveAll(b.l.dir) }, nil
}

// save puts the series in the report file.
func (b *run) save() error {
	if b.o.Out == "" {
		return nil
	}
	r, err := bench.ReadReport(b.o.Out)
	if err != nil {
		return err
	}
	r.Put(b.series)
	return r.Write(b.o.Out)
}

// choose fills in the options that are not set, and refuses unknown names.
func (b *run) choose() error {
	o := b.o
	o.Rounds = max(1, o.Rounds)
	if o.Scale <= 0 {
		if o.Scale = 1; o.Quick {
			o.Scale = quickScale
		}
	}
	for _, name := range o.Workloads {
		if _, ok := workloadNamed(name); !ok {
			return fmt.Errorf("unknown workload %q; known: %s", name, strings.Join(Workloads(), ", "))
		}
	}
	for _, name := range o.Subjects {
		if !slices.Contains(Subjects(), name) {
			return fmt.Errorf("unknown subject %q; known: %s", name, strings.Join(Subjects(), ", "))
		}
	}
	for _, w := range workloads {
		if o.WantsWorkload(w.name) && (!o.Quick || w.quick || len(o.Workloads) > 0) {
			b.workloads = append(b.workloads, w)
		}
	}
	for _, s := range Subjects() {
		if o.WantsSubject(s) {
			b.subjects = append(b.subjects, s)
		}
	}
	return nil
}

// farWindow is how many bytes from a far source may be in flight: the bandwidth of a fast network
// times the delay.
const farWindow = 128 << 20

func (b *run) clusters(to *destination) error {
	b.p.line("starting two clusters of Apache Kafka %s: one broker as the source, %s as the destination", kafkatest.V431, to.name)
	var g errgroup.Group
	g.Go(func() (err error) { b.src, err = startSource(); return err })
	g.Go(func() (err error) { b.dst, err = startDestination(to); return err })
	if err := g.Wait(); err != nil {
		b.stop()
		return err
	}
	return nil
}

func (b *run) stop() {
	for _, c := range []*cluster{b.src, b.dst} {
		if c != nil {
			c.stop()
		}
	}
}

// rounds measures one destination after the other, and starts the brokers of each.
func (b *run) rounds(ctx context.Context) error {
	for at := range b.plan.legs {
		l := &b.plan.legs[at]
		if at > 0 {
			if !b.plan.begins(l, time.Now()) {
				b.leftOut(l.turns)
				continue
			}
			b.p.line("starting %s; about %s left", l.to.name, about(b.plan.left(at, 0, time.Now())))
			b.dst.stop()
			b.dst = nil
			var err error
			if b.dst, err = startDestination(l.to); err != nil {
				return err
			}
		}
		if err := b.leg(ctx, at, l); err != nil {
			return err
		}
	}
	return nil
}

func (b *run) leg(ctx context.Context, at int, l *leg) error {
	warm := b.o.Scale < leastWarm
	var out []turn
	defer func() { b.leftOut(out) }()
	for i, t := range l.turns {
		w := t.w
		if !b.plan.fits(l, t, time.Now()) {
			out = append(out, t)
			continue
		}
		if b.contents[w.name] == nil {
			began := time.Now()
			b.p.line("filling %s: %s", w.name, w.why)
			c, err := fill(ctx, b.src, w, b.o.Scale)
			if err != nil {
				return err
			}
			b.contents[w.name], b.plan.filled[w.name] = c, true
			b.p.line("filled %s in %.1f s: %d records in %d batches, %.2f GB", w.name, time.Since(began).Seconds(), c.records, c.batches, float64(c.bytes)/1e9)
		}
		if !warm {
			if err := b.warmUp(ctx, w); err != nil {
				return err
			}
			warm = true
		}
		if err := b.round(ctx, t.round, w); err != nil {
			return err
		}
		if left := b.plan.left(at, i+1, time.Now()); left > 0 {
			b.p.line("%4.0f s  about %s left", time.Since(b.began).Seconds(), about(left))
		}
	}
	return nil
}

// leftOut reports the turns that were not taken.
func (b *run) leftOut(ts []turn) {
	if len(ts) == 0 {
		return
	}
	var names []string
	rounds := map[string]int{}
	for _, t := range ts {
		if rounds[t.w.name]++; rounds[t.w.name] == 1 {
			names = append(names, t.w.name)
		}
	}
	for i, name := range names {
		names[i] = fmt.Sprintf("%s (%d of %d rounds)", name, rounds[name], b.o.Rounds)
	}
	b.p.line("skipped because the time is up (--budget): %s", strings.Join(names, ", "))
}

// leastWarm is the smallest scale at which a warm-up is worth its time. Below it, nothing counts as
// a measurement.
const leastWarm = 0.05

// warmUp lets the brokers' JVMs compile the code that a mirror needs, before anything counts.
func (b *run) warmUp(ctx context.Context, w *workload) error {
	b.p.line("warming the brokers up")
	for _, subject := range []string{Raw, Copy, Klink} {
		if !runs(subject, w) {
			continue
		}
		if _, err := b.measure(ctx, 0, w, subject); err != nil {
			return err
		}
	}
	return nil
}

// round measures all subjects. Each round begins with another one.
func (b *run) round(ctx context.Context, round int, w *workload) error {
	for i := range b.subjects {
		subject := b.subjects[(i+round-1)%len(b.subjects)]
		if !runs(subject, w) {
			continue
		}
		began := time.Now()
		results, err := b.measure(ctx, round, w, subject)
		if err != nil {
			return err
		}
		b.plan.took[[2]string{w.name, subject}] = time.Since(began)
		for _, r := range results {
			b.p.result(&r, b.o.Rounds)
		}
		b.series.Runs = append(b.series.Runs, results...)
	}
	return nil
}

// steadyOf returns how long the steady phase of a workload counts.
func (b *run) steadyOf(w *workload) time.Duration {
	switch {
	case b.o.Steady > 0:
		return b.o.Steady
	case b.o.Quick:
		return 2500 * time.Millisecond
	case w.steady > 0:
		return w.steady
	}
	return 5 * time.Second
}

// steadies reports whether a subject has a steady phase. The others have none: they are floors of
// the catch-up, or a klink that does not join, which falls behind in workloads that measure it.
func steadies(subject string) bool { return subject != Raw && subject != Relay && subject != Unjoined }

// steadySuffix ends the name of a steady phase's workload.
const steadySuffix = "-steady"

// measure runs one subject. An error ends the benchmark. If the subject does something wrong, its
// runs get a problem instead.
func (b *run) measure(ctx context.Context, round int, w *workload, subject string) (results []bench.Run, err error) {
	j := &job{w: w, source: b.src.addr, src: b.src, dst: b.dst, content: b.contents[w.name]}
	if w.far > 0 {
		j.source = b.src.far
		b.src.Brokers()[0].Faults().Delay(w.far / 2)
	}
	name := fmt.Sprintf("%d-%s-%s", round, w.name, subject)
	if w.rate > 0 && steadies(subject) {
		j.steady = fmt.Sprintf("%s-%d-%s", w.topic()+steadySuffix, round, subject)
		if err := b.src.createTopic(ctx, j.steady, w.partitions, map[string]string{"retention.ms": "-1"}); err != nil {
			return nil, err
		}
	}
	var s *sink
	if subject == Relay {
		if s, err = newSink(); err != nil {
			return nil, err
		}
		j.sink = s.addr()
		defer s.close()
	}
	live := func(what string) { b.p.live("%d/%d %-12s %-12s %s", round, b.o.Rounds, w.name, subject, what) }
	live("starting")
	p, err := b.l.start(ctx, subject, name, j)
	if err == nil {
		r := bench.Run{Workload: w.name, Subject: subject, Round: round}
		var all bool
		r.Values, all, err = b.catchUp(ctx, p, subject, j, s, live)
		r.Problem = problem(err)
		if err != nil || !w.steadyOnly {
			results = append(results, r)
		}
		if err == nil && all && j.steady != "" {
			r := bench.Run{Workload: w.name + steadySuffix, Subject: subject, Round: round}
			r.Values, r.Samples, err = b.steady(ctx, p, j, live)
			r.SampleEvery = sampleEvery.Seconds()
			r.Problem = problem(err)
			results = append(results, r)
		}
		p.end()
	} else {
		results = append(results, bench.Run{Workload: w.name, Subject: subject, Round: round, Problem: problem(err)})
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	live("deleting")
	err = errors.Join(
		b.dst.deleteTopics(ctx, all),
		b.src.deleteTopics(ctx, func(topic string) bool { return topic == j.steady || !strings.HasPrefix(topic, "bench-") }),
	)
	return results, err
}

func problem(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// problems returns an error that names the runs that do not count.
func (b *run) problems() error {
	var bad []string
	for _, r := range b.series.Runs {
		if r.Problem != "" {
			text, _, _ := strings.Cut(r.Problem, "\n")
			bad = append(bad, fmt.Sprintf("%s, %s, round %d: %s", r.Workload, r.Subject, r.Round, text))
		}
	}
	if len(bad) > 0 {
		return fmt.Errorf("%d of %d runs do not count:\n  %s", len(bad), len(b.series.Runs), strings.Join(bad, "\n  "))
	}
	return nil
}
