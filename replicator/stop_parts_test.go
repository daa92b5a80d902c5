package replicator

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"klink/admin/model"
	"klink/internal/retry"
	"klink/replicator/group"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// witness looks at all instances at the moment when a coordinator says that a mirror has ended.
type witness struct {
	mu    sync.Mutex
	all   []*instance
	wrong []string
}

func (w *witness) add(i *instance) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all = append(w.all, i)
	i.view.drained.Store(func(ev model.Event, m model.Mirror) {
		w.mu.Lock()
		defer w.mu.Unlock()
		said := map[int32]bool{}
		for _, e := range ev.Ended {
			said[e.Partition] = true
		}
		for p := range m.Partitions {
			if !said[p] && !m.HasEnded(p) {
				w.wrong = append(w.wrong, fmt.Sprintf("%s is drained, says %s, but nobody has ended partition %d", ev.Topic, i.name, p))
			}
		}
		for _, other := range w.all {
			m := other.r.mirror(ev.Topic)
			if m == nil {
				continue
			}
			for _, wk := range m.all() {
				if !wk.ended() {
					w.wrong = append(w.wrong, fmt.Sprintf("%s is drained, says %s, but %s runs partition %d", ev.Topic, i.name, other.name, wk.id))
				}
			}
		}
	})
}

// TestAStopIsFinalForAllPartitions stops mirrors that three instances copy together, while one of
// them is cut off from the group, leaves, or comes. When the coordinator says that a mirror has
// ended no instance runs any partition of it, and nothing is appended afterwards, although the
// source goes on.
func TestAStopIsFinalForAllPartitions(t *testing.T) {
	w, _, dst := embedded(t, kfake.GroupMinSessionTimeout(100*time.Millisecond))
	w.grace = 100 * time.Millisecond
	cut := &groupCut{}
	cut.install(t, dst)
	const session, partitions = 1200 * time.Millisecond, 12
	seen := &witness{}
	made := 0
	start := func() *instance {
		i := w.instance(fmt.Sprint("i", made), session)
		made++
		seen.add(i)
		return i
	}
	all := []*instance{start(), start(), start()}
	w.awaitShared(all...)
	feeding, stop := context.WithCancel(t.Context())
	var feed sync.WaitGroup
	defer feed.Wait()
	defer stop()
	adm := kadm.NewClient(w.dst.cl)
	ends := func(topic string) (text string) {
		listed, err := adm.ListEndOffsets(t.Context(), topic)
		if err != nil {
			t.Fatal(err)
		}
		for p := range int32(partitions) {
			o, _ := listed.Lookup(topic, p)
			text += fmt.Sprint(o.Offset, " ")
		}
		return text
	}
	for round := range 8 {
		topic := fmt.Sprint("orders-", round)
		w.topics(topic, partitions)
		w.mirror(topic)
		feed.Go(func() {
			for n := 0; feeding.Err() == nil; n++ {
				w.src.cl.Produce(feeding, &kgo.Record{Topic: topic, Partition: int32(n % partitions), Value: fmt.Append(nil, n)}, nil)
				_ = retry.Sleep(feeding, 2*time.Millisecond)
			}
		})
		w.awaitState(topic, model.MirrorActive)
		w.await("all instances to copy it", func() (bool, string) {
			detail, enough := "", true
			for _, i := range all {
				n := 0
				if m := i.r.mirror(topic); m != nil {
					n = len(m.all())
				}
				enough = enough && n >= partitions/len(all)-2
				detail += fmt.Sprint(n, " ")
			}
			return enough, detail
		})
		victim := rand.IntN(len(all))
		trouble := func() {
			switch round % 4 {
			case 0:
				cut.set(all[victim].name)
			case 1:
				go all[victim].stop()
			case 2:
				all = append(all, start())
			}
		}
		if round < 4 {
			trouble()
		}
		_ = retry.Sleep(t.Context(), rand.N(100*time.Millisecond))
		w.control.setState(topic, model.MirrorPendingStopped)
		if round >= 4 {
			_ = retry.Sleep(t.Context(), rand.N(20*time.Millisecond))
			trouble()
		}
		w.awaitState(topic, model.MirrorStopped)
		before := ends(topic)
		cut.set("")
		switch round % 4 {
		case 1:
			all[victim].stop()
			all[victim] = start()
		case 2:
			all[victim].stop()
			all = append(all[:victim], all[victim+1:]...)
		}
		w.awaitShared(all...)
		if after := ends(topic); after != before {
			t.Errorf("round %d: %s was stopped at %s, and went on to %s", round, topic, before, after)
		}
	}
	seen.mu.Lock()
	defer seen.mu.Unlock()
	for _, wrong := range seen.wrong {
		t.Error(wrong)
	}
}

// TestPromoteOfManyOwners: a mirror that three instances copy is promoted when all of its
// partitions have what the source has, wherever they are copied, and not as long as one of them is
// behind. Partitions that are added during the promotion are copied, too.
func TestPromoteOfManyOwners(t *testing.T) {
	w, _, dst := embedded(t, kfake.GroupMinSessionTimeout(100*time.Millisecond))
	all := []*instance{w.instance("one", 2400*time.Millisecond), w.instance("two", 2400*time.Millisecond), w.instance("three", 2400*time.Millisecond)}
	w.awaitShared(all...)
	const topic, partitions = "orders", 12
	w.topics(topic, partitions)
	w.control.create = func(topic string, n int32) error {
		_, err := kadm.NewClient(w.dst.cl).UpdatePartitions(t.Context(), int(n), topic)
		return err
	}
	w.mirror(topic)
	for p := range int32(partitions - 1) { // nothing is ever written to the last one
		w.produce(topic, p, 3, 20)
	}
	w.awaitState(topic, model.MirrorActive)
	if _, err := kadm.NewClient(w.src.cl).UpdatePartitions(t.Context(), partitions+3, topic); err != nil {
		t.Fatal(err)
	}
	w.await("the mirror to grow", func() (bool, string) {
		n := len(w.control.State().Timelines[topic])
		return n == partitions+3, fmt.Sprint(n)
	})
	w.produce(topic, partitions, 5, 20)
	w.awaitMirrored(topic, all...)
	// The destination takes nothing for a partition that another instance than the coordinator
	// copies.
	held := int32(-1)
	for p := range int32(partitions) {
		for _, i := range all {
			if i.r.OwnsPartition(topic, p) && !i.r.OwnsTopic(topic) && p < partitions-1 {
				held = p
			}
		}
	}
	if held < 0 {
		t.Fatal("one instance copies everything")
	}
	release := make(chan struct{})
	dst.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		dst.KeepControl()
		for _, rt := range req.(*kmsg.ProduceRequest).Topics {
			for _, rp := range rt.Partitions {
				if rp.Partition == held && rt.Topic != group.TasksTopic {
					select {
					case <-release:
					default:
						return nil, fmt.Errorf("held"), true
					}
				}
			}
		}
		return nil, nil, false
	})
	w.produce(topic, held, 2, 20)
	w.control.promote(topic, "p")
	if _ = retry.Sleep(t.Context(), 5*lookInterval); w.control.seen(model.EventMirrorCaughtUp, topic) {
		t.Fatalf("caught up without what is on its way to partition %d", held)
	}
	close(release)
	w.awaitState(topic, model.MirrorStopped)
	w.same(topic)
}
