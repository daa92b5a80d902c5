package e2e

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"klink/internal/kafkatest"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestOffsetsAreTheSources mirrors a topic whose log does not start at 0 and asks three clients,
// the list of offsets, and a group's lag, through klink: all must speak in the source's offsets.
//
// Partition 0 starts in the middle of a batch, partition 1 at a batch, partition 2 has lost every
// record, partition 3 has lost none, partition 4 never had one.
func TestOffsetsAreTheSources(t *testing.T) {
	t.Parallel()
	source, destination := kafkatest.Start(t), kafkatest.Start(t)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	const topic = "orders"
	cl := source.Client(t, kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.DefaultProduceTopic(topic))
	adm := kadm.NewClient(cl)
	if _, err := adm.CreateTopic(ctx, 5, 1, nil, topic); err != nil {
		t.Fatal(err)
	}
	produceVaried(ctx, t, source, topic, 0, 300)
	produceVaried(ctx, t, source, topic, 1, 200)
	produceVaried(ctx, t, source, topic, 2, 100)
	produceVaried(ctx, t, source, topic, 3, 50)
	deleteBefore(ctx, t, adm, topic, map[int32]int64{0: 105, 1: 80, 2: 100})

	k := StartKlink(t, destination)
	createLink(t, k, "east", source)
	k.MustCLI(t, "topic", "create", topic, "--link", "east", "--mirror-topic", topic)
	want := readFranz(t, source.Bootstrap(), topic, 0)
	if len(want) != 195+120+50 {
		t.Fatalf("the source has %d records", len(want))
	}
	awaitMirror(t, k, source, topic)

	for _, r := range readers() {
		t.Run("read by "+r.name, func(t *testing.T) {
			assertSame(t, r.name, want, r.read(t, k.Bootstrap(), topic, len(want)))
		})
	}
	mirror := kadm.NewClient(kafkatest.NewClient(t, kgo.SeedBrokers(k.Bootstrap())))
	t.Run("ListOffsets", func(t *testing.T) {
		for _, ts := range []int64{-1, -2, -3, 0, baseTime, baseTime + 150_000, baseTime + 299_000, baseTime + 1_000_000_000} {
			w, g := listOffsets(ctx, t, cl, topic, 5, ts), listOffsets(ctx, t, kafkatest.NewClient(t, kgo.SeedBrokers(k.Bootstrap())), topic, 5, ts)
			if ts == -3 {
				// Asked for the largest timestamp of a log whose records were all deleted, a broker
				// may still name one of them, below its own log start. A mirror has none (-1), or
				// had only fillers, of which none is shown: then it is the log start.
				w = strings.Replace(w, " 99 ", " deleted ", 1)
				g = strings.NewReplacer(" -1 49", " deleted 49", " 100 49", " deleted 49").Replace(g)
			}
			if w != g {
				t.Errorf("timestamp %d: the source says %s, the mirror %s", ts, w, g)
			}
		}
	})
	t.Run("a consumer below the log start is told OFFSET_OUT_OF_RANGE", func(t *testing.T) {
		c := kafkatest.NewClient(t, kgo.SeedBrokers(k.Bootstrap()), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{
			topic: {0: kgo.NewOffset().At(104)},
		}), kgo.ConsumeResetOffset(kgo.NoResetOffset()))
		var got error
		for got == nil && ctx.Err() == nil {
			f := c.PollFetches(ctx)
			f.EachRecord(func(r *kgo.Record) { t.Fatalf("got a record at %d", r.Offset) })
			f.EachError(func(_ string, _ int32, err error) { got = err })
		}
		if got == nil || !strings.Contains(got.Error(), "OFFSET_OUT_OF_RANGE") {
			t.Fatalf("got %v", got)
		}
	})
	t.Run("a seek lands on its offset", func(t *testing.T) {
		for _, at := range []int64{105, 106, 150, 299} {
			c := kafkatest.NewClient(t, kgo.SeedBrokers(k.Bootstrap()), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().At(at)}}))
			rs := c.PollFetches(ctx).Records()
			if len(rs) == 0 || rs[0].Offset != at {
				t.Errorf("seek to %d gave %d records, the first %+v", at, len(rs), rs)
			}
			c.Close()
		}
	})
	t.Run("commit and lag", func(t *testing.T) {
		librdkafka(t, "", "commit", "-b", k.Bootstrap(), "-t", topic, "-g", "billing", "-n", "40")
		committed, err := mirror.FetchOffsets(ctx, "billing")
		if err != nil {
			t.Fatal(err)
		}
		lags := groupLag(t, k.Bootstrap(), "billing")
		n := 0
		committed.Each(func(o kadm.OffsetResponse) {
			n++
			ends := listOffsets(ctx, t, cl, topic, 5, -1)
			end, _ := strconv.ParseInt(strings.Fields(ends)[o.Partition], 10, 64)
			if w := fmt.Sprintf("%d %d %d", o.At, end, end-o.At); lags[o.Partition] != w {
				t.Errorf("partition %d: kafka-consumer-groups says %q, want %q", o.Partition, lags[o.Partition], w)
			}
			// librdkafka read from the source's log start, so a commit lies between it and the end.
			if starts := strings.Fields(listOffsets(ctx, t, cl, topic, 5, -2)); o.At <= atoi(starts[o.Partition]) || o.At > end {
				t.Errorf("partition %d: committed %d, start %s, end %d", o.Partition, o.At, starts[o.Partition], end)
			}
		})
		if n == 0 {
			t.Fatal("nothing was committed")
		}
	})
	t.Run("the source's log start is followed", func(t *testing.T) {
		deleteBefore(ctx, t, adm, topic, map[int32]int64{0: 200, 3: 10})
		kafkatest.WaitFor(t, time.Minute, "the mirror's log start to follow", func() (bool, string) {
			w, g := listOffsets(ctx, t, cl, topic, 5, -2), listOffsets(ctx, t, kafkatest.NewClient(t, kgo.SeedBrokers(k.Bootstrap())), topic, 5, -2)
			return w == g, "source " + w + ", mirror " + g
		})
	})
}

// baseTime is the timestamp of the first record of produceVaried: an hour ago, so that retention
// leaves it alone.
var baseTime = time.Now().Add(-time.Hour).Truncate(time.Second).UnixMilli()

// produceVaried produces n records in batches of up to 10 with alternating codecs, null keys and
// headers, one second apart from baseTime on.
func produceVaried(ctx context.Context, t testing.TB, c *kafkatest.Cluster, topic string, partition int32, n int) {
	t.Helper()
	codecs := []kgo.CompressionCodec{kgo.NoCompression(), kgo.GzipCompression(), kgo.SnappyCompression(), kgo.Lz4Compression(), kgo.ZstdCompression()}
	for at := 0; at < n; at += 50 {
		cl := c.Client(t, kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(codecs[at/50%len(codecs)]),
			kgo.ProducerLinger(10*time.Millisecond))
		for i := at; i < min(at+50, n); i += 10 {
			var rs []*kgo.Record
			for j := i; j < min(i+10, n); j++ {
				r := &kgo.Record{
					Topic: topic, Partition: partition, Timestamp: time.UnixMilli(baseTime + int64(j)*1000),
					Key: fmt.Appendf(nil, "k%d", j), Value: fmt.Appendf(nil, "value %d of partition %d %s", j, partition, strings.Repeat("x", j%97)),
				}
				if j%7 == 0 {
					r.Key = nil
				}
				if j%5 == 0 {
					r.Headers = []kgo.RecordHeader{{Key: "n", Value: fmt.Appendf(nil, "%d", j)}, {Key: "trace", Value: []byte("abc")}}
				}
				rs = append(rs, r)
			}
			if err := cl.ProduceSync(ctx, rs...).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
		cl.Close()
	}
}

func deleteBefore(ctx context.Context, t testing.TB, adm *kadm.Client, topic string, at map[int32]int64) {
	t.Helper()
	offsets := kadm.Offsets{}
	for p, o := range at {
		offsets.AddOffset(topic, p, o, -1)
	}
	rs, err := adm.DeleteRecords(ctx, offsets)
	if err != nil {
		t.Fatal(err)
	}
	rs.Each(func(r kadm.DeleteRecordsResponse) {
		if r.Err != nil {
			t.Fatal(r.Err)
		}
	})
}

// listOffsets asks for one timestamp and gives the offsets of all partitions, separated by spaces.
func listOffsets(ctx context.Context, t testing.TB, cl *kgo.Client, topic string, partitions int32, timestamp int64) string {
	t.Helper()
	out, err := tryListOffsets(ctx, cl, topic, partitions, timestamp)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// tryListOffsets is listOffsets where a request may fail; the error of a single partition stands in
// place of its offset.
func tryListOffsets(ctx context.Context, cl *kgo.Client, topic string, partitions int32, timestamp int64) (string, error) {
	req := kmsg.NewPtrListOffsetsRequest()
	req.ReplicaID = -1
	rt := kmsg.NewListOffsetsRequestTopic()
	rt.Topic = topic
	for p := range partitions {
		rp := kmsg.NewListOffsetsRequestTopicPartition()
		rp.Partition, rp.Timestamp, rp.CurrentLeaderEpoch = p, timestamp, -1
		rt.Partitions = append(rt.Partitions, rp)
	}
	req.Topics = append(req.Topics, rt)
	out := make([]string, partitions)
	for _, shard := range cl.RequestSharded(ctx, req) {
		if shard.Err != nil {
			return "", shard.Err
		}
		for _, rt := range shard.Resp.(*kmsg.ListOffsetsResponse).Topics {
			for _, rp := range rt.Partitions {
				out[rp.Partition] = fmt.Sprint(rp.Offset)
				if rp.ErrorCode != 0 {
					out[rp.Partition] = fmt.Sprintf("error %d", rp.ErrorCode)
				}
			}
		}
	}
	return strings.Join(out, " "), nil
}

var spaces = regexp.MustCompile(`\s+`)

// groupLag is "committed end lag" by partition, as kafka-consumer-groups shows it.
func groupLag(t testing.TB, bootstrap, group string, args ...string) map[int32]string {
	t.Helper()
	out, err := kafkatest.JavaTool(t, "", "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
		append([]string{"--bootstrap-server", bootstrap, "--describe", "--group", group}, args...)...)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	lags := map[int32]string{}
	for line := range strings.Lines(out) {
		f := spaces.Split(strings.TrimSpace(line), -1)
		if len(f) >= 6 && f[0] == group {
			lags[int32(atoi(f[2]))] = strings.Join(f[3:6], " ")
		}
	}
	return lags
}

func atoi(s string) int64 {
	n, _ := strconv.ParseInt(s, 10, 64)
	return n
}
