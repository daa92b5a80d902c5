package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"klink/internal/kafkatest"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// createPlaced creates a topic whose partitions have these replicas; the first one leads.
func createPlaced(ctx context.Context, t testing.TB, cl *kgo.Client, topic string, replicas ...[]int32) {
	t.Helper()
	req := kmsg.NewPtrCreateTopicsRequest()
	placed := kmsg.NewCreateTopicsRequestTopic()
	placed.Topic, placed.NumPartitions, placed.ReplicationFactor = topic, -1, -1
	for p, of := range replicas {
		a := kmsg.NewCreateTopicsRequestTopicReplicaAssignment()
		a.Partition, a.Replicas = int32(p), of
		placed.ReplicaAssignment = append(placed.ReplicaAssignment, a)
	}
	req.Topics = append(req.Topics, placed)
	resp, err := req.RequestWith(ctx, cl)
	if err == nil {
		err = kerr.ErrorForCode(resp.Topics[0].ErrorCode)
	}
	if err != nil {
		t.Fatalf("create topic %s: %v", topic, err)
	}
}

// awaitLink waits until a link has a state and an error, whose text has these parts.
func awaitLink(t testing.TB, k *Klink, link, state, errorName string, parts ...string) {
	t.Helper()
	kafkatest.WaitFor(t, time.Minute, fmt.Sprintf("link %s to be %s %s", link, state, errorName), func() (bool, string) {
		stdout, stderr, code := k.CLI(t, "link", "describe", link, "-o", "json")
		var d struct {
			State, Error string
			Message      string `json:"error_message"`
		}
		if err := json.Unmarshal([]byte(stdout), &d); code != 0 || err != nil {
			return false, stdout + stderr
		}
		for _, part := range parts {
			if !strings.Contains(d.Message, part) {
				return false, stdout
			}
		}
		return d.State == state && d.Error == errorName, stdout
	})
}

// TestAdvertisedAddresses: a source of two brokers, of which klink cannot reach the second where it
// advertises to be. No link is created to it, unless klink is told not to try. Then the link says
// which broker it is, and so do the mirrors that need it, while the others go on.
func TestAdvertisedAddresses(t *testing.T) {
	t.Parallel()
	source := kafkatest.Start(t, kafkatest.Brokers(2), kafkatest.WithFaults(), kafkatest.Heap("320m"))
	destination := kafkatest.Start(t)
	ctx, cancel := context.WithTimeout(context.Background(), 8*time.Minute)
	t.Cleanup(cancel)
	k := StartKlink(t, destination)
	direct := source.DirectClient(t)
	createPlaced(ctx, t, direct, "both", []int32{1, 2}, []int32{2, 1})
	createPlaced(ctx, t, direct, "one", []int32{1, 2})
	second := source.Brokers()[1]
	away := fmt.Sprintf("broker 2 at %s: connection refused", second.Addr())

	second.Faults().Cut()
	create := []string{
		"link", "create", "l", "--config", "bootstrap.servers=" + source.Brokers()[0].Addr(),
		"--config", "availability.check.ms=300", "--config", "metadata.max.age.ms=500",
	}
	if _, stderr, code := k.CLI(t, create...); code != 1 || !strings.Contains(stderr, away) || !strings.Contains(stderr, "advertised.listeners") {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	check := []string{"context", "create", "source", "--check", "--bootstrap-server", source.Brokers()[0].Addr()}
	if stdout, _, code := k.CLI(t, check...); code != 1 || stdout != fmt.Sprintf("broker 1 at %s: it answers\n%s\n", source.Brokers()[0].Addr(), away) {
		t.Fatalf("exit code %d: %s", code, stdout)
	}
	k.MustCLI(t, append(create, "--no-validate")...)
	awaitLink(t, k, "l", "UNAVAILABLE", "BROKER_UNREACHABLE_ERROR", away)
	second.Faults().Resume()
	awaitLink(t, k, "l", "ACTIVE", "")
	k.MustCLI(t, check...)
	k.MustCLI(t, "context", "create", "klink", "--check", "--bootstrap-server", k.Bootstrap())

	for _, topic := range []string{"both", "one"} {
		produceVaried(ctx, t, source, topic, 0, 20)
		k.MustCLI(t, "topic", "create", topic, "--link", "l")
		awaitMirror(t, k, source, topic)
	}
	second.Faults().Cut()
	awaitLink(t, k, "l", "UNAVAILABLE", "BROKER_UNREACHABLE_ERROR", away)
	d := awaitMirrorState(t, k, "both", "SOURCE_UNAVAILABLE", "BROKER_UNREACHABLE_ERROR")
	if !strings.Contains(d.ErrorMessage, "partition 1") || !strings.Contains(d.ErrorMessage, "broker 2") || !strings.Contains(d.ErrorMessage, second.Addr()) {
		t.Fatalf("the mirror says %q", d.ErrorMessage)
	}
	// The other mirror needs only the first broker: it goes on, and can even be promoted.
	if err := direct.ProduceSync(ctx, &kgo.Record{Topic: "one", Partition: 0, Value: []byte("more")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	k.MustCLI(t, "mirror", "promote", "one")
	second.Faults().Resume()
	awaitLink(t, k, "l", "ACTIVE", "")
	awaitMirror(t, k, source, "both")
	assertSame(t, "one", readCommitted(t, source.Bootstrap(), "one"), readCommitted(t, k.Bootstrap(), "one"))
}
