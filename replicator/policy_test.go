package replicator

import (
	"strings"
	"testing"

	"klink/admin/model"
	"klink/internal/kafkatest"
	"klink/replicator/core"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// policyWorld returns a running mirror with two records, aligned if its cleanup.policy allows that,
// and a function that appends three records to the source in a transaction.
func policyWorld(t *testing.T, policy string) (w *world, transact func(), end func(want int64)) {
	w, _, dst := embedded(t)
	w.configs["offset.alignment"] = "auto"
	w.topics("orders", 1)
	if policy != "" {
		responses, err := kadm.NewClient(w.dst.cl).AlterTopicConfigs(t.Context(), []kadm.AlterConfig{{Name: "cleanup.policy", Value: &policy}}, "orders")
		if err != nil || responses[0].Err != nil {
			t.Fatal(err, responses)
		}
	}
	w.produce("orders", 0, 2, 20)
	w.mirror("orders")
	w.control.setMirror("orders", func(m *model.Mirror) { m.CleanupPolicy = policy })
	w.run()
	w.awaitState("orders", model.MirrorActive)
	w.awaitCaughtUp("orders")
	cl := kafkatest.NewClient(t, kgo.SeedBrokers(w.src.seeds...), kgo.TransactionalID("tx"), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ManualFlushing())
	transact = func() {
		t.Helper()
		if err := cl.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		send(t, cl, "orders", 0, kafkatest.Records(3, 10)...)
		if err := cl.EndTransaction(t.Context(), kgo.TryCommit); err != nil {
			t.Fatal(err)
		}
	}
	end = func(want int64) {
		t.Helper()
		w.awaitCaughtUp("orders")
		w.same("orders")
		if got := dst.PartitionInfo("orders", 0).HighWatermark; got != want {
			t.Fatalf("the mirror's log ends at %d, want %d", got, want)
		}
	}
	return w, transact, end
}

// setPolicy makes the control plane say that the mirror's topic has another policy, and waits until
// the partition uses it.
func (w *world) setPolicy(policy string) {
	w.t.Helper()
	w.control.setMirror("orders", func(m *model.Mirror) { m.CleanupPolicy = policy })
	w.await("the policy to be heard of", func() (bool, string) {
		m := w.r.mirror("orders")
		m.mu.Lock()
		now := m.policy
		m.mu.Unlock()
		wk := m.all()[0]
		wk.mu.Lock()
		defer wk.mu.Unlock()
		return now == policy && wk.core.State == core.StateRunning && !wk.core.Realigned, now + " " + wk.core.State.String()
	})
}

func (w *world) wantShifts(want string) {
	w.t.Helper()
	w.await("shifts "+want, func() (bool, string) {
		w.control.mu.Lock()
		defer w.control.mu.Unlock()
		got := strings.Join(w.control.shifts, ", ")
		return got == want, got
	})
}

// TestCompactedFromNowOn: a topic that becomes compacted gets no markers any more.
func TestCompactedFromNowOn(t *testing.T) {
	w, transact, end := policyWorld(t, "") // unknown to the control plane, so the broker is asked
	transact()
	w.produce("orders", 0, 1, 20)
	end(7) // with a marker
	w.setPolicy("compact")
	transact()
	end(10)
	w.produce("orders", 0, 1, 20)
	end(11)
	w.wantShifts("orders-0 from 11: cleanup.policy of the topic is compact; klink aligns only logs that are not compacted")
}

// TestCompactedNoMore: a topic that is no longer compacted gets markers from now on, if it has no
// hole without them yet; if it has one, it stays shifted.
func TestCompactedNoMore(t *testing.T) {
	t.Run("without a hole", func(t *testing.T) {
		w, transact, end := policyWorld(t, "compact")
		w.setPolicy("delete")
		transact()
		w.produce("orders", 0, 1, 20)
		end(7)
		w.wantShifts("")
	})
	t.Run("with one", func(t *testing.T) {
		w, transact, end := policyWorld(t, "compact,delete")
		transact()
		w.produce("orders", 0, 1, 20)
		end(6)
		w.setPolicy("delete")
		transact()
		w.produce("orders", 0, 1, 20)
		end(10)
		w.wantShifts("orders-0 from 6: cleanup.policy of the topic is compact,delete; klink aligns only logs that are not compacted")
	})
}
