package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"klink/internal/kafkatest"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestExactTruncation lets a replica that lacks records become leader of source partitions, and
// writes others at the offsets of those that were lost, and beyond: all batches have one record, so
// that no boundary shows it. Mirrors that ran all the time, though cut off from the leaders, and
// mirrors that did not run at all, fail with a name for it, keep what they have, and can be failed
// over. A change of leaders that loses nothing, and a topic that loses nothing, raise no alarm.
func TestExactTruncation(t *testing.T) {
	t.Parallel()
	source := kafkatest.Start(t, kafkatest.Brokers(3), kafkatest.WithFaults(), kafkatest.Config("unclean.leader.election.enable", "true"))
	destination := kafkatest.Start(t)
	const running, stopped, emptied, calm = "running", "stopped", "emptied", "calm"
	split := []string{running, stopped, emptied}
	cl := source.DirectClient(t)
	for _, topic := range split {
		createAt(t, cl, topic, 2, 1)
	}
	createAt(t, cl, calm, 3)
	k := StartKlink(t, destination)
	createLink(t, k, "east", source, "metadata.max.age.ms=1000")
	for _, topic := range append(split, calm) {
		k.MustCLI(t, "topic", "create", topic, "--link", "east")
		produceSingly(t, cl, topic, "first", 10)
	}

	t.Run("a clean change of leaders", func(t *testing.T) {
		for _, topic := range split {
			awaitMirror(t, k, source, topic)
			moveLeader(t, source, cl, topic, 1, 2)
			produceSingly(t, cl, topic, "after the change", 10)
		}
		for _, topic := range append(split, calm) {
			awaitMirror(t, k, source, topic)
		}
	})

	// The follower misses what comes now.
	b1, b2 := source.Brokers()[0], source.Brokers()[1]
	b2.Stop()
	for _, topic := range split {
		produceSingly(t, cl, topic, "lost", 10)
		awaitMirror(t, k, source, topic)
	}
	want := map[string][]record{}
	for _, topic := range split {
		want[topic] = readFranz(t, k.Bootstrap(), topic, 0)
		if len(want[topic]) != 30 {
			t.Fatalf("%s has %d records", topic, len(want[topic]))
		}
	}
	k.MustCLI(t, "mirror", "pause", stopped)
	awaitMirrorState(t, k, stopped, "PAUSED", "")
	b1.Kill()
	b2.Restart(t)
	b2.Faults().Cut() // klink does not see the leader before its log is longer than the mirrors
	kafkatest.WaitFor(t, 2*time.Minute, "the former follower to lead", func() (bool, string) {
		for _, topic := range split {
			if b, err := source.Leader(t.Context(), topic, 0); b != b2 {
				return false, fmt.Sprintf("%s: %v, %v", topic, b, err)
			}
		}
		return true, ""
	})
	for _, topic := range []string{running, stopped} {
		produceSingly(t, cl, topic, "other", 40)
	}
	produceSingly(t, cl, calm, "meanwhile", 10)
	b2.Faults().Resume()

	failed := func(t *testing.T, topic string) {
		t.Helper()
		d := awaitMirrorState(t, k, topic, "FAILED", "UNEXPECTED_TRUNCATION")
		for _, part := range []string{topic + "-0", "offset 30", "leader epoch", "up to offset 20", "fail the mirror over"} {
			if !strings.Contains(d.ErrorMessage, part) {
				t.Errorf("the message lacks %q: %s", part, d.ErrorMessage)
			}
		}
		assertSame(t, "the failed mirror", want[topic], readFranz(t, k.Bootstrap(), topic, 0))
	}
	failedOver := func(t *testing.T, topic string) {
		t.Helper()
		k.MustCLI(t, "mirror", "failover", topic)
		awaitMirrorState(t, k, topic, "STOPPED", "")
		produceSingly(t, kafkatest.NewClient(t, kgo.SeedBrokers(k.Bootstrap())), topic, "of its own", 1)
		got := readFranz(t, k.Bootstrap(), topic, 0)
		if len(got) != 31 || got[30].offset != 30 || got[30].value != "of its own 0" {
			t.Fatalf("after the failover: %d records, the last is %+v", len(got), got[len(got)-1])
		}
		assertSame(t, "before the failover", want[topic], got[:30])
	}
	t.Run("written again while klink ran", func(t *testing.T) { failed(t, running) })
	t.Run("not written again", func(t *testing.T) { failed(t, emptied) })
	t.Run("written again while the mirror did not run", func(t *testing.T) {
		b1.Restart(t)
		k.Restart()
		k.MustCLI(t, "mirror", "resume", stopped)
		failed(t, stopped)
	})
	t.Run("failover", func(t *testing.T) {
		for _, topic := range split {
			failedOver(t, topic)
		}
	})
	t.Run("a topic that lost nothing", func(t *testing.T) {
		produceSingly(t, cl, calm, "after", 10)
		awaitMirror(t, k, source, calm)
		got := readFranz(t, k.Bootstrap(), calm, 0)
		assertSame(t, "the topic that lost nothing", readFranzWith(t, calm, cl.Opts()...), got)
		if len(got) != 30 {
			t.Errorf("%d records were compared, want 30", len(got))
		}
	})
}

// createAt creates a topic of one partition on the given brokers, the first of which leads.
func createAt(t testing.TB, cl *kgo.Client, topic string, brokers ...int32) {
	t.Helper()
	req := kmsg.NewPtrCreateTopicsRequest()
	rt := kmsg.NewCreateTopicsRequestTopic()
	rt.Topic, rt.NumPartitions, rt.ReplicationFactor = topic, -1, -1
	ra := kmsg.NewCreateTopicsRequestTopicReplicaAssignment()
	ra.Replicas = brokers
	rt.ReplicaAssignment = append(rt.ReplicaAssignment, ra)
	rc := kmsg.NewCreateTopicsRequestTopicConfig()
	rc.Name, rc.Value = "min.insync.replicas", kmsg.StringPtr("1")
	rt.Configs = append(rt.Configs, rc)
	req.Topics = append(req.Topics, rt)
	resp, err := req.RequestWith(t.Context(), cl)
	if err != nil || resp.Topics[0].ErrorCode != 0 {
		t.Fatalf("creating %s: %+v, %v", topic, resp, err)
	}
}

// moveLeader makes another order of a partition's replicas the preferred one, and lets its first
// replica lead.
func moveLeader(t testing.TB, c *kafkatest.Cluster, cl *kgo.Client, topic string, replicas ...int32) {
	t.Helper()
	adm := kadm.NewClient(cl)
	var to kadm.AlterPartitionAssignmentsReq
	to.Assign(topic, 0, replicas)
	rs, err := adm.AlterPartitionAssignments(t.Context(), to)
	if err == nil {
		err = rs.Error()
	}
	if err != nil {
		t.Fatal(err)
	}
	set := kadm.TopicsSet{}
	set.Add(topic, 0)
	kafkatest.WaitFor(t, time.Minute, fmt.Sprintf("broker %d to lead %s", replicas[0], topic), func() (bool, string) {
		_, err := adm.ElectLeaders(t.Context(), kadm.ElectPreferredReplica, set) // until the replica is in sync
		b, lerr := c.Leader(t.Context(), topic, 0)
		return b != nil && b.ID() == int(replicas[0]), fmt.Sprintf("%v, %v", err, lerr)
	})
}

// produceSingly appends records to partition 0, each in a batch of its own.
func produceSingly(t testing.TB, cl *kgo.Client, topic, value string, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for i := range n {
		r := &kgo.Record{Topic: topic, Value: fmt.Appendf(nil, "%s %d", value, i)}
		if err := cl.ProduceSync(ctx, r).FirstErr(); err != nil {
			t.Fatalf("produce to %s: %v", topic, err)
		}
	}
}

// TestExactSourceWithoutTopicIDs deletes topics of a 2.4.1 source, which has no topic ids, and
// creates them again, with fewer partitions or with fewer records: the mirrors fail by name, keep
// what they have, and can be failed over.
func TestExactSourceWithoutTopicIDs(t *testing.T) {
	t.Parallel()
	source, destination := kafkatest.StartOld(t), kafkatest.Start(t)
	ctx := t.Context()
	const shrunk, shorter, calm = "shrunk", "shorter", "calm"
	cl := source.Client(t)
	adm := kadm.NewClient(cl)
	k := StartKlink(t, destination)
	createLink(t, k, "old", source, "metadata.max.age.ms=1000")
	for topic, partitions := range map[string]int32{shrunk: 3, shorter: 1, calm: 1} {
		kafkatest.CreateTopic(t, cl, topic, partitions, 1, nil)
		for p := range partitions {
			produceVaried(ctx, t, source, topic, p, 20)
		}
		k.MustCLI(t, "topic", "create", topic, "--link", "old")
		awaitMirror(t, k, source, topic)
	}
	for _, c := range []struct {
		topic      string
		partitions int32 // when it is created again
		mirrored   int
		err        string
		named      string
	}{
		{shrunk, 2, 60, "SOURCE_PARTITIONS_DECREASED", "2 partitions at the source and 3 in the mirror"},
		{shorter, 1, 20, "UNEXPECTED_TRUNCATION", "shorter-0"},
	} {
		t.Run(c.topic, func(t *testing.T) {
			want := readFranz(t, k.Bootstrap(), c.topic, 0)
			if len(want) != c.mirrored {
				t.Fatalf("the mirror has %d records, want %d", len(want), c.mirrored)
			}
			if _, err := adm.DeleteTopics(ctx, c.topic); err != nil {
				t.Fatal(err)
			}
			kafkatest.WaitFor(t, time.Minute, "the topic to be created again", func() (bool, string) {
				_, err := adm.CreateTopic(ctx, c.partitions, 1, nil, c.topic) // refused while the old one is being deleted
				return err == nil, fmt.Sprint(err)
			})
			produceVaried(ctx, t, source, c.topic, 0, 10)
			d := awaitMirrorState(t, k, c.topic, "FAILED", c.err)
			if !strings.Contains(d.ErrorMessage, c.named) {
				t.Errorf("the message lacks %q: %s", c.named, d.ErrorMessage)
			}
			assertSame(t, "the failed mirror", want, readFranz(t, k.Bootstrap(), c.topic, 0))
			k.MustCLI(t, "mirror", "failover", c.topic)
			awaitMirrorState(t, k, c.topic, "STOPPED", "")
			assertSame(t, "after the failover", want, readFranz(t, k.Bootstrap(), c.topic, 0))
		})
	}
	produceVaried(ctx, t, source, calm, 0, 10)
	awaitMirror(t, k, source, calm)
}
