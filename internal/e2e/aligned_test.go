package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"klink/internal/kafkatest"
	"klink/protocol/batch"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

// This file has what tests of alignment share: logs that start far from 0, and the comparison that
// goes around klink.

// startLogAt makes the log of an empty partition start, and end, at an offset. It does what klink
// does at a destination: empty records are produced, a million in a batch, and deleted.
func (e *exact) startLogAt(topic string, partition int32, offset int64) error {
	// Produce v11 names topics.
	cl, err := kgo.NewClient(kgo.SeedBrokers(e.source.Bootstrap()), kgo.MaxVersions(kversion.V3_6_0()), kgo.DefaultProduceTopic(topic))
	if err != nil {
		return err
	}
	defer cl.Close()
	for at := int64(0); at < offset; {
		n := min(batch.MaxFiller, offset-at)
		req := kmsg.NewPtrProduceRequest()
		req.Acks, req.TimeoutMillis = -1, 60_000
		rt := kmsg.NewProduceRequestTopic()
		rt.Topic = topic
		rp := kmsg.NewProduceRequestTopicPartition()
		rp.Partition, rp.Records = partition, batch.Filler(nil, int(n), at)
		rt.Partitions = append(rt.Partitions, rp)
		req.Topics = append(req.Topics, rt)
		kresp, err := cl.Request(e.ctx, req)
		if err != nil {
			return err
		}
		p := kresp.(*kmsg.ProduceResponse).Topics[0].Partitions[0]
		if err := kerr.ErrorForCode(p.ErrorCode); err != nil || p.BaseOffset != at {
			return fmt.Errorf("%s-%d: empty records were appended at offset %d instead of %d: %w", topic, partition, p.BaseOffset, at, err)
		}
		at += n
	}
	deleted, err := kadm.NewClient(cl).DeleteRecords(e.ctx, kadm.Offsets{topic: {partition: {Topic: topic, Partition: partition, At: offset}}})
	if err != nil {
		return err
	}
	return deleted.Error()
}

// isolatedReader is a reader with an isolation level.
type isolatedReader struct {
	name string
	read func(t testing.TB, bootstrap, topic string, count int) []record
}

// isolatedReaders are three clients with each isolation level.
func isolatedReaders() []isolatedReader {
	var rs []isolatedReader
	for _, level := range []struct {
		name string
		opt  kgo.IsolationLevel
	}{{"read_committed", kgo.ReadCommitted()}, {"read_uncommitted", kgo.ReadUncommitted()}} {
		rs = append(rs,
			isolatedReader{"franz-go, " + level.name, func(t testing.TB, bootstrap, topic string, _ int) []record {
				return readFranzWith(t, topic, kgo.SeedBrokers(bootstrap), kgo.FetchIsolationLevel(level.opt))
			}},
			isolatedReader{"librdkafka, " + level.name, func(t testing.TB, bootstrap, topic string, _ int) []record {
				return readLibrdkafkaWith(t, bootstrap, topic, "-isolation", level.name)
			}},
			isolatedReader{"java, " + level.name, func(t testing.TB, bootstrap, topic string, count int) []record {
				return readJavaWith(t, bootstrap, topic, count, "--isolation-level", level.name)
			}})
	}
	return rs
}

// wantAligned checks that a caught-up mirror is the source even to those who go to the
// destination's broker: the same records at the same offsets and nothing else, the same log start
// and log end, around klink as through it, for three clients in both isolation levels; and that
// klink says so.
func (e *exact) wantAligned(t *testing.T, topic string, partitions int32) []record {
	t.Helper()
	awaitMirror(t, e.k, e.source, topic)
	want := readCommitted(t, e.source.Bootstrap(), topic)
	ends := listOffsets(e.ctx, t, e.source.Client(t), topic, partitions, -1)
	starts := listOffsets(e.ctx, t, e.source.Client(t), topic, partitions, -2)
	for _, way := range []struct{ name, bootstrap string }{{"around klink", e.destination.Bootstrap()}, {"through klink", e.k.Bootstrap()}} {
		cl := kafkatest.NewClient(t, kgo.SeedBrokers(way.bootstrap))
		if got := listOffsets(e.ctx, t, cl, topic, partitions, -1); got != ends {
			t.Errorf("%s, %s: the logs end at %s, at the source at %s", topic, way.name, got, ends)
		}
		kafkatest.WaitFor(t, time.Minute, topic+" to start where the source's logs start, "+way.name, func() (bool, string) {
			got := listOffsets(e.ctx, t, cl, topic, partitions, -2)
			return got == starts, fmt.Sprintf("at %s instead of %s", got, starts)
		})
		for _, r := range isolatedReaders() {
			assertSame(t, fmt.Sprintf("%s, %s by %s", topic, way.name, r.name), want, r.read(t, way.bootstrap, topic, len(want)))
		}
		cl.Close()
	}
	d, err := describeMirror(t, e.k, topic)
	if err != nil {
		t.Fatal(err)
	}
	if len(d.Partitions) != int(partitions) {
		t.Fatalf("%s is described with %d partitions", topic, len(d.Partitions))
	}
	for _, p := range d.Partitions {
		if !p.Aligned || p.Shift != 0 || p.ShiftBegan != -1 || p.ShiftReason != "" {
			t.Errorf("%s-%d is described as not aligned: %+v", topic, p.Partition, p)
		}
	}
	return want
}

// physicalEnd is where a partition's log ends at the destination's broker.
func (e *exact) physicalEnd(t testing.TB, cl *kgo.Client, topic string, partition int32) int64 {
	t.Helper()
	ends := listOffsets(e.ctx, t, cl, topic, partition+1, -1)
	return atoi(strings.Fields(ends)[partition])
}
