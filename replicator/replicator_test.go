package replicator

import (
	"testing"

	"klink/admin/model"
	"klink/internal/kafkatest"

	"github.com/twmb/franz-go/pkg/kfake"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	kafkatest.Main(m, func() error {
		return goleak.Find(goleak.IgnoreAnyFunction("klink/internal/kafkatest.startOnLastingThread.func1.1"))
	})
}

// embedded returns a world of two in-process clusters.
func embedded(t *testing.T, opts ...kfake.Opt) (w *world, src, dst *kfake.Cluster) {
	t.Helper()
	src = kafkatest.Embedded(t, 1, append([]kfake.Opt{kfake.ClusterID("source")}, opts...)...)
	dst = kafkatest.Embedded(t, 1, append([]kfake.Opt{kfake.ClusterID("destination")}, opts...)...)
	return newWorld(t, src.ListenAddrs(), dst.ListenAddrs()), src, dst
}

func TestMirrorsBacklogAndNewRecords(t *testing.T) {
	w, _, _ := embedded(t)
	w.topics("orders", 1)
	w.produce("orders", 0, 10, 100)
	w.mirror("orders")
	w.run()
	w.awaitState("orders", model.MirrorActive)
	w.awaitCaughtUp("orders")
	for range 20 {
		w.produce("orders", 0, 3, 50)
	}
	w.awaitCaughtUp("orders")
	w.same("orders")
}
