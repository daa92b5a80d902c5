package e2e

import (
	"bytes"
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"klink/internal/kafkatest"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestExactDurable: point 12, at a destination of three brokers. What klink has confirmed survives
// the loss of leaders, what it has not confirmed is found out, and no append is seen twice, however
// late it comes.
func TestExactDurable(t *testing.T) {
	t.Parallel()
	source := kafkatest.Start(t)
	destination := kafkatest.Start(t, kafkatest.Brokers(3), kafkatest.WithFaults(), kafkatest.Heap("256m"))
	d := &durable{exactBetween(t, source, destination)}
	t.Run("leaders die and move under load", d.leaders)
	t.Run("answers are lost and requests come late", d.uncertain)
	t.Run("a request that comes after the stop", d.afterStop)
	t.Run("too few replicas in sync", d.tooFew)
	t.Run("what a leader alone has is not confirmed", d.leaderAlone)
}

type durable struct{ *exact }

// mirrorOf creates a topic at the source and its mirror.
func (d *durable) mirrorOf(t *testing.T, topic string, partitions int32, replication int) {
	t.Helper()
	d.createSource(t, topic, partitions)
	d.k.MustCLI(t, "topic", "create", topic, "--link", "east", "--replication-factor", strconv.Itoa(replication))
	awaitMirror(t, d.k, d.source, topic)
}

func (d *durable) awaitInSync(t *testing.T) {
	t.Helper()
	kafkatest.WaitFor(t, 2*time.Minute, "all replicas to be in sync", func() (bool, string) { return d.destination.InSync(d.ctx) })
}

func (d *durable) leader(t *testing.T, topic string, partition int32) (leader *kafkatest.Broker) {
	t.Helper()
	kafkatest.WaitFor(t, time.Minute, "a leader of "+topic, func() (bool, string) {
		var err error
		leader, err = d.destination.Leader(d.ctx, topic, partition)
		return err == nil && leader != nil, fmt.Sprint(err)
	})
	return leader
}

// ends are the ends of the mirror that klink confirms.
func (d *durable) ends(t *testing.T, topic string) map[int32]int64 {
	t.Helper()
	desc, err := describeMirror(t, d.k, topic)
	if err != nil {
		t.Fatal(err)
	}
	ends := map[int32]int64{}
	for _, p := range desc.Partitions {
		ends[p.Partition] = p.MirrorEndOffset
	}
	return ends
}

// awaitBeyond waits until every partition has n records more than it had.
func (d *durable) awaitBeyond(t *testing.T, topic string, had map[int32]int64, n int64) {
	t.Helper()
	kafkatest.WaitFor(t, 2*time.Minute, "every partition of "+topic+" to go on", func() (bool, string) {
		desc, err := describeMirror(t, d.k, topic)
		if err != nil {
			return false, err.Error()
		}
		for _, p := range desc.Partitions {
			if p.MirrorEndOffset < had[p.Partition]+n {
				return false, fmt.Sprintf("%+v, had %v", desc, had)
			}
		}
		return len(desc.Partitions) == len(had), fmt.Sprintf("%+v", desc)
	})
}

func (d *durable) leaders(t *testing.T) {
	const topic = "busy"
	d.mirrorOf(t, topic, 3, 3)
	f := d.feed(t, topic, 3)
	for round := range int32(2) {
		f.awaitAcked(t, 300)
		leader := d.leader(t, topic, round)
		confirmed := d.ends(t, topic)
		leader.Kill()
		d.awaitBeyond(t, topic, confirmed, 50)
		below := func(rs []record) []record {
			return slices.DeleteFunc(rs, func(r record) bool { return r.offset >= confirmed[r.partition] })
		}
		assertSame(t, fmt.Sprintf("what was confirmed before death %d", round), below(readFranz(t, d.source.Bootstrap(), topic, 0)), below(readFranz(t, d.k.Bootstrap(), topic, 0)))
		leader.Restart(t)
		d.awaitInSync(t)

		// Leaders move in good order, too: replicas are ordered anew, and the first of them
		// elected.
		moved := d.ends(t, topic)
		var assign kadm.AlterPartitionAssignmentsReq
		for p := range int32(3) {
			assign.Assign(topic, p, []int32{(p+round)%3 + 1, (p+round+1)%3 + 1, (p+round+2)%3 + 1})
		}
		if rs, err := d.dst.AlterPartitionAssignments(d.ctx, assign); err != nil || rs.Error() != nil {
			t.Fatal(err, rs.Error())
		}
		for p := range int32(3) {
			kafkatest.WaitFor(t, time.Minute, "the preferred leader", func() (bool, string) {
				_, err := d.dst.ElectLeaders(d.ctx, kadm.ElectPreferredReplica, kadm.TopicsSet{topic: {p: {}}})
				l := d.leader(t, topic, p)
				return l.ID() == int(p+round)%3+1, fmt.Sprintf("broker %d leads partition %d, %v", l.ID(), p, err)
			})
		}
		d.awaitBeyond(t, topic, moved, 50)
	}
	f.stop()
	got := d.compare(t, topic, 3)
	d.shows(t, topic, 0)
	t.Logf("%d records after two deaths and two moves of all leaders", len(got))
}

// feed produces batches of a few records to all partitions in turn, until it is stopped.
func (d *durable) feed(t *testing.T, topic string, partitions int32) *feed {
	t.Helper()
	f := &feed{}
	ctx, cancel := context.WithCancel(d.ctx)
	done := make(chan struct{})
	cl := d.source.Client(t, kgo.DefaultProduceTopic(topic))
	go func() {
		defer close(done)
		for i := int32(0); ctx.Err() == nil; i++ {
			var rs []*kgo.Record
			for n := range 5 {
				rs = append(rs, &kgo.Record{Partition: i % partitions, Key: fmt.Append(nil, i), Value: fmt.Appendf(nil, "%d of %d", n, i)})
			}
			if err := cl.ProduceSync(d.ctx, rs...).FirstErr(); err != nil {
				t.Error(err)
				return
			}
			f.acked.Add(5)
			time.Sleep(5 * time.Millisecond) // a rate, not a wait
		}
	}()
	f.stop = func() { cancel(); <-done }
	t.Cleanup(f.stop)
	return f
}

// shows checks how many void offsets klink has found in the mirrors of its links, and has described
// the one of a topic.
func (d *durable) shows(t *testing.T, topic string, atLeast int64) {
	t.Helper()
	if _, err := describeMirror(t, d.k, topic); err != nil {
		t.Fatal(err)
	}
	void, _ := d.k.sumOf(t, "klink_mirror_void_offsets_total", "")
	t.Logf("%s: %v offsets are void", topic, void)
	if void < float64(atLeast) {
		t.Errorf("%v void offsets were found in %s, want at least %d", void, topic, atLeast)
	}
}

// produceSeen tells when a request that holds the text has come by: an append of klink's, if nobody
// else writes the text there.
func produceSeen(f *kafkatest.Faults, text string) *atomic.Bool {
	seen := &atomic.Bool{}
	f.Watch(func(b []byte) {
		if bytes.Contains(b, []byte(text)) {
			seen.Store(true)
		}
	})
	return seen
}

var settledMetric = regexp.MustCompile(`(?m)^klink_link_append_settled_total\{[^}]*\} (\S+)$`)

func (d *durable) settled(t *testing.T) float64 {
	t.Helper()
	m := settledMetric.FindStringSubmatch(d.k.Metrics(t))
	if m == nil {
		return 0
	}
	n, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// say appends records with a text to a topic of the source, uncompressed, so that they can be
// recognised on a wire.
func (d *durable) say(t *testing.T, topic, text string, n int) {
	t.Helper()
	cl := d.source.Client(t, kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.DefaultProduceTopic(topic), kgo.ProducerLinger(5*time.Millisecond))
	defer cl.Close()
	var rs []*kgo.Record
	for i := range n {
		rs = append(rs, &kgo.Record{Value: fmt.Appendf(nil, "%s %d", text, i), Timestamp: time.UnixMilli(baseTime + int64(i))})
	}
	if err := cl.ProduceSync(d.ctx, rs...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// produceConnections is how many connections klink appends over at each broker, unless it is told
// otherwise.
const produceConnections = 3

// hold stalls f so that it keeps the request, or the answer, of an append of klink's with the text.
// An append that needs a new connection is held before it is sent; then it is let go, and another
// one tried.
func (d *durable) hold(t *testing.T, f *kafkatest.Faults, stall func(), topic, text string, n int) {
	t.Helper()
	t.Cleanup(func() {
		f.Watch(nil)
		f.Resume()
		f.Unstrand()
	})
	seen := produceSeen(f, text)
	for range 10 {
		// Appends take turns over klink's connections to the broker, each of which is opened by the
		// first one.
		for range 2 * produceConnections {
			d.say(t, topic, "warm", 1)
			awaitMirror(t, d.k, d.source, topic)
		}
		stall()
		d.say(t, topic, text, n)
		for until := time.Now().Add(3 * time.Second); time.Now().Before(until); {
			if seen.Load() {
				f.Watch(nil)
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		f.Reset()
		f.Resume()
		awaitMirror(t, d.k, d.source, topic)
		seen.Store(false)
	}
	t.Fatalf("klink has not sent %q to the broker", text)
}

func (d *durable) uncertain(t *testing.T) {
	const topic = "cut"
	d.mirrorOf(t, topic, 1, 3)
	d.say(t, topic, "begin", 5)
	awaitMirror(t, d.k, d.source, topic)
	before := d.settled(t)
	for i := range 6 {
		f := d.leader(t, topic, 0).Faults()
		text := fmt.Sprintf("uncertain %d", i)
		switch i % 3 {
		case 0: // appended, or about to be, and not answered
			d.hold(t, f, f.StallAnswers, topic, text, 3)
			f.Reset()
			f.Resume()
			awaitMirror(t, d.k, d.source, topic)
		case 1: // never arrives
			d.hold(t, f, f.StallRequests, topic, text, 3)
			f.Reset()
			f.Resume()
			awaitMirror(t, d.k, d.source, topic)
		case 2: // arrives when klink has appended once more
			d.hold(t, f, f.StallRequests, topic, text, 3)
			f.Strand()
			awaitMirror(t, d.k, d.source, topic)
			end := d.logEnd(t, topic)
			f.Unstrand()
			kafkatest.WaitFor(t, time.Minute, "the late request to be carried out", func() (bool, string) {
				now := d.logEnd(t, topic)
				return now >= end+3, fmt.Sprint(now)
			})
			if i == 2 { // a reader meets it before klink does
				assertSame(t, topic+" with a double at its end", readCommitted(t, d.source.Bootstrap(), topic), readLibrdkafka(t, d.k.Bootstrap(), topic, 0))
			}
		}
	}
	d.say(t, topic, "end", 5)
	d.compare(t, topic, 1)
	if n := d.settled(t) - before; n < 6 {
		t.Errorf("%v appends were settled by reading the log, want at least 6", n)
	}
	d.shows(t, topic, 6)
}

// logEnd is where the log of partition 0 of a topic at the destination ends, committed or not.
func (d *durable) logEnd(t *testing.T, topic string) int64 {
	t.Helper()
	end, err := logEndAt(d.ctx, d.destination.Client(t, kgo.SeedBrokers(d.leader(t, topic, 0).Addr())), topic)
	if err != nil {
		t.Fatal(err)
	}
	return end
}

// logEndAt asks the seed broker of a client, as the debugging replica does.
func logEndAt(ctx context.Context, cl *kgo.Client, topic string) (int64, error) {
	req := kmsg.NewPtrListOffsetsRequest()
	req.ReplicaID = -2
	rt := kmsg.NewListOffsetsRequestTopic()
	rt.Topic = topic
	rp := kmsg.NewListOffsetsRequestTopicPartition()
	rp.Timestamp, rp.CurrentLeaderEpoch = -1, -1
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	resp, err := cl.SeedBrokers()[0].Request(ctx, req)
	if err != nil {
		return 0, err
	}
	p := resp.(*kmsg.ListOffsetsResponse).Topics[0].Partitions[0]
	return p.Offset, kerr.ErrorForCode(p.ErrorCode)
}

func (d *durable) afterStop(t *testing.T) {
	const topic = "late"
	d.mirrorOf(t, topic, 1, 3)
	d.say(t, topic, "begin", 5)
	awaitMirror(t, d.k, d.source, topic)
	f := d.leader(t, topic, 0).Faults()
	d.hold(t, f, f.StallRequests, topic, "too late", 3)
	f.Strand()
	d.k.MustCLI(t, "mirror", "failover", topic)
	awaitMirrorState(t, d.k, topic, "STOPPED", "")
	cl := kafkatest.NewClient(t, kgo.SeedBrokers(d.k.Bootstrap()), kgo.DefaultProduceTopic(topic))
	own := func(text string) record {
		t.Helper()
		r, err := cl.ProduceSync(d.ctx, &kgo.Record{Value: []byte(text), Timestamp: time.UnixMilli(baseTime)}).First()
		if err != nil {
			t.Fatal(err)
		}
		return record{0, r.Offset, "CreateTime", baseTime, null, text, ""}
	}
	first := own("own, before")
	end := d.logEnd(t, topic)
	f.Unstrand()
	kafkatest.WaitFor(t, time.Minute, "the late request to be carried out", func() (bool, string) {
		now := d.logEnd(t, topic)
		return now == end+3, fmt.Sprint(now)
	})
	want := readCommitted(t, d.source.Bootstrap(), topic)
	if first.offset > int64(len(want)) || first.offset < 6 {
		t.Fatalf("the first own record stands at %d", first.offset)
	}
	want = append(want[:first.offset:first.offset], first) // what was not mirrored when it was stopped is left behind
	assertSame(t, "a late request at the end of the log", want, readLibrdkafka(t, d.k.Bootstrap(), topic, 0))
	last := own("own, behind")
	if last.offset != first.offset+4 {
		t.Errorf("the next own record stands at %d, want %d", last.offset, first.offset+4)
	}
	want = append(want, last)
	for _, r := range readers() {
		assertSame(t, "with a late request, by "+r.name, want, r.read(t, d.k.Bootstrap(), topic, len(want)))
	}
}

func (d *durable) tooFew(t *testing.T) {
	const topic = "few"
	d.mirrorOf(t, topic, 1, 2)
	d.say(t, topic, "begin", 5)
	awaitMirror(t, d.k, d.source, topic)
	follower := d.follower(t, topic)
	follower.Kill()
	d.say(t, topic, "waiting", 5)
	awaitMirrorState(t, d.k, topic, "SOURCE_UNAVAILABLE", "NOT_ENOUGH_REPLICAS")
	// The broker that was killed may have been the coordinator of klink's group; then the mirror
	// has just been begun anew.
	kafkatest.WaitFor(t, time.Minute, "a mirror that ends at 5, and a source at 10", func() (bool, string) {
		desc, err := describeMirror(t, d.k, topic)
		return err == nil && desc.Partitions[0].MirrorEndOffset == 5 && desc.Partitions[0].SourceEndOffset == 10, fmt.Sprintf("%+v %v", desc, err)
	})
	if !regexp.MustCompile(`(?m)^klink_mirror_state\{[^}]*NOT_ENOUGH_REPLICAS[^}]*"few"[^}]*\} 1$`).MatchString(d.k.Metrics(t)) {
		t.Error("no metric says NOT_ENOUGH_REPLICAS")
	}
	follower.Restart(t)
	if got := d.compare(t, topic, 1); len(got) != 10 {
		t.Errorf("%d records", len(got))
	}
	d.awaitInSync(t)
	d.shows(t, topic, 0)
}

// follower is the replica of partition 0 of a topic with two replicas that does not lead.
func (d *durable) follower(t *testing.T, topic string) *kafkatest.Broker {
	t.Helper()
	leader := d.leader(t, topic, 0)
	topics, err := d.dst.ListTopics(d.ctx, topic)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range d.destination.Brokers() {
		if b != leader && slices.Contains(topics[topic].Partitions[0].Replicas, int32(b.ID())) {
			return b
		}
	}
	t.Fatalf("%+v has no follower", topics[topic])
	return nil
}

func (d *durable) leaderAlone(t *testing.T) {
	const topic = "alone"
	d.mirrorOf(t, topic, 1, 2)
	d.say(t, topic, "begin", 5)
	awaitMirror(t, d.k, d.source, topic)
	leader, follower := d.leader(t, topic, 0), d.follower(t, topic)
	direct := d.destination.Client(t, kgo.SeedBrokers(leader.Addr()))
	pid := follower.PID()
	signal := func(s syscall.Signal) {
		t.Helper()
		if err := syscall.Kill(pid, s); err != nil {
			t.Fatal(err)
		}
	}
	signal(syscall.SIGSTOP)
	d.say(t, topic, "of the leader alone", 5)
	kafkatest.WaitFor(t, time.Minute, "the leader to have the batch", func() (bool, string) {
		end, err := logEndAt(d.ctx, direct, topic)
		return err == nil && end == 10, fmt.Sprint(end, err)
	})
	lag := regexp.MustCompile(`(?m)^klink_mirror_lag_offsets\{[^}]*"alone"[^}]*\} (\d+)$`)
	for range 10 {
		m := lag.FindStringSubmatch(d.k.Metrics(t))
		if m == nil || m[1] != "5" {
			t.Errorf("the lag is %v while only the leader has the last 5 records", m)
			break
		}
		time.Sleep(50 * time.Millisecond) // looks at a state that must not change
	}
	leader.Kill()
	signal(syscall.SIGCONT)
	kafkatest.WaitFor(t, 2*time.Minute, "the follower to lead", func() (bool, string) {
		l, err := d.destination.Leader(d.ctx, topic, 0)
		return err == nil && l == follower, fmt.Sprint(err)
	})
	if end := d.logEnd(t, topic); end > 10 {
		t.Errorf("the new leader's log ends at %d", end)
	}
	leader.Restart(t)
	if got := d.compare(t, topic, 1); len(got) != 10 {
		t.Errorf("%d records", len(got))
	}
	d.shows(t, topic, 0)
}
