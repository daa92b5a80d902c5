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

// TestChaos kills instances of klink, brokers of both clusters and connections at random while the
// source is written to, then heals everything and compares every record of every partition with the
// source, through klink, with three clients; and what a fourth was shown meanwhile. Three instances
// share the partitions of each topic.
//
// Environment: CHAOS (a duration) and KLINK_CHAOS_SEED, which replays the schedule of faults and
// the order of what is produced. What the machine makes of them is its own. A run of more than five
// minutes makes more faults, not more records.
func TestChaos(t *testing.T) {
	t.Parallel()
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
		// A transaction whose producer was cut off is aborted soon, so that it holds up the end for
		// a short time only.
		kafkatest.Config("transaction.abort.timed.out.transaction.cleanup.interval.ms", "1000"),
		kafkatest.Config("log.cleaner.backoff.ms", "1000"))
	destination := kafkatest.Start(t, kafkatest.Brokers(3), kafkatest.Heap("320m"), kafkatest.WithFaults())
	ctx, cancel := context.WithTimeout(context.Background(), 3*duration+10*time.Minute)
	defer cancel()
	adm := kadm.NewClient(source.Client(t))
	all := startInstances(t, destination, 3)
	k := all[0]
	createLink(t, k, "east", source, "metadata.max.age.ms=1000")
	mirrored := kadm.NewClient(kafkatest.NewClient(t, kgo.SeedBrokers(k.Bootstrap()), kgo.DialTimeout(5*time.Second)))

	var runs []*chaosRun
	var partitions []topicPartition
	watchers := map[string]*watcher{}
	for i, l := range chaosLoads() {
		for p := range l.partitions {
			partitions = append(partitions, topicPartition{l.topic, p})
		}
		configs := map[string]*string{}
		for name, value := range l.configs {
			configs[name] = &value
		}
		if _, err := adm.CreateTopic(ctx, l.partitions, 1, configs, l.topic); err != nil {
			t.Fatal(err)
		}
		k.MustCLI(t, "topic", "create", l.topic, "--link", "east", "--replication-factor", "3")
		watchers[l.topic] = startWatcher(t, all[i%len(all)], l.topic)
		runs = append(runs, &chaosRun{
			load: l, life: ctx, source: source, mirrored: mirrored, slower: max(1, duration/(5*time.Minute)), rng: rand.New(rand.NewPCG(seed, uint64(i))),
			client: func(opts ...kgo.Opt) *kgo.Client {
				return source.Client(t, append([]kgo.Opt{kgo.DialTimeout(5 * time.Second)}, opts...)...)
			},
		})
	}
	// The last partition of the first topic.
	foreign := newForeignWriter(t, destination, topicPartition{runs[0].load.topic, runs[0].load.partitions - 1})
	t.Cleanup(func() {
		if t.Failed() {
			explainAll(t, k, source, destination, runs)
		}
	})
	working, stopWork := context.WithCancel(ctx)
	var work sync.WaitGroup
	defer work.Wait()
	defer stopWork()
	for _, r := range runs {
		work.Go(func() { r.load.run(working, r) })
	}

	b := newBreaker(source, destination, all, foreign, partitions)
	made := b.run(t, faults, duration)
	for _, k := range all {
		k.MustRun(t)
	}
	stopWork()
	work.Wait()

	sum := chaosSum{}
	for i, r := range runs {
		c := comparison{run: r, watcher: watchers[r.load.topic], k: all[(i+1)%len(all)], source: source, destination: destination}
		c.compare(ctx, t, &sum)
	}
	var kinds []string
	for _, kind := range faultKinds {
		kinds = append(kinds, fmt.Sprintf("%d %s", b.made[kind], kind))
	}
	// Printed in every run, not in those with -v alone.
	fmt.Printf("chaos: %d faults (%s); %d records of %d topics at the source, %d comparisons of one by several clients, %d seen during the faults, "+
		"%d around klink where it is aligned, %d written into a mirror around klink; replay with %s\n",
		made, strings.Join(kinds, ", "), sum.records, len(runs), sum.compared, sum.watched, sum.direct, foreign.written.Load(), replay)
	if made == 0 || sum.compared == 0 || sum.watched == 0 {
		t.Errorf("%d faults, %d records compared, %d seen: nothing was shown", made, sum.compared, sum.watched)
	}
}
