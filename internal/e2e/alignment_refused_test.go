package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"klink/internal/kafkatest"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// TestExactAlignmentRefused: point 7. A destination that refuses what aligning takes gets a mirror
// with other offsets, which is right through klink all the same; klink says from where on, and what
// is missing.
func TestExactAlignmentRefused(t *testing.T) {
	t.Parallel()
	source, destination := kafkatest.Start(t), kafkatest.Start(t, kafkatest.SASLPlaintext("klink", "klink-secret"))
	ctx, cancel := context.WithTimeout(context.Background(), 8*time.Minute)
	t.Cleanup(cancel)
	e := &exact{source: source, destination: destination, ctx: ctx}
	e.adm, e.dst = kadm.NewClient(source.Client(t)), kadm.NewClient(destination.Client(t))

	klinkMay := func(b *kadm.ACLBuilder) {
		t.Helper()
		rs, err := e.dst.CreateACLs(ctx, b)
		for _, r := range rs {
			if err == nil {
				err = r.Err
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	allow := func() *kadm.ACLBuilder { return kadm.NewACLs().Allow("User:klink").AllowHosts("*") }
	klinkMay(allow().Topics("*").Groups("*").TransactionalIDs("*").ResourcePatternType(kadm.ACLPatternLiteral).Operations(kadm.OpAll))
	klinkMay(allow().Clusters().Operations(kadm.OpCreate, kadm.OpDescribe, kadm.OpDescribeConfigs, kadm.OpIdempotentWrite))
	klinkMay(kadm.NewACLs().Deny("User:klink").DenyHosts("*").Topics("undeletable").ResourcePatternType(kadm.ACLPatternLiteral).Operations(kadm.OpDelete))

	e.k = StartKlink(t, destination, "--destination-config", destination.PropertiesFile(t, "klink", "klink-secret"))
	admin := destination.PropertiesFile(t, kafkatest.SuperUser, kafkatest.SuperUserPassword)
	props := source.ClientProperties("", "")
	props["bootstrap.servers"] = source.Bootstrap()
	e.k.MustCLI(t, "link", "create", "east", "--config-file", kafkatest.WriteProperties(t, props), "--command-config", admin)

	e.createSource(t, "undeletable", 1)
	produceVaried(ctx, t, source, "undeletable", 0, 60)
	deleteBefore(ctx, t, e.adm, "undeletable", map[int32]int64{0: 20})
	e.createSource(t, "unmarkable", 1)
	produceVaried(ctx, t, source, "unmarkable", 0, 7)
	transact(ctx, t, source, "unmarkable", "unmarkable", 1, 6, 5)
	produceOne := func(topic string) {
		t.Helper()
		cl := source.Client(t, kgo.DefaultProduceTopic(topic))
		defer cl.Close()
		if err := cl.ProduceSync(ctx, kgo.StringRecord("r")).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	// A mirror topic whose limit somebody has lowered before the first record came: not even the
	// smallest filler is taken.
	e.createSource(t, "tiny", 1)
	e.k.MustCLI(t, "topic", "create", "tiny", "--link", "east", "--command-config", admin)
	e.k.MustCLI(t, "mirror", "pause", "tiny", "--command-config", admin)
	setConfig(ctx, t, e.dst, "tiny", "max.message.bytes", "110")
	if err := e.startLogAt("tiny", 0, 5000); err != nil {
		t.Fatal(err)
	}
	produceOne("tiny")

	for _, c := range []struct {
		topic        string
		began, shift int64
		reasons      []string
		physical     string // log start and log end at the destination
	}{
		{"undeletable", 20, 20, []string{"NOT_PERMITTED: undeletable-0: ", "klink's principal needs DELETE on the topic"}, "0 40"},
		// A marker at 12 is the first hole, and those of the committed transactions and whole
		// aborted ones come after it.
		{"unmarkable", 13, 9, []string{"NOT_PERMITTED: unmarkable-0: ", "klink's principal needs ALTER or CLUSTER_ACTION on the cluster"}, "0 27"},
		{"tiny", 5000, 5000, []string{"REFUSED: tiny-0: max.message.bytes of the topic is too small even for", "empty records"}, "0 1"},
	} {
		t.Run(c.topic, func(t *testing.T) {
			if c.topic == "tiny" {
				e.k.MustCLI(t, "mirror", "resume", "tiny", "--command-config", admin)
			} else {
				e.k.MustCLI(t, "topic", "create", c.topic, "--link", "east", "--command-config", admin)
			}
			d := awaitRefused(t, e, c.topic, admin)
			p := d.Partitions[0]
			if p.ShiftBegan != c.began || p.Shift != c.shift {
				t.Errorf("the shift is described as %d from offset %d on, want %d from %d on", p.Shift, p.ShiftBegan, c.shift, c.began)
			}
			if d.DirectAccess.Possible {
				t.Error("clients can go straight to the brokers, it is said")
			}
			begin := fmt.Sprintf("1 of 1 partitions have different offsets at the brokers; partition 0 from offset %d on: ", c.began)
			if !strings.HasPrefix(d.DirectAccess.Reason, begin) {
				t.Errorf("direct access is described as %q, want %q and the reason", d.DirectAccess.Reason, begin)
			}
			for _, r := range c.reasons {
				if !strings.Contains(p.ShiftReason, r) || !strings.Contains(d.DirectAccess.Reason, r) {
					t.Errorf("no %q in the reasons %q and %q", r, p.ShiftReason, d.DirectAccess.Reason)
				}
			}
			dst := destination.Client(t)
			if got := listOffsets(ctx, t, dst, c.topic, 1, -2) + " " + listOffsets(ctx, t, dst, c.topic, 1, -1); got != c.physical {
				t.Errorf("the destination's log starts and ends at %s, want %s", got, c.physical)
			}
			e.wantRefusedRight(t, c.topic)

			// The source's log start is followed, though the destination may not let klink delete.
			end := e.sourceEnd(t, c.topic, 0)
			produceOne(c.topic)
			deleteBefore(ctx, t, e.adm, c.topic, map[int32]int64{0: end})
			awaitRefused(t, e, c.topic, admin)
			e.wantRefusedRight(t, c.topic)
		})
	}
	e.k.MustRun(t)
}

// awaitRefused waits until a mirror of one partition is caught up, and not aligned.
func awaitRefused(t *testing.T, e *exact, topic, commandConfig string) mirrorDescription {
	t.Helper()
	var d mirrorDescription
	end := e.sourceEnd(t, topic, 0)
	kafkatest.WaitFor(t, 2*time.Minute, "mirror "+topic+" to catch up", func() (bool, string) {
		out := e.k.MustCLI(t, "mirror", "describe", topic, "-o", "json", "--command-config", commandConfig)
		d = mirrorDescription{}
		if err := json.Unmarshal([]byte(out), &d); err != nil {
			t.Fatalf("%v in %s", err, out)
		}
		return d.State == "ACTIVE" && len(d.Partitions) == 1 && d.Partitions[0].MirrorEndOffset == end && !d.Partitions[0].Aligned, out
	})
	return d
}

// wantRefusedRight checks that a mirror of one partition is the source through klink.
func (e *exact) wantRefusedRight(t *testing.T, topic string) {
	t.Helper()
	props := e.destination.ClientProperties(kafkatest.SuperUser, kafkatest.SuperUserPassword)
	through := append(e.destination.ClientOpts(kafkatest.SuperUser, kafkatest.SuperUserPassword), kgo.SeedBrokers(e.k.Bootstrap()))
	src, cl := e.source.Client(t), kafkatest.NewClient(t, through...)
	for _, ts := range []int64{-1, -2} {
		want := listOffsets(e.ctx, t, src, topic, 1, ts)
		kafkatest.WaitFor(t, time.Minute, topic+" to have the source's log start and log end", func() (bool, string) {
			got := listOffsets(e.ctx, t, cl, topic, 1, ts)
			return got == want, fmt.Sprintf("timestamp %d: %s instead of %s", ts, got, want)
		})
	}
	want := readCommitted(t, e.source.Bootstrap(), topic)
	for _, level := range []kgo.IsolationLevel{kgo.ReadCommitted(), kgo.ReadUncommitted()} {
		assertSame(t, topic+" by franz-go", want, readFranzWith(t, topic, append(through, kgo.FetchIsolationLevel(level))...))
	}
	assertSame(t, topic+" by librdkafka", want, readLibrdkafkaWith(t, e.k.Bootstrap(), topic, "security.protocol="+props["security.protocol"],
		"sasl.mechanism="+props["sasl.mechanism"], "sasl.username="+kafkatest.SuperUser, "sasl.password="+kafkatest.SuperUserPassword))
}
