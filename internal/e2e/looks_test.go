package e2e

import (
	"context"
	"sync"
	"testing"
	"time"

	"klink/internal/kafkatest"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

// hundredThousand is how many offsets a hostile request asks for.
const hundredThousand = 100_000

// TestLooksAreForThoseWhoMayRead: klink looks into the log of a mirror with holes with its own
// credentials. A client without rights on the topic costs no look, whatever it sends. One with
// rights costs a bounded number, and none when it sends the same again. Meanwhile a consumer reads
// on through the holes.
func TestLooksAreForThoseWhoMayRead(t *testing.T) {
	t.Parallel()
	const stranger, reader = "stranger", "reader"
	e := newSecured(t, secured{
		topics: []string{"ledger", "closed"}, link: []string{"offset.alignment=off"},
		users: []string{stranger, "stranger-secret", reader, "reader-secret"},
	})
	for topic, partitions := range map[string]int32{"ledger": 3, "closed": 1} {
		e.createSource(t, topic, partitions)
		transact(e.ctx, t, e.source, topic, "tx-"+topic, partitions, 120, 6)
		e.awaitMarkers(t, topic)
		e.mirror(t, topic)
		awaitMirror(t, e.k, e.source, topic)
	}
	e.k.MustCLI(t, "mirror", "failover", "closed")
	awaitMirrorState(t, e.k, "closed", "STOPPED", "")
	rs, err := e.dst.CreateACLs(e.ctx, kadm.NewACLs().Allow("User:"+reader).AllowHosts("*").ResourcePatternType(kadm.ACLPatternLiteral).
		Operations(kmsg.ACLOperationRead, kmsg.ACLOperationDescribe).Topics("ledger"))
	if err != nil || rs[0].Err != nil {
		t.Fatal(err, rs)
	}
	e.k.Kill()
	e.k.Restart() // what the timelines knew is gone
	awaitMirror(t, e.k, e.source, "ledger")

	as := func(user string) *kgo.Client {
		opts := append(e.destination.ClientOpts(user, user+"-secret"), kgo.SeedBrokers(e.k.Bootstrap()), kgo.MaxVersions(kversion.V2_8_0()))
		return kafkatest.NewClient(t, opts...)
	}
	before := probes(t, e.k)
	intruder := as(stranger)
	for range 2 {
		for name, req := range intrusions() {
			code := e.intrude(t, intruder, req)
			if code != kerr.TopicAuthorizationFailed.Code {
				t.Errorf("%s of a stranger is answered with %v", name, kerr.ErrorForCode(code))
			}
			if n := probes(t, e.k) - before; n > 0 {
				t.Errorf("%s of a client without rights: %d looks", name, n)
				before += n
			}
		}
	}

	// A client that may read, with a hundred thousand offsets, over and over. Each of three
	// partitions takes a few looks.
	abuser := as(reader)
	before = probes(t, e.k)
	e.intrude(t, abuser, hostileFetch("ledger", 0))
	first := probes(t, e.k) - before
	if first == 0 || first > 3*40 {
		t.Errorf("%d offsets in 3 partitions cost %d looks", hundredThousand, first)
	}
	before = probes(t, e.k)
	e.intrude(t, abuser, hostileFetch("ledger", 0))
	if n := probes(t, e.k) - before; n > 0 {
		t.Errorf("the same request again costs %d looks", n)
	}
	e.intrude(t, abuser, intrusions()["DeleteRecords"])
	if n := probes(t, e.k) - before; n > 0 {
		t.Errorf("DeleteRecords of a client that may only read: %d looks", n)
	}

	ctx, cancel := context.WithCancel(e.ctx)
	var hostile sync.WaitGroup
	for i := range 3 {
		cl := as(reader)
		hostile.Go(func() {
			for n := i; ctx.Err() == nil; n++ {
				_, _ = cl.SeedBrokers()[0].Request(ctx, hostileFetch("ledger", int64(n)))
			}
		})
	}
	want := readCommitted(t, e.source.Bootstrap(), "ledger")
	for range 3 {
		assertSame(t, "read while others are hostile", want, readCommitted(t, e.k.Bootstrap(), "ledger"))
	}
	for i := 1; i < len(want); i += len(want) / 10 {
		if got := e.firstAt(t, "ledger", want[i].partition, want[i].offset); got != want[i].offset {
			t.Errorf("a consumer that begins at %d of partition %d reads %d", want[i].offset, want[i].partition, got)
		}
	}
	cancel()
	hostile.Wait()
}

// intrusions are requests that make klink look into logs, if it does so for their client.
func intrusions() map[string]kmsg.Request {
	list := kmsg.NewPtrListOffsetsRequest()
	list.ReplicaID = -1
	epoch := kmsg.NewPtrOffsetForLeaderEpochRequest()
	epoch.ReplicaID = -1
	lt, et := kmsg.NewListOffsetsRequestTopic(), kmsg.NewOffsetForLeaderEpochRequestTopic()
	lt.Topic, et.Topic = "ledger", "ledger"
	for p := range int32(3) {
		lp := kmsg.NewListOffsetsRequestTopicPartition()
		lp.Partition, lp.Timestamp = p, 1
		lt.Partitions = append(lt.Partitions, lp)
		ep := kmsg.NewOffsetForLeaderEpochRequestTopicPartition()
		ep.Partition = p
		et.Partitions = append(et.Partitions, ep)
	}
	list.Topics, epoch.Topics = append(list.Topics, lt), append(epoch.Topics, et)
	remove := kmsg.NewPtrDeleteRecordsRequest()
	remove.TimeoutMillis = 5000
	remove.Topics = []kmsg.DeleteRecordsRequestTopic{{Topic: "closed", Partitions: []kmsg.DeleteRecordsRequestTopicPartition{{Offset: 400}}}}
	return map[string]kmsg.Request{
		"Fetch": hostileFetch("ledger", 0), "ListOffsets": list, "OffsetForLeaderEpoch": epoch, "DeleteRecords": remove,
	}
}

// hostileFetch asks for a hundred thousand offsets of three partitions, each time for others with
// another seed.
func hostileFetch(topic string, seed int64) *kmsg.FetchRequest {
	req := kmsg.NewPtrFetchRequest()
	req.ReplicaID, req.SessionEpoch, req.MaxBytes = -1, -1, 1<<20
	rt := kmsg.NewFetchRequestTopic()
	rt.Topic = topic
	for i := range int64(hundredThousand) {
		p := kmsg.NewFetchRequestTopicPartition()
		p.Partition, p.FetchOffset, p.PartitionMaxBytes = int32(i%3), 20+(i*7+seed*13)%230, 1024
		rt.Partitions = append(rt.Partitions, p)
	}
	req.Topics = append(req.Topics, rt)
	return req
}

// intrude sends a request, and gives the first error in its answer.
func (e *exact) intrude(t *testing.T, cl *kgo.Client, req kmsg.Request) (code int16) {
	t.Helper()
	ctx, cancel := context.WithTimeout(e.ctx, 2*time.Minute)
	defer cancel()
	resp, err := cl.SeedBrokers()[0].Request(ctx, req)
	if err != nil {
		t.Fatalf("%s: %v", kmsg.NameForKey(req.Key()), err)
	}
	switch resp := resp.(type) {
	case *kmsg.FetchResponse:
		return resp.Topics[0].Partitions[0].ErrorCode
	case *kmsg.ListOffsetsResponse:
		return resp.Topics[0].Partitions[0].ErrorCode
	case *kmsg.OffsetForLeaderEpochResponse:
		return resp.Topics[0].Partitions[0].ErrorCode
	case *kmsg.DeleteRecordsResponse:
		return resp.Topics[0].Partitions[0].ErrorCode
	}
	t.Fatalf("%T", resp)
	return 0
}

// firstAt is the offset of the first record that a consumer reads which begins at an offset.
func (e *exact) firstAt(t *testing.T, topic string, partition int32, offset int64) int64 {
	t.Helper()
	cl := connect(t, e.k.Bootstrap(), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {partition: kgo.NewOffset().At(offset)}}))
	defer cl.Close()
	ctx, cancel := context.WithTimeout(e.ctx, time.Minute)
	defer cancel()
	for {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			t.Fatal(err)
		}
		if rs := fetches.Records(); len(rs) > 0 {
			return rs[0].Offset
		}
	}
}
