package e2e

import (
	"context"
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"

	"klink/internal/kafkatest"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// stoppedTime is how long an owner stands still: several session time-outs.
const stoppedTime = 30 * time.Second

// TestOwnersThatBelieveWrongly: two instances that both believe to be the only owner of all
// partitions, for 8 s (a minute in `make soak`); and an owner that stands still for so long that
// another one takes over, and then goes on where it was. Three brokers, replication factor 3,
// producers that do not linger, a mirror with joined batches and one without. Every record comes
// once, and in order.
func TestOwnersThatBelieveWrongly(t *testing.T) {
	t.Parallel()
	source, destination := kafkatest.Start(t), kafkatest.Start(t, kafkatest.Brokers(3), kafkatest.Heap("320m"))
	ctx, cancel := context.WithTimeout(context.Background(), 12*time.Minute)
	defer cancel()
	topics := []string{"joined", "unjoined"}
	if _, err := kadm.NewClient(source.Client(t)).CreateTopics(ctx, 3, 1, nil, topics...); err != nil {
		t.Fatal(err)
	}
	all := startInstances(t, destination, 3)
	for link, below := range map[string]string{"joined": "16384", "unjoined": "0"} {
		createLink(t, all[0], link, source, "append.join.below="+below)
		all[0].MustCLI(t, "topic", "create", link, "--link", link, "--replication-factor", "3")
	}
	all.awaitSpread(t)

	working, stop := context.WithCancel(ctx)
	var work sync.WaitGroup
	for _, topic := range topics {
		work.Go(func() {
			cl := source.Client(t, kgo.DefaultProduceTopic(topic), kgo.ProducerLinger(0), kgo.MaxProduceRequestsInflightPerBroker(1))
			for n := 0; working.Err() == nil; n++ {
				cl.Produce(ctx, kgo.KeyStringRecord(fmt.Sprint("k", n), fmt.Sprint("record ", n, " of ", topic)), func(_ *kgo.Record, err error) {
					if err != nil && ctx.Err() == nil {
						t.Errorf("produce: %v", err)
					}
				})
				time.Sleep(4 * time.Millisecond)
			}
			if err := cl.Flush(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	defer work.Wait()
	defer stop()
	pass := func(d time.Duration) {
		select {
		case <-time.After(d):
		case <-ctx.Done():
			t.Fatal(ctx.Err())
		}
	}

	// An owner stands still, and comes back.
	owner := all.owner(t, "joined")
	pid := owner.PID(t)
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	pass(stoppedTime)
	others := all.without(owner)
	kafkatest.WaitFor(t, time.Minute, "another owner", func() (bool, string) {
		n := 0
		for _, k := range others {
			n += k.slots(t)
		}
		return n == 24, fmt.Sprint(n, " slots")
	})
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	all.awaitSpread(t)

	// Two instances copy everything.
	for _, k := range all {
		k.Terminate(t)
	}
	two := all[:2]
	for _, k := range two {
		k.ownsAll = true
		k.start()
	}
	void := 0.0
	kafkatest.WaitFor(t, 3*time.Minute, "the two owners to be in each other's way", func() (bool, string) {
		void = 0
		for _, k := range two {
			n, _ := k.sumOf(t, "klink_link_append_settled_total", "")
			void += n
		}
		return void > 0, "no append was settled by reading the log"
	})
	pass(whole(time.Minute, 8*time.Second))
	for _, k := range two {
		k.Kill()
		k.ownsAll = false
	}
	for _, k := range all {
		k.start()
	}
	stop()
	work.Wait()

	for _, topic := range topics {
		want := readFranz(t, source.Bootstrap(), topic, 0)
		if len(want) < 1000 {
			t.Errorf("only %d records", len(want))
		}
		for _, k := range all {
			awaitMirror(t, k, source, topic)
		}
		for i, r := range readers() {
			assertSame(t, topic+" by "+r.name, want, r.read(t, all[i].Bootstrap(), topic, len(want)))
		}
	}
	fmt.Printf("two owners: at first %.0f appends were in each other's way\n", void)
}
