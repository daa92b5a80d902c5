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
)

// kafkaTransactions is the main class of kafka-transactions.
const kafkaTransactions = "org.apache.kafka.tools.TransactionsCommand"

// TestStockToolsThroughTheProxy runs Kafka's own tools through klink, on a cluster with users, ACLs
// and TLS on both sides of the proxy. Each request is authorised as the tool's own user, not
// klink's.
func TestStockToolsThroughTheProxy(t *testing.T) {
	t.Parallel()
	destination := kafkatest.Start(t, kafkatest.SASL("alice", "alice-secret", "mallory", "mallory-secret"))
	source := kafkatest.Start(t)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	cert, key := destination.ServerCertificate()
	k := StartKlink(t, destination,
		"--destination-config", destination.PropertiesFile(t, kafkatest.SuperUser, kafkatest.SuperUserPassword),
		"--tls-cert-file", cert, "--tls-key-file", key)
	admin := destination.PropertiesFile(t, kafkatest.SuperUser, kafkatest.SuperUserPassword)
	alice := destination.PropertiesFile(t, "alice", "alice-secret")
	mallory := destination.PropertiesFile(t, "mallory", "mallory-secret")
	// try gives both outputs in one: the console producer reports what was refused in its log
	// alone.
	try := func(t *testing.T, stdin, config, class string, args ...string) (string, error) {
		t.Helper()
		tool := kafkatest.StartTool(t, strings.NewReader(stdin), class,
			append([]string{"--bootstrap-server", k.Bootstrap(), "--command-config", config}, args...)...)
		select {
		case <-tool.Done():
		case <-ctx.Done():
			tool.Kill()
		}
		return tool.Stdout() + tool.Stderr(), tool.Err()
	}
	run := func(t *testing.T, stdin, config, class string, args ...string) string {
		t.Helper()
		out, err := try(t, stdin, config, class, args...)
		if err != nil {
			t.Fatalf("%s %v: %v\n%s", class, args, err, out)
		}
		return out
	}
	contains := func(t *testing.T, out string, wants ...string) {
		t.Helper()
		for _, w := range wants {
			if !strings.Contains(out, w) {
				t.Errorf("no %q in\n%s", w, out)
			}
		}
	}

	t.Run("topics", func(t *testing.T) {
		run(t, "", admin, kafkatest.TopicCommand, "--create", "--topic", "t1", "--partitions", "3", "--config", "retention.ms=86400000")
		run(t, "", admin, kafkatest.TopicCommand, "--create", "--topic", "gone")
		contains(t, run(t, "", admin, kafkatest.TopicCommand, "--describe", "--topic", "t1"), "PartitionCount: 3", "retention.ms=86400000")
		run(t, "", admin, kafkatest.TopicCommand, "--delete", "--topic", "gone")
		if out := run(t, "", admin, kafkatest.TopicCommand, "--list"); strings.Contains(out, "gone") {
			t.Errorf("the deleted topic is listed: %s", out)
		}
	})
	t.Run("ACLs are those of the client's own user", func(t *testing.T) {
		if out, err := try(t, "", alice, kafkatest.TopicCommand, "--describe", "--topic", "t1"); err == nil && strings.Contains(out, "PartitionCount") {
			t.Fatalf("alice may describe t1 without an ACL:\n%s", out)
		}
		run(t, "", admin, kafkatest.ACLCommand, "--add", "--allow-principal", "User:alice", "--operation", "All", "--topic", "*", "--group", "*")
		contains(t, run(t, "", admin, kafkatest.ACLCommand, "--list", "--topic", "*"), "User:alice")
		contains(t, run(t, "", alice, kafkatest.TopicCommand, "--describe", "--topic", "t1"), "PartitionCount: 3")
	})
	t.Run("console producer and consumer", func(t *testing.T) {
		run(t, "one\ntwo\nthree\n", alice, kafkatest.ConsoleProducer, "--topic", "t1")
		out := run(t, "", alice, kafkatest.ConsoleConsumer, "--topic", "t1", "--from-beginning", "--max-messages", "3", "--timeout-ms", "60000", "--group", "g1")
		contains(t, out, "one", "two", "three")
	})
	t.Run("consumer groups", func(t *testing.T) {
		contains(t, run(t, "", alice, kafkatest.ConsumerGroupCommand, "--describe", "--group", "g1"), "t1", "LOG-END-OFFSET")
		run(t, "", alice, kafkatest.ConsumerGroupCommand, "--reset-offsets", "--group", "g1", "--topic", "t1", "--to-earliest", "--execute")
	})
	t.Run("configs", func(t *testing.T) {
		run(t, "", admin, kafkatest.ConfigCommand, "--alter", "--entity-type", "topics", "--entity-name", "t1", "--add-config", "retention.ms=7200000")
		contains(t, run(t, "", admin, kafkatest.ConfigCommand, "--describe", "--entity-type", "topics", "--entity-name", "t1"), "retention.ms=7200000")
	})
	t.Run("producer-perf-test", func(t *testing.T) {
		out := run(t, "", alice, kafkatest.ProducerPerformance, "--topic", "t1", "--num-records", "20000", "--record-size", "200", "--throughput", "-1")
		contains(t, out, "20000 records sent")
	})
	t.Run("transactions", func(t *testing.T) {
		run(t, "", admin, kafkatest.ACLCommand, "--add", "--allow-principal", "User:alice", "--operation", "All", "--transactional-id", "*")
		cl := kafkatest.NewClient(t, append(destination.ClientOpts("alice", "alice-secret"), kgo.SeedBrokers(k.Bootstrap()),
			kgo.TransactionalID("tx"), kgo.DefaultProduceTopic("t1"))...)
		for i := range 4 {
			if err := cl.BeginTransaction(); err != nil {
				t.Fatal(err)
			}
			if err := cl.ProduceSync(ctx, kgo.StringRecord(fmt.Sprintf("transaction %d", i))).FirstErr(); err != nil {
				t.Fatal(err)
			}
			if err := cl.EndTransaction(ctx, i%2 == 0); err != nil {
				t.Fatal(err)
			}
		}
		got := map[string]bool{}
		for _, r := range readFranzWith(t, "t1", append(destination.ClientOpts("alice", "alice-secret"), kgo.SeedBrokers(k.Bootstrap()))...) {
			got[r.value] = true
		}
		if !got["transaction 0"] || !got["transaction 2"] {
			t.Error("a committed transaction cannot be read")
		}
		contains(t, run(t, "", admin, kafkaTransactions, "list"), "tx")
	})

	props := source.ClientProperties("", "")
	props["bootstrap.servers"] = source.Bootstrap()
	link := kafkatest.WriteProperties(t, props)
	t.Run("links need ALTER of the client's own user", func(t *testing.T) {
		_, stderr, code := k.CLI(t, "link", "create", "east", "--config-file", link, "--command-config", mallory)
		if code != 1 || !strings.Contains(stderr, "CLUSTER_AUTHORIZATION_FAILED") {
			t.Fatalf("mallory: exit code %d: %s", code, stderr)
		}
		_, stderr, code = k.CLI(t, "link", "list", "--command-config", mallory)
		if code != 1 || !strings.Contains(stderr, "CLUSTER_AUTHORIZATION_FAILED") {
			t.Fatalf("mallory lists links: exit code %d: %s", code, stderr)
		}
		k.MustCLI(t, "link", "create", "east", "--config-file", link, "--command-config", admin)
	})
	t.Run("mirrors by stock tools", func(t *testing.T) {
		if _, err := kadm.NewClient(source.Client(t)).CreateTopics(ctx, 2, 1, nil, "m1", "m2"); err != nil {
			t.Fatal(err)
		}
		produceVaried(ctx, t, source, "m1", 0, 30)
		// kafka-topics knows no mirror.link and refuses; any Admin client may send it.
		adm := kadm.NewClient(kafkatest.NewClient(t, append(destination.ClientOpts(kafkatest.SuperUser, kafkatest.SuperUserPassword), kgo.SeedBrokers(k.Bootstrap()))...))
		east := "east"
		if r, err := adm.CreateTopic(ctx, -1, -1, map[string]*string{"mirror.link": &east}, "m1"); err != nil || r.Err != nil {
			t.Fatalf("CreateTopics with mirror.link: %v %v", err, r)
		}
		// kafka-configs turns an empty topic into a mirror.
		run(t, "", admin, kafkatest.TopicCommand, "--create", "--topic", "m2", "--partitions", "2")
		run(t, "", admin, kafkatest.ConfigCommand, "--alter", "--entity-type", "topics", "--entity-name", "m2", "--add-config", "mirror.link=east")
		for _, topic := range []string{"m1", "m2"} {
			contains(t, run(t, "", admin, kafkatest.ConfigCommand, "--describe", "--entity-type", "topics", "--entity-name", topic), "mirror.link=east", "mirror.source.topic="+topic)
		}
		opts := append(destination.ClientOpts(kafkatest.SuperUser, kafkatest.SuperUserPassword), kgo.SeedBrokers(k.Bootstrap()))
		kafkatest.WaitFor(t, time.Minute, "m1 to be mirrored", func() (bool, string) {
			ends, err := adm.ListEndOffsets(ctx, "m1")
			if err != nil {
				return false, err.Error()
			}
			o, _ := ends.Lookup("m1", 0)
			return o.Offset == 30, fmt.Sprint(o)
		})
		assertSame(t, "m1", readFranz(t, source.Bootstrap(), "m1", 0), readFranzWith(t, "m1", opts...))
		out, err := try(t, "x\n", admin, kafkatest.ConsoleProducer, "--topic", "m1")
		if !strings.Contains(out, "Cannot append records to read-only mirror topic 'm1'") {
			t.Errorf("the console producer says %v\n%s", err, out)
		}
		if out, err := try(t, "", admin, kafkatest.ConfigCommand, "--alter", "--entity-type", "topics", "--entity-name", "m1", "--add-config", "cleanup.policy=compact"); err == nil && !strings.Contains(out, "follows the source") {
			t.Errorf("a synced config was altered:\n%s", out)
		}
		setState := func(topic, state string) {
			t.Helper()
			run(t, "", admin, kafkatest.ConfigCommand, "--alter", "--entity-type", "topics", "--entity-name", topic, "--add-config", "mirror.state="+state)
		}
		wantState := func(topic, state string) {
			t.Helper()
			kafkatest.WaitFor(t, time.Minute, topic+" to be "+state, func() (bool, string) {
				configs, err := adm.DescribeTopicConfigs(ctx, topic)
				if err != nil || len(configs) != 1 {
					return false, fmt.Sprint(configs, err)
				}
				for _, c := range configs[0].Configs {
					if c.Key == "mirror.state" {
						return c.MaybeValue() == state, c.MaybeValue()
					}
				}
				return false, fmt.Sprint(configs)
			})
		}
		setState("m1", "PAUSED")
		wantState("m1", "PAUSED")
		contains(t, run(t, "", admin, kafkatest.ConfigCommand, "--describe", "--entity-type", "topics", "--entity-name", "m1"), "mirror.state=PAUSED")
		setState("m1", "ACTIVE")
		wantState("m1", "ACTIVE")
		// kafka-configs cannot ask for validation only; any Admin client can.
		for state, possible := range map[string]bool{"PAUSED": true, "STOPPED": true, "PROMOTED": true, "ACTIVE": true, "GONE": false} {
			rs, err := adm.ValidateAlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "mirror.state", Value: &state}}, "m1")
			if err != nil || len(rs) != 1 || (rs[0].Err == nil) != possible {
				t.Errorf("validate mirror.state=%s: %v %v", state, rs, err)
			}
		}
		wantState("m1", "ACTIVE")
		setState("m2", "PROMOTED")
		wantState("m2", "STOPPED")
		setState("m1", "STOPPED")
		wantState("m1", "STOPPED")
		run(t, "mine\n", admin, kafkatest.ConsoleProducer, "--topic", "m1")
	})
}
