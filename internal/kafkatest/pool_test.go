package kafkatest

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestClustersServeSeveralTests: a cluster that a test leaves in health is empty when the next test
// gets it; one that was stopped, changed, or seen by a test that failed is never given out again.
func TestClustersServeSeveralTests(t *testing.T) {
	Require(t)
	var last *Cluster
	use := func(name string, again bool, what func(t *testing.T, adm *kadm.Client)) {
		t.Run(name, func(t *testing.T) {
			c := Start(t)
			if last != nil && (c == last) != again {
				t.Errorf("the cluster of the test before is used again: %v, want %v", c == last, again)
			}
			last = c
			adm := kadm.NewClient(c.Client(t))
			topics, err := adm.ListTopics(t.Context())
			if err != nil || len(topics) > 0 {
				t.Fatalf("topics %v, error %v", topics.Names(), err)
			}
			groups, err := adm.ListGroups(t.Context())
			if err != nil || len(groups) > 0 {
				t.Fatalf("groups %v, error %v", groups.Groups(), err)
			}
			if _, err := adm.CreateTopic(t.Context(), 1, 1, nil, "t"); err != nil {
				t.Fatal(err)
			}
			what(t, adm)
		})
	}
	nothing := func(*testing.T, *kadm.Client) {}
	use("records and offsets", false, func(t *testing.T, adm *kadm.Client) {
		if err := last.Client(t).ProduceSync(t.Context(), &kgo.Record{Topic: "t"}).FirstErr(); err != nil {
			t.Fatal(err)
		}
		offsets := kadm.Offsets{}
		offsets.AddOffset("t", 0, 1, -1)
		if err := adm.CommitAllOffsets(t.Context(), "g", offsets); err != nil {
			t.Fatal(err)
		}
	})
	use("a member that did not leave", true, func(t *testing.T, _ *kadm.Client) {
		cl := last.Client(t)
		join := kmsg.NewPtrJoinGroupRequest()
		join.Group, join.ProtocolType, join.SessionTimeoutMillis, join.RebalanceTimeoutMillis = "klink", "klink", 45_000, 45_000
		protocol := kmsg.NewJoinGroupRequestProtocol()
		protocol.Name = "p"
		join.Protocols = append(join.Protocols, protocol)
		resp, err := join.RequestWith(t.Context(), cl)
		if err == nil && resp.ErrorCode == kerr.MemberIDRequired.Code {
			join.MemberID = resp.MemberID
			resp, err = join.RequestWith(t.Context(), cl)
		}
		if err != nil || resp.ErrorCode != 0 {
			t.Fatal(err, resp.ErrorCode)
		}
	})
	use("a config of the broker", true, func(t *testing.T, adm *kadm.Client) {
		value := "200000"
		if _, err := adm.AlterBrokerConfigs(t.Context(), []kadm.AlterConfig{{Name: "log.cleaner.backoff.ms", Value: &value}}); err != nil {
			t.Fatal(err)
		}
	})
	use("an open transaction", false, func(t *testing.T, _ *kadm.Client) {
		cl := last.Client(t, kgo.TransactionalID("x"))
		if err := cl.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: "t"}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	})
	use("a broker that was killed", false, func(t *testing.T, _ *kadm.Client) {
		last.Brokers()[0].Kill()
		last.Brokers()[0].Restart(t)
	})
	use("after that", false, nothing)
	use("as it was", true, nothing)
}
