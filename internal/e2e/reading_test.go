package e2e

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"testing"
	"time"

	"klink/internal/kafkatest"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func itoa(n int32) string { return strconv.Itoa(int(n)) }

// The topics that TestExactReading reads.
const (
	aligned = "aligned" // a mirror with the source's offsets
	shifted = "shifted" // a mirror whose offsets are not the source's, and differ by more and more
	plain   = "plain"   // no mirror
)

var readTopics = []string{aligned, shifted, plain}

const readPartitions = 3

// reading is the world of TestExactReading: three topics of three partitions, and what a client of
// klink has to see in them.
type reading struct {
	*exact
	t       *testing.T          // of all parts
	through *servers            // klink
	oracle  map[string]*servers // who has the topic at the offsets that klink shows: the source, or the destination for plain
	want    map[string][]record // committed records
	start   map[string][]int64  // by partition
	end     map[string][]int64
}

// TestExactReading: point 9. Every way to read, in every version, shows the same of a mirror as of
// its source, and of an ordinary topic the same as the brokers show.
func TestExactReading(t *testing.T) {
	t.Parallel()
	r := newReading(t)
	t.Run("fetch", r.fetch)
	t.Run("fetch sessions", r.sessions)
	t.Run("list offsets", r.listOffsets)
	t.Run("epochs and producers", r.epochsAndProducers)
	t.Run("followers", r.followers)
	t.Run("limits", r.limits)
	t.Run("share groups", r.shareGroups)
	t.Run("large responses stream", r.large)
	t.Run("ends in a hole", r.endsInHole)
	t.Run("after a stop", r.afterStop)
}

func newReading(t *testing.T) *reading {
	source := kafkatest.Start(t)
	destination := kafkatest.Start(t, kafkatest.Brokers(3), kafkatest.Racks(),
		kafkatest.Config("max.incremental.fetch.session.cache.slots", "24"), // see noRoom
		kafkatest.Config("fetch.max.bytes", "200000000"),
		kafkatest.Config("broker.session.timeout.ms", "120000")) // no leader moves on a machine that is busy
	e := exactBetween(t, source, destination, "offset.alignment=auto")
	createLink(t, e.k, "west", source, "offset.alignment=off")
	r := &reading{exact: e, t: t, oracle: map[string]*servers{}, want: map[string][]record{}, start: map[string][]int64{}, end: map[string][]int64{}}

	r.createSource(t, aligned, readPartitions)
	r.createSource(t, shifted, readPartitions)
	if _, err := r.dst.CreateTopic(r.ctx, readPartitions, 3, nil, plain); err != nil {
		t.Fatal(err)
	}
	for _, topic := range readTopics {
		c, adm := r.source, r.adm
		if topic == plain {
			c, adm = r.destination, r.dst
		}
		produceVaried(r.ctx, t, c, topic, 0, 60)
		produceVaried(r.ctx, t, c, topic, 2, 20)
		transact(r.ctx, t, c, topic, topic+"-a", readPartitions, 9, 7)
		awaitMarkers(r.ctx, t, adm, topic)
		deleteBefore(r.ctx, t, adm, topic, map[int32]int64{0: 17, 1: 5})
	}
	r.k.MustCLI(t, "topic", "create", aligned, "--link", "east")
	r.k.MustCLI(t, "topic", "create", shifted, "--link", "west")
	for _, topic := range readTopics {
		c, adm := r.source, r.adm
		if topic == plain {
			c, adm = r.destination, r.dst
		}
		r.latest(t, c, topic)
		transact(r.ctx, t, c, topic, topic+"-b", readPartitions, 4, 5) // the last one is committed
		awaitMarkers(r.ctx, t, adm, topic)
	}
	awaitMirror(t, r.k, source, aligned)
	awaitMirror(t, r.k, source, shifted)

	through := kafkatest.NewClient(t, kgo.SeedBrokers(r.k.Bootstrap()))
	r.through = dialServers(r.ctx, t, through, readTopics...)
	atSource := dialServers(r.ctx, t, source.Client(t), aligned, shifted)
	r.oracle = map[string]*servers{aligned: atSource, shifted: atSource, plain: dialServers(r.ctx, t, destination.Client(t), plain)}
	r.know(t, readTopics...)
	return r
}

// latest appends a record whose timestamp is the largest of its partition, whatever comes.
func (r *reading) latest(t *testing.T, c *kafkatest.Cluster, topic string) {
	t.Helper()
	cl := c.Client(t, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	defer cl.Close()
	for p := range int32(readPartitions) {
		rec := &kgo.Record{Topic: topic, Partition: p, Timestamp: time.Now().Add(30 * time.Minute), Value: []byte("latest")}
		if err := cl.ProduceSync(r.ctx, rec).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
}

// bootstrap is where a topic can be read that klink shows as topic, without klink.
func (r *reading) bootstrap(topic string) string {
	if topic == plain {
		return r.destination.Bootstrap()
	}
	return r.source.Bootstrap()
}

// know reads what there is to see of topics, at the oracle.
func (r *reading) know(t *testing.T, topics ...string) {
	t.Helper()
	for _, topic := range topics {
		r.want[topic] = readCommitted(t, r.bootstrap(topic), topic)
		r.start[topic], r.end[topic] = nil, nil
		for p := range int32(readPartitions) {
			r.start[topic] = append(r.start[topic], r.list(t, r.oracle[topic], topic, p, 4, -2).Offset)
			r.end[topic] = append(r.end[topic], r.list(t, r.oracle[topic], topic, p, 4, -1).Offset)
		}
	}
}

// from are the records of a partition from an offset on.
func (r *reading) from(topic string, partition int32, offset int64) (out []record) {
	for _, w := range r.want[topic] {
		if w.partition == partition && w.offset >= offset {
			out = append(out, w)
		}
	}
	return out
}

// fetchRequest asks for one partition, by name and by id.
func fetchRequest(s *servers, topic string, partition int32, offset int64) *kmsg.FetchRequest {
	req := kmsg.NewPtrFetchRequest()
	req.ReplicaID, req.SessionEpoch, req.IsolationLevel = -1, -1, 1
	req.MinBytes, req.MaxBytes = 0, 1<<30
	addFetch(req, s, topic, partition, offset)
	return req
}

func addFetch(req *kmsg.FetchRequest, s *servers, topic string, partition int32, offset int64) {
	rt := kmsg.NewFetchRequestTopic()
	rt.Topic, rt.TopicID = topic, s.id(topic)
	rp := kmsg.NewFetchRequestTopicPartition()
	rp.Partition, rp.FetchOffset, rp.CurrentLeaderEpoch, rp.PartitionMaxBytes = partition, offset, -1, 1<<30
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
}

// records are those of a partition in a Fetch response that a read_committed client gives its user,
// and where it would read on.
func records(topic string, rp *kmsg.FetchResponseTopicPartition, offset int64) (out []record, next int64) {
	fp, next := kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{
		Offset: offset, IsolationLevel: kgo.ReadCommitted(), Topic: topic, Partition: rp.Partition,
	}, rp, kgo.DefaultDecompressor(), nil)
	for _, rec := range fp.Records {
		out = append(out, asRecord(rec))
	}
	return out, next
}

// one is the only partition of a Fetch response.
func one(t *testing.T, what string, resp *kmsg.FetchResponse) *kmsg.FetchResponseTopicPartition {
	t.Helper()
	if resp.ErrorCode != 0 || len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
		t.Fatalf("%s: error %d, %d topics", what, resp.ErrorCode, len(resp.Topics))
	}
	return &resp.Topics[0].Partitions[0]
}

// fetch asks for many offsets of every partition in every version, by name and by id.
func (r *reading) fetch(t *testing.T) {
	some := r.through.leader(plain, 0)
	for _, v := range some.versions(kmsg.Fetch) {
		for _, topic := range readTopics {
			for p := range int32(readPartitions) {
				r.fetchAll(t, topic, p, v)
			}
		}
	}
}

// fetchAll reads one partition from many offsets in one version.
func (r *reading) fetchAll(t *testing.T, topic string, p int32, v int16) {
	t.Helper()
	leader, start, end := r.through.leader(topic, p), r.start[topic][p], r.end[topic][p]
	offsets := []int64{start - 1, start, start + 1, (start + end) / 2, end + 1}
	for o := end - 9; o <= end; o++ {
		offsets = append(offsets, o)
	}
	for _, o := range offsets {
		what := fmt.Sprintf("Fetch v%d of %s-%d at %d", v, topic, p, o)
		rp := one(t, what, ask[*kmsg.FetchResponse](leader, fetchRequest(r.through, topic, p, o), v))
		if o < start || o > end {
			if rp.ErrorCode != kerr.OffsetOutOfRange.Code {
				t.Errorf("%s: error %d, the log goes from %d to %d", what, rp.ErrorCode, start, end)
			}
			continue
		}
		if rp.ErrorCode != 0 || rp.HighWatermark != end || rp.LastStableOffset != end || v >= 5 && rp.LogStartOffset != start {
			t.Errorf("%s: error %d, high watermark %d, last stable offset %d, log start %d; the log goes from %d to %d",
				what, rp.ErrorCode, rp.HighWatermark, rp.LastStableOffset, rp.LogStartOffset, start, end)
		}
		got, _ := records(topic, rp, o)
		assertSame(t, what, r.from(topic, p, o), got)
	}
}

func (r *reading) list(t *testing.T, s *servers, topic string, partition int32, version int16, timestamp int64) kmsg.ListOffsetsResponseTopicPartition {
	t.Helper()
	req := kmsg.NewPtrListOffsetsRequest()
	req.ReplicaID, req.TimeoutMillis = -1, 30000
	rt := kmsg.NewListOffsetsRequestTopic()
	rt.Topic = topic
	rp := kmsg.NewListOffsetsRequestTopicPartition()
	rp.Partition, rp.Timestamp, rp.CurrentLeaderEpoch, rp.MaxNumOffsets = partition, timestamp, -1, 1
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	resp := ask[*kmsg.ListOffsetsResponse](s.leader(topic, partition), req, version)
	if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
		t.Fatalf("ListOffsets v%d of %s-%d: %+v", version, topic, partition, resp)
	}
	return resp.Topics[0].Partitions[0]
}

// listOffsets asks for the special timestamps and for some times in every version.
func (r *reading) listOffsets(t *testing.T) {
	times := []int64{-1, -2, -3, -4, -5, baseTime - 1, baseTime + 18_000, baseTime + 18_500, baseTime + 55_000, time.Now().Add(2 * time.Hour).UnixMilli()}
	since := map[int64]int16{-3: 7, -4: 8, -5: 9}
	for _, v := range r.through.leader(plain, 0).versions(kmsg.ListOffsets) {
		for _, topic := range readTopics {
			for p := range int32(readPartitions) {
				for _, ts := range times {
					if v < since[ts] {
						continue
					}
					want, got := r.list(t, r.oracle[topic], topic, p, v, ts), r.list(t, r.through, topic, p, v, ts)
					want.LeaderEpoch = got.LeaderEpoch // the destination's
					if topic == aligned && ts >= 0 && got.Offset >= 0 && got.Offset <= want.Offset {
						continue // a marker that was written later than at the source
					}
					if fmt.Sprintf("%+v", want) != fmt.Sprintf("%+v", got) {
						t.Errorf("ListOffsets v%d of %s-%d, timestamp %d: %+v, want %+v", v, topic, p, ts, got, want)
					}
				}
			}
		}
	}
}

// epochsAndProducers asks for the end of the leader epoch, and for open transactions, in every
// version.
func (r *reading) epochsAndProducers(t *testing.T) {
	for _, topic := range readTopics {
		for p := range int32(readPartitions) {
			leader, end := r.through.leader(topic, p), r.end[topic][p]
			epoch := r.through.meta.Topics[topic].Partitions[p].LeaderEpoch
			for _, v := range leader.versions(kmsg.OffsetForLeaderEpoch) {
				req := kmsg.NewPtrOffsetForLeaderEpochRequest()
				rt := kmsg.NewOffsetForLeaderEpochRequestTopic()
				rt.Topic = topic
				rp := kmsg.NewOffsetForLeaderEpochRequestTopicPartition()
				rp.Partition, rp.CurrentLeaderEpoch, rp.LeaderEpoch = p, -1, epoch
				rt.Partitions = append(rt.Partitions, rp)
				req.Topics = append(req.Topics, rt)
				got := ask[*kmsg.OffsetForLeaderEpochResponse](leader, req, v).Topics[0].Partitions[0]
				if got.ErrorCode != 0 || got.EndOffset != end || got.LeaderEpoch != epoch {
					t.Errorf("OffsetForLeaderEpoch v%d of %s-%d: %+v, want end %d of epoch %d", v, topic, p, got, end, epoch)
				}
			}
			for _, rp := range r.producers(t, topic, p) {
				if rp.CurrentTxnStartOffset != -1 {
					t.Errorf("DescribeProducers of %s-%d: %+v", topic, p, rp)
				}
			}
		}
	}
}

func (r *reading) producers(t *testing.T, topic string, partition int32) []kmsg.DescribeProducersResponseTopicPartitionActiveProducer {
	t.Helper()
	req := kmsg.NewPtrDescribeProducersRequest()
	rt := kmsg.NewDescribeProducersRequestTopic()
	rt.Topic, rt.Partitions = topic, []int32{partition}
	req.Topics = append(req.Topics, rt)
	got := ask[*kmsg.DescribeProducersResponse](r.through.leader(topic, partition), req, 0).Topics[0].Partitions[0]
	if got.ErrorCode != 0 {
		t.Errorf("DescribeProducers of %s-%d: %+v", topic, partition, got)
	}
	return got.ActiveProducers
}

// sessions holds mirrors and an ordinary topic in one fetch session (KIP-227): partitions are added
// and forgotten, and what is new comes at the offsets that the session remembers. A session that is
// not there is one that is gone.
func (r *reading) sessions(t *testing.T) {
	for _, v := range r.through.leader(plain, 0).versions(kmsg.Fetch) {
		if v < 7 {
			continue
		}
		for _, broker := range slices.Sorted(maps.Keys(r.through.raws)) {
			r.session(t, broker, v)
		}
	}
	r.noRoom(t)
}

// noRoom begins more sessions than the broker keeps. Those that it does not begin are answered in
// full.
func (r *reading) noRoom(t *testing.T) {
	refused := 0
	for n := range 60 {
		req := fetchRequest(r.through, shifted, 0, r.start[shifted][0])
		req.SessionEpoch = 0
		resp := ask[*kmsg.FetchResponse](r.through.leader(shifted, 0), req, 12)
		r.seen(t, fmt.Sprintf("session %d", n), resp, []readPartition{{shifted, 0}})
		if resp.SessionID == 0 {
			refused++
		}
	}
	if refused == 0 {
		t.Error("the broker has room for more sessions than it was told: this is no test")
	}
}

func (r *reading) session(t *testing.T, broker int32, v int16) {
	t.Helper()
	var led []readPartition
	for _, topic := range readTopics {
		for p := range int32(readPartitions) {
			if r.through.meta.Topics[topic].Partitions[p].Leader == broker {
				led = append(led, readPartition{topic, p})
			}
		}
	}
	if len(led) < 2 {
		return
	}
	// A connection of its own: a session belongs to one for klink.
	b := r.through.meta.Brokers[slices.IndexFunc(r.through.meta.Brokers, func(b kadm.BrokerDetail) bool { return b.NodeID == broker })]
	conn := dialRaw(t, b.Host+":"+itoa(b.Port))
	defer conn.conn.Close()
	what := fmt.Sprintf("Fetch v%d at broker %d", v, broker)
	req := fetchRequest(r.through, led[0].topic, led[0].partition, r.start[led[0].topic][led[0].partition])
	req.SessionEpoch = 0
	resp := ask[*kmsg.FetchResponse](conn, req, v)
	r.seen(t, what, resp, led[:1])
	id := resp.SessionID
	if id == 0 {
		t.Fatalf("%s: no session", what)
	}
	next := func(epoch int32, forget *readPartition, add ...readPartition) *kmsg.FetchResponse {
		req := kmsg.NewPtrFetchRequest()
		req.ReplicaID, req.SessionID, req.SessionEpoch, req.IsolationLevel, req.MaxBytes = -1, id, epoch, 1, 1<<30
		for _, tp := range add {
			addFetch(req, r.through, tp.topic, tp.partition, r.start[tp.topic][tp.partition])
		}
		if forget != nil {
			f := kmsg.NewFetchRequestForgottenTopic()
			f.Topic, f.TopicID, f.Partitions = forget.topic, r.through.id(forget.topic), []int32{forget.partition}
			req.ForgottenTopics = append(req.ForgottenTopics, f)
		}
		return ask[*kmsg.FetchResponse](conn, req, v)
	}
	// The first one is not named again, and comes again, as the session remembers its offset.
	r.seen(t, what+", more partitions", next(1, nil, led[1:]...), led)
	r.seen(t, what+", one forgotten", next(2, &led[0]), led[1:])
	r.seen(t, what+", added again", next(3, nil, led[0]), led)
	if resp := next(9, nil); resp.ErrorCode != kerr.InvalidFetchSessionEpoch.Code {
		t.Errorf("%s: a wrong epoch is answered with error %d", what, resp.ErrorCode)
	}
	// Closed, so that there is room for others.
	closing := fetchRequest(r.through, led[0].topic, led[0].partition, r.start[led[0].topic][led[0].partition])
	closing.SessionID = id
	r.seen(t, what+", closed", ask[*kmsg.FetchResponse](conn, closing, v), led[:1])
	if resp := next(4, nil); resp.ErrorCode != kerr.FetchSessionIDNotFound.Code {
		t.Errorf("%s: a session that is gone is answered with error %d", what, resp.ErrorCode)
	}
}

type readPartition struct {
	topic     string
	partition int32
}

// seen checks that a response has all records of just these partitions.
func (r *reading) seen(t *testing.T, what string, resp *kmsg.FetchResponse, want []readPartition) {
	t.Helper()
	if resp.ErrorCode != 0 {
		t.Fatalf("%s: error %d", what, resp.ErrorCode)
	}
	got := map[readPartition]bool{}
	for _, rt := range resp.Topics {
		topic := rt.Topic
		for _, name := range readTopics {
			if topic == "" && r.through.id(name) == rt.TopicID {
				topic = name
			}
		}
		for _, rp := range rt.Partitions {
			tp := readPartition{topic, rp.Partition}
			got[tp] = true
			rs, _ := records(topic, &rp, r.start[topic][rp.Partition])
			assertSame(t, fmt.Sprintf("%s, %v", what, tp), r.from(topic, rp.Partition, 0), rs)
		}
	}
	for _, tp := range want {
		if !got[tp] {
			t.Errorf("%s: nothing of %v", what, tp)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%s: partitions %v, want %v", what, got, want)
	}
}

// followers: a client in the rack of a follower is sent there, and reads the same.
func (r *reading) followers(t *testing.T) {
	for _, topic := range readTopics {
		for p := range int32(readPartitions) {
			detail := r.through.meta.Topics[topic].Partitions[p]
			follower := detail.Replicas[0]
			if follower == detail.Leader {
				follower = detail.Replicas[1]
			}
			for _, v := range r.through.leader(topic, p).versions(kmsg.Fetch) {
				if v < 11 {
					continue
				}
				what := fmt.Sprintf("Fetch v%d of %s-%d from the rack of %d", v, topic, p, follower)
				req := fetchRequest(r.through, topic, p, r.start[topic][p])
				req.Rack = fmt.Sprintf("rack-%d", follower)
				// A follower is preferred once the leader knows that it has the offset.
				kafkatest.WaitFor(t, time.Minute, what, func() (bool, string) {
					rp := one(t, what, ask[*kmsg.FetchResponse](r.through.leader(topic, p), req, v))
					if rp.PreferredReadReplica == -1 {
						return false, "no other replica is preferred"
					}
					return rp.PreferredReadReplica == follower && len(rp.RecordBatches) == 0, fmt.Sprintf("replica %d, %d bytes", rp.PreferredReadReplica, len(rp.RecordBatches))
				})
				rp := one(t, what, ask[*kmsg.FetchResponse](r.through.raws[follower], req, v))
				got, _ := records(topic, rp, r.start[topic][p])
				assertSame(t, what, r.from(topic, p, 0), got)
				if rp.HighWatermark != r.end[topic][p] || rp.LogStartOffset != r.start[topic][p] {
					t.Errorf("%s: from %d to %d, want %d to %d", what, rp.LogStartOffset, rp.HighWatermark, r.start[topic][p], r.end[topic][p])
				}
			}
		}
		rack := fmt.Sprintf("rack-%d", r.destination.Brokers()[1].ID())
		assertSame(t, topic+" by franz-go in "+rack, r.want[topic], readFranzWith(t, topic, kgo.SeedBrokers(r.k.Bootstrap()), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.Rack(rack)))
		assertSame(t, topic+" by librdkafka in "+rack, r.want[topic], readLibrdkafkaWith(t, r.k.Bootstrap(), topic, "-isolation", "read_committed", "client.rack="+rack))
	}
	rack := fmt.Sprintf("rack-%d", r.destination.Brokers()[2].ID())
	assertSame(t, shifted+" by Java in "+rack, r.want[shifted],
		readJavaWith(t, r.k.Bootstrap(), shifted, len(r.want[shifted]), "--isolation-level", "read_committed", "--command-property", "client.rack="+rack))
}

// limits: clients that ask for a byte, or a record, at a time get all records, as the first batch
// comes whole (KIP-74).
func (r *reading) limits(t *testing.T) {
	for _, topic := range readTopics {
		for _, level := range []kgo.IsolationLevel{kgo.ReadCommitted(), kgo.ReadUncommitted()} {
			if topic == plain && level == kgo.ReadUncommitted() {
				continue // shows aborted records
			}
			assertSame(t, topic+" by franz-go, one byte at a time", r.want[topic],
				readFranzWith(t, topic, kgo.SeedBrokers(r.k.Bootstrap()), kgo.FetchIsolationLevel(level), kgo.FetchMaxBytes(1), kgo.FetchMaxPartitionBytes(1), kgo.MaxConcurrentFetches(1)))
		}
		assertSame(t, topic+" by librdkafka, few bytes at a time", r.want[topic],
			readLibrdkafkaWith(t, r.k.Bootstrap(), topic, "-isolation", "read_committed", "fetch.message.max.bytes=1", "message.max.bytes=1000", "fetch.max.bytes=1000"))
	}
	for _, topic := range []string{aligned, shifted} {
		assertSame(t, topic+" by Java, one record at a time", r.want[topic],
			readJavaWith(t, r.k.Bootstrap(), topic, len(r.want[topic]), "--isolation-level", "read_uncommitted", "--command-property", "max.poll.records=1",
				"--command-property", "fetch.max.bytes=1", "--command-property", "max.partition.fetch.bytes=1"))
	}
}
