package load

import (
	"bytes"
	"context"
	"encoding/csv"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"

	"klink/internal/kafkatest"
)

const testTopic = "load"

// testLoad is a short load on an embedded cluster.
func testLoad(t *testing.T, partitions int) (Config, *kfake.Cluster) {
	t.Helper()
	c := kafkatest.Embedded(t, 1, kfake.SeedTopics(int32(partitions), testTopic))
	connect := func(opts ...kgo.Opt) (*kgo.Client, error) {
		return kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(c.ListenAddrs()...)}, opts...)...)
	}
	return Config{
		Topic: testTopic, Run: 7, Starts: make([]int64, partitions), Fresh: true, Rate: 2000, RecordSize: 200, Payload: PayloadRandom,
		Producers: 2, Consumers: 2, Duration: 1500 * time.Millisecond, Drain: 5 * time.Second, DeliveryTimeout: 10 * time.Second,
		Acks: kgo.AllISRAcks(), Compression: kgo.NoCompression(), BatchSize: 16384, Linger: time.Millisecond, Write: connect, Read: connect,
	}, c
}

// TestRun: the rate is kept, everything is read and found whole, the seconds add up, and nothing is
// left running.
func TestRun(t *testing.T) {
	c, _ := testLoad(t, 3)
	leaks := goleak.IgnoreCurrent()
	c.Warmup, c.Compression, c.Payload = 300*time.Millisecond, kgo.Lz4Compression(), PayloadJSON
	var seconds []Second
	var file bytes.Buffer
	out := NewCSV(&file)
	c.OnSecond = func(s Second) {
		seconds = append(seconds, s)
		out.Second(s)
	}
	r, err := Run(t.Context(), c)
	require.NoError(t, err)
	require.True(t, r.Verified, "%+v", r)
	require.Empty(t, r.Errors)
	require.Equal(t, int64(3600), r.Sent+r.Unsent, "%+v", r)
	require.Less(t, r.Unsent, int64(1200), "of a busy machine")
	require.Equal(t, r.Sent, r.Acked)
	require.Equal(t, r.Sent, r.Read)
	require.Equal(t, r.Read, r.Verification.Records)
	require.LessOrEqual(t, r.Ack.Count, r.Acked, "the warm-up does not count")
	require.Positive(t, r.Ack.P50)
	require.GreaterOrEqual(t, r.EndToEnd.Max, r.EndToEnd.P50)
	require.NotEmpty(t, r.EndPercentiles)
	sum, run := Second{}, Second{}
	for _, s := range seconds {
		if s.Phase == PhaseRun {
			run.Sent, run.Length = run.Sent+s.Sent, run.Length+s.Length
		}
		sum.Sent, sum.Acked, sum.Read = sum.Sent+s.Sent, sum.Acked+s.Acked, sum.Read+s.Read
	}
	require.Equal(t, Second{Sent: r.Sent, Acked: r.Acked, Read: r.Read}, sum)
	require.InDelta(t, float64(run.Sent)/run.Length, r.SentPerSecond, 0.01)
	require.InDelta(t, run.Length, r.Seconds, 1e-6)
	require.Equal(t, PhaseWarmup, seconds[0].Phase)
	require.GreaterOrEqual(t, seconds[0].Length, 0.3)
	require.Equal(t, PhaseDrain, seconds[len(seconds)-1].Phase)

	require.NoError(t, out.Err())
	lines, err := csv.NewReader(&file).ReadAll()
	require.NoError(t, err)
	require.Len(t, lines, 1+len(seconds))
	require.Len(t, lines[0], 16)
	for _, line := range lines[1:] {
		for i, field := range line {
			if i != 2 {
				_, err := strconv.ParseFloat(field, 64)
				require.NoError(t, err)
			}
		}
	}
	goleak.VerifyNone(t, leaks)
}

// TestStallShows: a cluster that answers nothing for a while does not slow a producer down to its
// own pace. The producer sends the records that were due in the stall. The wait is in the latency
// of all of them, not only of those that were in flight.
func TestStallShows(t *testing.T) {
	c, cluster := testLoad(t, 1)
	const stall = 600 * time.Millisecond
	c.Rate, c.Producers = 1000, 1
	var began atomic.Int64
	cluster.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		now := time.Now().UnixMilli()
		if !began.CompareAndSwap(0, now) && now-began.Load() > 400 && now-began.Load() < 400+stall.Milliseconds() {
			cluster.SleepControl(func() { time.Sleep(stall) })
		}
		return nil, nil, false
	})
	r, err := Run(t.Context(), c)
	require.NoError(t, err)
	require.True(t, r.Verified, "%+v", r)
	require.GreaterOrEqual(t, r.Sent, int64(1200), "the rate was kept, on a busy machine nearly")
	require.GreaterOrEqual(t, r.Ack.Max, 550.0)
	// Of 1,500 records 600 were due in the stall, and had to wait 300 ms on the average.
	require.Greater(t, r.Ack.Mean, 80.0)
	over := 0.0
	for _, p := range r.AckPercentiles {
		if p.Ms < 100 {
			over = 100 - p.Percentile
		}
	}
	require.GreaterOrEqual(t, over, 25.0, "a third of the records waited 100 ms or more: %v", r.AckPercentiles)
}

// TestAsFastAsPossible: without a rate the buffer bounds the records in flight.
func TestAsFastAsPossible(t *testing.T) {
	c, _ := testLoad(t, 2)
	c.Rate, c.Duration, c.RecordSize = 0, 500*time.Millisecond, 1000
	r, err := Run(t.Context(), c)
	require.NoError(t, err)
	require.True(t, r.Verified, "%+v", r)
	require.Greater(t, r.Sent, int64(5000))
	require.Zero(t, r.Unsent)
}

// TestTooFast: records that were due and not sent are reported.
func TestTooFast(t *testing.T) {
	c, cluster := testLoad(t, 1)
	cluster.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		cluster.SleepControl(func() { time.Sleep(200 * time.Millisecond) })
		return nil, nil, false
	})
	c.RecordSize, c.BatchSize, c.Rate, c.Duration, c.Drain = 1_000_000, 1, 2000, time.Second, 20*time.Second
	r, err := Run(t.Context(), c)
	require.NoError(t, err)
	require.True(t, r.Verified, "%+v", r)
	require.Equal(t, int64(2000), r.Sent+r.Unsent)
	require.Greater(t, r.Unsent, int64(1000))
}

// TestInterrupted: ^C ends the run at once. The records that were sent are still read and compared.
func TestInterrupted(t *testing.T) {
	c, _ := testLoad(t, 2)
	c.Duration = time.Hour
	ctx, cancel := context.WithTimeout(t.Context(), 700*time.Millisecond)
	defer cancel()
	began := time.Now()
	r, err := Run(ctx, c)
	require.NoError(t, err)
	require.True(t, r.Interrupted)
	require.True(t, r.Verified, "%+v", r)
	require.Positive(t, r.Read)
	require.Less(t, r.Unsent, int64(500), "what comes after the end is not missed")
	require.Less(t, time.Since(began), 5*time.Second)
}

// TestRefused: if the cluster rejects a record for good, the run ends with its error.
func TestRefused(t *testing.T) {
	c, cluster := testLoad(t, 1)
	cluster.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		resp := req.ResponseKind().(*kmsg.ProduceResponse)
		for _, topic := range req.(*kmsg.ProduceRequest).Topics {
			rt := kmsg.NewProduceResponseTopic()
			rt.Topic, rt.TopicID = topic.Topic, topic.TopicID
			for _, p := range topic.Partitions {
				rp := kmsg.NewProduceResponseTopicPartition()
				rp.Partition, rp.ErrorCode = p.Partition, kerr.TopicAuthorizationFailed.Code
				rt.Partitions = append(rt.Partitions, rp)
			}
			resp.Topics = append(resp.Topics, rt)
		}
		return resp, nil, true
	})
	c.Duration = time.Hour
	r, err := Run(t.Context(), c)
	var refused *Refused
	require.ErrorAs(t, err, &refused)
	require.ErrorIs(t, err, kerr.TopicAuthorizationFailed)
	require.Equal(t, r.Sent, r.Failed)
	require.Equal(t, r.Failed, r.Verification.Unacknowledged)
	require.Empty(t, r.Verification.Damage)
}

// TestDamageOnTheWay: the run notices a cluster that loses acknowledged records.
func TestDamageOnTheWay(t *testing.T) {
	c, cluster := testLoad(t, 1)
	var lost atomic.Int64
	c.Producers, c.Drain = 1, time.Second
	cluster.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		if lost.Add(1) != 50 {
			return nil, nil, false
		}
		resp := req.ResponseKind().(*kmsg.ProduceResponse)
		for _, topic := range req.(*kmsg.ProduceRequest).Topics {
			rt := kmsg.NewProduceResponseTopic()
			rt.Topic, rt.TopicID = topic.Topic, topic.TopicID
			for _, p := range topic.Partitions {
				rp := kmsg.NewProduceResponseTopicPartition()
				rp.Partition, rp.BaseOffset = p.Partition, 10_000
				rt.Partitions = append(rt.Partitions, rp)
			}
			resp.Topics = append(resp.Topics, rt)
		}
		return resp, nil, true
	})
	c.Acks = kgo.LeaderAck()
	r, err := Run(t.Context(), c)
	require.NoError(t, err)
	require.False(t, r.Verified)
	require.Positive(t, r.Verification.Damage[Missing])
	require.Equal(t, r.Acked-r.Read, r.Verification.Damage[Missing])
}

// TestLargeRecords: a record larger than the broker takes is refused in its words, and one larger
// than a fetch is read.
func TestLargeRecords(t *testing.T) {
	c, _ := testLoad(t, 1)
	c.RecordSize, c.Rate, c.Producers = 60<<20, 1, 1
	_, err := Run(t.Context(), c)
	require.ErrorIs(t, err, kerr.MessageTooLarge)

	c, cluster := testLoad(t, 1)
	max := "100000000"
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	req.Resources = []kmsg.IncrementalAlterConfigsRequestResource{{
		ResourceType: kmsg.ConfigResourceTypeTopic, ResourceName: testTopic,
		Configs: []kmsg.IncrementalAlterConfigsRequestResourceConfig{{Name: "max.message.bytes", Value: &max}},
	}}
	cl := kafkatest.NewClient(t, kgo.SeedBrokers(cluster.ListenAddrs()...))
	resp, err := req.RequestWith(t.Context(), cl)
	require.NoError(t, err)
	require.NoError(t, kerr.ErrorForCode(resp.Resources[0].ErrorCode))
	c.RecordSize, c.Rate, c.Producers = 20<<20, 2, 1
	r, err := Run(t.Context(), c)
	require.NoError(t, err)
	require.True(t, r.Verified, "%+v", r)
	require.Equal(t, int64(3), r.Read+r.Unsent)
	require.Positive(t, r.Read)
}
