package replicator

import (
	"testing"
	"time"

	"klink/internal/kafkatest"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestTwoMirrorsOfOneTopic: two mirrors of the same source topic are fetched in turn, because a
// fetch names a partition once.
func TestTwoMirrorsOfOneTopic(t *testing.T) {
	w, src, _ := embedded(t)
	w.topics("orders", 3)
	kafkatest.CreateTopic(t, w.dst.cl, "copy", 3, -1, nil)
	src.ControlKey(int16(kmsg.Fetch), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		src.KeepControl()
		seen := map[[16]byte]bool{}
		for _, rt := range kreq.(*kmsg.FetchRequest).Topics {
			if seen[rt.TopicID] {
				t.Error("a topic is twice in a fetch")
			}
			seen[rt.TopicID] = true
		}
		return nil, nil, false
	})
	for p := range int32(3) {
		w.produce("orders", p, 5, 20)
	}
	w.mirror("orders")
	w.mirrorOf("copy", "orders")
	w.run()
	w.awaitCaughtUp("orders")
	for p := range int32(3) {
		w.produce("orders", p, 5, 20)
	}
	w.awaitCaughtUp("orders")
	w.await("the other mirror", func() (bool, string) {
		for _, st := range w.r.Status("copy") {
			if st.MirrorEnd != 10 {
				return false, ""
			}
		}
		return true, ""
	})
	w.same("orders")
}

// TestConnectionsAtRestThatTheBrokerClosed: a broker closes idle connections. That leaves no append
// with an unknown result.
func TestConnectionsAtRestThatTheBrokerClosed(t *testing.T) {
	src := kafkatest.Embedded(t, 1)
	_, faults := faulty(t)
	w := newWorld(t, src.ListenAddrs(), []string{faults.Addr()})
	w.topics("orders", 1)
	w.mirror("orders")
	w.run()
	for range 4 {
		w.produce("orders", 0, 3, 20)
		w.awaitCaughtUp("orders")
		time.Sleep(200 * time.Millisecond) // at rest
		faults.Reset()
		time.Sleep(50 * time.Millisecond)
	}
	w.produce("orders", 0, 3, 20)
	w.awaitCaughtUp("orders")
	if n := w.r.Stats().Links[linkName].Settled.Load(); n != 0 {
		t.Errorf("%d appends had to be settled", n)
	}
	w.same("orders")
}
