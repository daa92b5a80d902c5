package e2e

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"klink/internal/kafkatest"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// manyByDefault keeps each of the tests below to a minute. A million takes a quarter of an hour.
const manyByDefault = 100_000

// scale is how large the larger topics of the tests below are; KLINK_SCALE=1000000 is a million.
func scale(t testing.TB, byDefault int) int {
	v := os.Getenv("KLINK_SCALE")
	if v == "" {
		return byDefault
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 1000 {
		t.Fatalf("KLINK_SCALE is a number of records, 1000 or more: %q", v)
	}
	return n
}

// maxGrowth is how much more CPU time a mirror of four times the size may take: 4 is linear, 16
// quadratic.
const maxGrowth = 9

// TestMirrorOfManyTransactions: a topic of many transactions of one record, each with a marker
// behind it, is mirrored twice, aligned and not. Both mirrors have every committed record at the
// source's offset, no part of a log costs more than another, and any offset is found with a handful
// of looks into the log.
func TestMirrorOfManyTransactions(t *testing.T) {
	t.Parallel()
	// Worth a JVM at full speed, other than most tests.
	jvm := kafkatest.JVM("-XX:+UseSerialGC", "-XX:-UsePerfData", "-Xshare:auto", "-Xlog:disable")
	source, destination := kafkatest.Start(t, jvm, withoutVerification()), kafkatest.Start(t, jvm)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Minute)
	defer cancel()
	k := StartKlink(t, destination)
	createLink(t, k, "aligned", source)
	createLink(t, k, "shifted", source, "offset.alignment=off")
	m := manyTransactions{topic: "many", partitions: 25, perPartition: scale(t, manyByDefault) / 25, abortedEvery: 100, writers: 1}
	if _, err := kadm.NewClient(source.Client(t)).CreateTopic(ctx, int32(m.partitions), 1, nil, m.topic); err != nil {
		t.Fatal(err)
	}
	kafkatest.WaitFor(t, time.Minute, "leaders of "+m.topic, func() (bool, string) {
		ends := listOffsets(ctx, t, source.Client(t), m.topic, int32(m.partitions), -1)
		return !strings.Contains(ends, "error"), ends
	})
	start := time.Now()
	m.write(ctx, t, source)
	fmt.Printf("%d transactions of one record in %d partitions, every %dth aborted: made at %.0f/s\n",
		m.total(), m.partitions, m.abortedEvery, float64(m.total())/time.Since(start).Seconds())
	want := m.read(ctx, t, source.Bootstrap())

	for _, link := range []string{"aligned", "shifted"} {
		t.Run(link, func(t *testing.T) {
			if link == "shifted" {
				k.MustCLI(t, "topic", "delete", m.topic)
			}
			pids := map[string]int{"klink": k.PID(t), "its destination": destination.Brokers()[0].PID()}
			p := startProgress(t, k, link, pids)
			k.MustCLI(t, "topic", "create", m.topic, "--link", link)
			p.follow(t, m.partitions*m.committed())
			awaitMirrorFor(t, k, source, m.topic, 15*time.Minute)
			fmt.Printf("%s: mirrored at %s\n", link, p)
			p.assertLinear(t)
			if got := m.read(ctx, t, k.Bootstrap()); got != want {
				t.Errorf("the records of the mirror are others than the source's: digest %x, want %x", got, want)
			}
			d, err := describeMirror(t, k, m.topic)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range d.Partitions {
				if p.Aligned != (link == "aligned") || p.MirrorEndOffset != int64(2*m.perPartition) {
					t.Errorf("%+v", p)
				}
			}
			if link == "aligned" {
				if got := m.read(ctx, t, destination.Bootstrap()); got != want {
					t.Errorf("around klink the records are others than the source's: digest %x, want %x", got, want)
				}
				return
			}
			k.Restart() // what was learned while mirroring is forgotten
			m.seek(ctx, t, k)
		})
	}
}

// manyProbes is how many looks into a log a seek may take. They halve what is not known, and do
// better where holes are even.
const manyProbes = 17

// seek reads from offsets all over the topic, records, markers and aborted ones, and counts the
// looks that klink takes.
func (m manyTransactions) seek(ctx context.Context, t testing.TB, k *Klink) {
	t.Helper()
	const seeks = 72
	most, all, last := 0, 0, probes(t, k)
	for n := range seeks {
		partition, at := int32(n%m.partitions), int64(n*(2*m.perPartition-2)/seeks)
		i := int(at+1) / 2 // the first record at or behind it
		if m.aborted(i) {
			i++
		}
		cl := kafkatest.NewClient(t, kgo.SeedBrokers(k.Bootstrap()), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.FetchMaxPartitionBytes(8<<10),
			kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{m.topic: {partition: kgo.NewOffset().At(at)}}))
		rs := cl.PollFetches(ctx).Records()
		cl.Close()
		if len(rs) == 0 || rs[0].Offset != int64(2*i) || string(rs[0].Value) != m.value(partition, i) {
			t.Errorf("a seek to %d of partition %d gave %d records, the first %+v", at, partition, len(rs), rs)
		}
		now := probes(t, k)
		most, all, last = max(most, now-last), all+now-last, now
	}
	fmt.Printf("shifted: %d seeks with %.1f looks into the log on average, %d at most\n", seeks, float64(all)/seeks, most)
	if most > manyProbes || all == 0 {
		t.Errorf("a seek took %d looks into the log, all %d took %d", most, seeks, all)
	}
}

// probes is how often klink has looked into the logs of mirrors for an offset.
func probes(t testing.TB, k *Klink) int { return int(k.metric(t, "klink_proxy_probes_total")) }

// TestMirrorOfManyKeys mirrors compacted topics with as many keys as records, some of them written
// twice.
func TestMirrorOfManyKeys(t *testing.T) {
	t.Parallel()
	source, destination := kafkatest.Start(t, kafkatest.Heap("512m")), kafkatest.Start(t)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Minute)
	defer cancel()
	k := StartKlink(t, destination)
	createLink(t, k, "east", source)
	adm := kadm.NewClient(source.Client(t))
	large := scale(t, manyByDefault)
	var cost []time.Duration
	for _, size := range []struct {
		topic string
		n     int
	}{{"small", large / 4}, {"large", large}} {
		compact := "compact"
		if _, err := adm.CreateTopic(ctx, 2, 1, map[string]*string{"cleanup.policy": &compact}, size.topic); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		cl := source.Client(t, kgo.ProducerBatchCompression(kgo.Lz4Compression()), kgo.ProducerLinger(5*time.Millisecond))
		for i := range size.n {
			key := i
			if i%10 == 9 {
				key = i / 2
			}
			cl.Produce(ctx, &kgo.Record{Topic: size.topic, Partition: int32(key % 2), Key: fmt.Appendf(nil, "key %d", key), Value: fmt.Append(nil, i)}, func(_ *kgo.Record, err error) {
				if err != nil {
					t.Error(err)
				}
			})
		}
		if err := cl.Flush(ctx); err != nil {
			t.Fatal(err)
		}
		made := time.Since(start)
		before, start := cpuTime(t, k.PID(t)), time.Now()
		k.MustCLI(t, "topic", "create", size.topic, "--link", "east")
		awaitMirrorFor(t, k, source, size.topic, 15*time.Minute)
		took := time.Since(start)
		cost = append(cost, cpuTime(t, k.PID(t))-before)
		fmt.Printf("%d records of a compacted topic: made at %.0f/s, mirrored at %.0f/s with %v of CPU time\n", size.n,
			float64(size.n)/made.Seconds(), float64(size.n)/took.Seconds(), cost[len(cost)-1].Round(10*time.Millisecond))
		ends := listOffsets(ctx, t, kafkatest.NewClient(t, kgo.SeedBrokers(k.Bootstrap())), size.topic, 2, -1)
		if want := listOffsets(ctx, t, source.Client(t), size.topic, 2, -1); ends != want {
			t.Errorf("%s: the source ends at %s, the mirror at %s", size.topic, want, ends)
		}
	}
	if cost[1] > maxGrowth*cost[0] {
		t.Errorf("four times the keys cost %v of CPU time, not four times %v", cost[1], cost[0])
	}
}

// cpuTime is the CPU time that a process has used, in user and kernel mode.
func cpuTime(t testing.TB, pid int) time.Duration {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 13 {
		t.Fatalf("stat: %q", stat)
	}
	user, err1 := strconv.ParseInt(fields[11], 10, 64)
	system, err2 := strconv.ParseInt(fields[12], 10, 64)
	if err1 != nil || err2 != nil {
		t.Fatalf("stat: %q", stat)
	}
	return time.Duration(user+system) * (time.Second / 100) // USER_HZ is 100 on Linux
}

// awaitMirrorFor is awaitMirror for what may take long.
func awaitMirrorFor(t testing.TB, k *Klink, source *kafkatest.Cluster, topic string, timeout time.Duration) {
	t.Helper()
	ends, err := kadm.NewClient(source.Client(t)).ListEndOffsets(context.Background(), topic)
	if err != nil {
		t.Fatal(err)
	}
	kafkatest.WaitFor(t, timeout, "mirror "+topic+" to have everything", func() (bool, string) {
		d, err := describeMirror(t, k, topic)
		if err != nil {
			return false, err.Error()
		}
		if d.State == "FAILED" {
			t.Fatalf("%+v", d)
		}
		for _, p := range d.Partitions {
			if end, ok := ends.Lookup(topic, p.Partition); !ok || p.MirrorEndOffset != end.Offset {
				return false, fmt.Sprintf("%+v, the source ends at %+v", d, end)
			}
		}
		return len(d.Partitions) == len(ends[topic]), fmt.Sprintf("%+v", d)
	})
}
