package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"klink/internal/kafkatest"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// chaosDuration is how long faults are made in `make test`; CHAOS=1h make chaos takes longer.
const chaosDuration = 75 * time.Second

// TestChaos kills klink, brokers of both clusters and connections at random while the source is written to, then heals
// everything and compares every record of every partition with the source, through klink, with three clients; and what
// a fourth was shown meanwhile.
//
// Environment: CHAOS (a duration) and KLINK_CHAOS_SEED, which replays the schedule of faults and the order of what is
// produced. What the machine makes of them is its own.
func TestChaos(t *testing.T) {
	duration, seed := chaosDuration, rand.Uint64()
	if v := os.Getenv("CHAOS"); v != "" {
		d, err := time.ParseDuration(v)
		if err != nil {
			t.Fatalf("CHAOS is a duration, as 1h: %v", err)
		}
		duration = d
	}
	if v := os.Getenv("KLINK_CHAOS_SEED"); v != "" {
		s, err := strconv.ParseUint(v, 10, 64)
		if err != nil {
			t.Fatalf("KLINK_CHAOS_SEED is a number: %v", err)
		}
		seed = s
	}
	replay := fmt.Sprintf("KLINK_CHAOS_SEED=%d CHAOS=%v make chaos", seed, duration)
	t.Log("replay with " + replay)
	faults := schedule(seed, duration, 3)

	source := kafkatest.Start(t, kafkatest.Heap("320m"), kafkatest.WithFaults(),
		// A transaction whose producer was cut off is aborted soon, so that it holds up the end for a short time only.
		kafkatest.Config("transaction.abort.timed.out.transaction.cleanup.interval.ms", "1000"),
		kafkatest.Config("log.cleaner.backoff.ms", "1000"))
	destination := kafkatest.Start(t, kafkatest.Brokers(3), kafkatest.Heap("320m"), kafkatest.WithFaults())
	ctx, cancel := context.WithTimeout(context.Background(), 3*duration+10*time.Minute)
	defer cancel()
	adm := kadm.NewClient(source.Client(t))
	k := StartKlink(t, destination)
	createLink(t, k, "east", source, "metadata.max.age.ms=1000")
	mirrored := kadm.NewClient(kafkatest.NewClient(t, kgo.SeedBrokers(k.Bootstrap()), kgo.DialTimeout(5*time.Second)))

	var runs []*chaosRun
	watchers := map[string]*watcher{}
	for i, l := range chaosLoads() {
		configs := map[string]*string{}
		for name, value := range l.configs {
			configs[name] = &value
		}
		if _, err := adm.CreateTopic(ctx, l.partitions, 1, configs, l.topic); err != nil {
			t.Fatal(err)
		}
		k.MustCLI(t, "topic", "create", l.topic, "--link", "east", "--replication-factor", "3")
		if !l.compacted {
			watchers[l.topic] = startWatcher(t, k, l.topic)
		}
		runs = append(runs, &chaosRun{
			load: l, life: ctx, source: source, mirrored: mirrored, rng: rand.New(rand.NewPCG(seed, uint64(i))),
			client: func(opts ...kgo.Opt) *kgo.Client {
				return source.Client(t, append([]kgo.Opt{kgo.DialTimeout(5 * time.Second)}, opts...)...)
			},
		})
	}
	working, stopWork := context.WithCancel(ctx)
	var work sync.WaitGroup
	defer work.Wait()
	defer stopWork()
	for _, r := range runs {
		work.Go(func() { r.load.run(working, r) })
	}

	b := newBreaker(source, destination, k)
	made := b.run(t, faults, duration)
	k.MustRun(t)
	stopWork()
	work.Wait()

	compared, watched := 0, 0
	for _, r := range runs {
		topic := r.load.topic
		if err := r.failed.Load(); err != nil {
			t.Logf("%s: the first record that could not be produced: %v", topic, *err)
		}
		t.Logf("%s: %d records acknowledged, %d deletes, %d transactions", topic, r.acked.Load(), r.deleted.Load(), r.txns.Load())
		awaitMirror(t, k, source, topic)
		awaitStart(ctx, t, k, source, r.load)
		want := chaosSource(ctx, t, source, topic)
		if len(want) < 100 {
			t.Errorf("%s: the source has only %d records", topic, len(want))
		}
		if ends, got := listOffsets(ctx, t, source.Client(t), topic, r.load.partitions, -1),
			listOffsets(ctx, t, kafkatest.NewClient(t, kgo.SeedBrokers(k.Bootstrap())), topic, r.load.partitions, -1); ends != got {
			t.Errorf("%s: the source ends at %s, the mirror at %s", topic, ends, got)
		}
		if r.load.compacted {
			for _, reader := range readers()[:2] {
				t.Run(topic+" by "+reader.name, func(t *testing.T) {
					assertCompactedAlike(t, topic+" by "+reader.name, want, reader.read(t, k.Bootstrap(), topic, len(want)))
				})
				compared += len(want)
			}
			continue
		}
		for _, reader := range readers() {
			t.Run(topic+" by "+reader.name, func(t *testing.T) {
				got := reader.read(t, k.Bootstrap(), topic, len(want))
				if p, o, differs := firstDifference(want, got); differs {
					explain(ctx, t, k, source, destination, r.load, p, o)
				}
				assertSame(t, topic+" by "+reader.name, want, got)
			})
			compared += len(want)
		}
		watched += watchers[topic].compare(t, want)
	}
	var kinds []string
	for _, kind := range []faultKind{faultKill, faultCut, faultReset, faultStall, faultDelay} {
		kinds = append(kinds, fmt.Sprintf("%d %s", b.made[kind], kind))
	}
	// Printed in every run, not in those with -v alone.
	fmt.Printf("chaos: %d faults (%s), %d comparisons of a record by several clients, %d seen during the faults; replay with %s\n",
		made, strings.Join(kinds, ", "), compared, watched, replay)
	if made == 0 || compared == 0 {
		t.Errorf("%d faults, %d records compared: nothing was shown", made, compared)
	}
}

// chaosSource reads what the source has: the truth.
func chaosSource(_ context.Context, t testing.TB, source *kafkatest.Cluster, topic string) []record {
	t.Helper()
	return readFranzWith(t, topic, kgo.SeedBrokers(strings.Split(source.Bootstrap(), ",")...), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
}

// awaitStart waits until the mirror's log starts are the source's.
func awaitStart(ctx context.Context, t testing.TB, k *Klink, source *kafkatest.Cluster, l chaosLoad) {
	t.Helper()
	cl, through := source.Client(t), kafkatest.NewClient(t, kgo.SeedBrokers(k.Bootstrap()))
	kafkatest.WaitFor(t, 2*time.Minute, "the log starts of "+l.topic, func() (bool, string) {
		want, got := listOffsets(ctx, t, cl, l.topic, l.partitions, -2), listOffsets(ctx, t, through, l.topic, l.partitions, -2)
		return want == got, "the source starts at " + want + ", the mirror at " + got
	})
}

// firstDifference is the place of the first record that is not in both.
func firstDifference(want, got []record) (partition int32, offset int64, differs bool) {
	for i := range max(len(want), len(got)) {
		switch {
		case i >= len(want):
			return got[i].partition, got[i].offset, true
		case i >= len(got) || want[i] != got[i]:
			return want[i].partition, want[i].offset, true
		}
	}
	return 0, 0, false
}
