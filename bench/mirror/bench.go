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
	// Budget is after how long no further measurement is begun; 0 = none.
	Budget time.Duration
	// Scale multiplies how much data there is; 0 = 1.
	Scale float64
	// Steady is how long a steady phase counts; 0 = a length that goes with Quick.
	Steady time.Duration
}

// quickScale is the size of the quick mode.
const quickScale = 0.3

// run is one run of the benchmark.
type run struct {
	o         *Options
	l         *launcher
	src, dst  *cluster
	workloads []workload
	subjects  []string
	contents  map[string]*content
	steadyFor time.Duration
	serie     bench.Serie
	took      map[string]time.Duration // the longest round of a workload
	shortest  time.Duration            // of all rounds
	began     time.Time
	p         *printer
}

// Run measures, prints tables, and puts the results in the report file. What could not be measured is in the serie as a problem;
// the error is for what kept the benchmark from running at all, or for a run that did not verify.
func Run(ctx context.Context, o *Options) (*bench.Serie, error) {
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
		if b.l.lib, b.serie.Absent = peers(); len(b.serie.Absent) > 0 {
			b.subjects = slices.DeleteFunc(b.subjects, func(s string) bool { return s == MirrorMaker })
			b.p.line("absent: %s: %s", MirrorMaker, b.serie.Absent[0].Why)
		}
	}
	if err := b.clusters(); err != nil {
		return nil, err
	}
	defer b.stop()
	err = b.rounds(ctx)
	if len(b.serie.Runs) == 0 {
		return nil, err
	}
	// What was measured before an interruption is as good as ever.
	b.p.tables(&b.serie)
	return &b.serie, errors.Join(err, b.save(), b.problems())
}

func newRun(o *Options) *run {
	return &run{o: o, contents: map[string]*content{}, took: map[string]time.Duration{}, began: time.Now(), p: newPrinter(o.Progress)}
}

// open sees to what a benchmark needs before its clusters: room on the disk, a report that can be read, a directory, which end
// removes, and the program.
func (b *run) open(name string) (end func(), err error) {
	o := b.o
	if err := checkDisk(b.workloads, o.Scale); err != nil {
		return nil, err
	}
	if o.Out != "" { // rather now than after a quarter of an hour
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
	b.serie.Bench, b.serie.Command, b.serie.Began = name, o.Command, b.began.UTC().Truncate(time.Second)
	b.serie.Machine = bench.ThisMachine(string(kafkatest.V431), o.Version)
	if o.Keep {
		b.p.line("logs: %s", b.l.dir)
		return func() {}, nil
	}
	return func() { os.RemoveAll(b.l.dir) }, nil
}

// save puts the serie in the report file.
func (b *run) save() error {
	if b.o.Out == "" {
		return nil
	}
	r, err := bench.ReadReport(b.o.Out)
	if err != nil {
		return err
	}
	r.Put(b.serie)
	return r.Write(b.o.Out)
}

// choose fills in what the options leave open, and refuses names that do not exist.
func (b *run) choose() error {
	o := b.o
	o.Rounds = max(1, o.Rounds)
	if o.Scale <= 0 {
		if o.Scale = 1; o.Quick {
			o.Scale = quickScale
		}
	}
	if b.steadyFor = o.Steady; b.steadyFor <= 0 {
		if b.steadyFor = 5 * time.Second; o.Quick {
			b.steadyFor = 2500 * time.Millisecond
		}
	}
	for _, name := range o.Workloads {
		if _, ok := workloadNamed(name); !ok {
			return fmt.Errorf("there is no workload %q: there are %s", name, strings.Join(Workloads(), ", "))
		}
	}
	for _, name := range o.Subjects {
		if !slices.Contains(Subjects(), name) {
			return fmt.Errorf("there is no subject %q: there are %s", name, strings.Join(Subjects(), ", "))
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

// farWindow is how many bytes may be under way from a far source: the bandwidth of a fast network, times the delay.
const farWindow = 128 << 20

func (b *run) clusters() error {
	b.p.line("starting two clusters of Apache Kafka %s", kafkatest.V431)
	var g errgroup.Group
	g.Go(func() (err error) { b.src, err = startCluster(true); return err })
	g.Go(func() (err error) { b.dst, err = startCluster(false); return err })
	if err := g.Wait(); err != nil {
		b.stop()
		return err
	}
	b.src.Brokers()[0].Faults().Window(farWindow)
	return nil
}

func (b *run) stop() {
	for _, c := range []*cluster{b.src, b.dst} {
		if c != nil {
			c.stop()
		}
	}
}

// turn is one round of a workload.
type turn struct {
	round int
	w     *workload
}

// turns are all rounds of the major workloads, then those of the others. A workload's rounds are not one after the other, so that what
// changes in the machine meets all.
func turns(ws []workload, rounds int) (all []turn) {
	for _, major := range []bool{true, false} {
		for round := 1; round <= rounds; round++ {
			for i := range ws {
				if ws[i].major == major {
					all = append(all, turn{round, &ws[i]})
				}
			}
		}
	}
	return all
}

func (b *run) rounds(ctx context.Context) error {
	for i, t := range turns(b.workloads, b.o.Rounds) {
		w := t.w
		// What was not measured yet may take as long as the shortest that was.
		if b.o.Budget > 0 && time.Since(b.began)+max(b.took[w.name], b.shortest) > b.o.Budget {
			b.p.line("round %d of %s is left out: the time is up", t.round, w.name)
			continue
		}
		if b.contents[w.name] == nil {
			began := time.Now()
			b.p.line("filling %s: %s", w.name, w.why)
			c, err := fill(ctx, b.src, w, b.o.Scale)
			if err != nil {
				return err
			}
			b.contents[w.name] = c
			b.p.line("filled %s in %.1f s: %d records in %d batches, %.2f GB", w.name, time.Since(began).Seconds(), c.records, c.batches, float64(c.bytes)/1e9)
		}
		if i == 0 && b.o.Scale >= leastWarm {
			if err := b.warmUp(ctx, w); err != nil {
				return err
			}
		}
		began := time.Now()
		if err := b.round(ctx, t.round, w); err != nil {
			return err
		}
		took := time.Since(began)
		b.took[w.name] = max(b.took[w.name], took)
		if b.shortest == 0 || took < b.shortest {
			b.shortest = took
		}
	}
	return nil
}

// leastWarm is the scale from which on a warm-up is worth its time: below, nothing is a measurement.
const leastWarm = 0.05

// warmUp lets the brokers' JVMs compile what a mirror needs of them, before anything counts.
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

// round measures all subjects, each time beginning with another.
func (b *run) round(ctx context.Context, round int, w *workload) error {
	for i := range b.subjects {
		subject := b.subjects[(i+round-1)%len(b.subjects)]
		if !runs(subject, w) {
			continue
		}
		results, err := b.measure(ctx, round, w, subject)
		if err != nil {
			return err
		}
		for _, r := range results {
			b.p.result(&r, b.o.Rounds)
		}
		b.serie.Runs = append(b.serie.Runs, results...)
	}
	return nil
}

// steadySuffix makes the name of a steady phase's workload.
const steadySuffix = "-steady"

// measure runs one subject. An error ends the benchmark; what the subject did wrong is a problem of its runs.
func (b *run) measure(ctx context.Context, round int, w *workload, subject string) (results []bench.Run, err error) {
	j := &job{w: w, source: b.src.addr, src: b.src, dst: b.dst, content: b.contents[w.name]}
	if w.far > 0 {
		j.source = b.src.far
		b.src.Brokers()[0].Faults().Delay(w.far / 2)
	}
	name := fmt.Sprintf("%d-%s-%s", round, w.name, subject)
	if w.rate > 0 && subject != Raw && subject != Relay {
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
		r.Values, err = b.catchUp(ctx, p, subject, j, s, live)
		r.Problem = problem(err)
		results = append(results, r)
		if err == nil && j.steady != "" {
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

// problems is an error that names the runs that do not count.
func (b *run) problems() error {
	var bad []string
	for _, r := range b.serie.Runs {
		if r.Problem != "" {
			text, _, _ := strings.Cut(r.Problem, "\n")
			bad = append(bad, fmt.Sprintf("%s, %s, round %d: %s", r.Workload, r.Subject, r.Round, text))
		}
	}
	if len(bad) > 0 {
		return fmt.Errorf("%d of %d runs do not count:\n  %s", len(bad), len(b.serie.Runs), strings.Join(bad, "\n  "))
	}
	return nil
}
