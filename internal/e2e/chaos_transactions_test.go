package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// loadTransactions commits two of three transactions and aborts the others, of 1 to 20 records on
// any partitions, while another producer appends without transactions. A producer that lost its way
// is replaced by one with the same id, which aborts what it left open, as a restarted application
// does.
func loadTransactions(ctx context.Context, l *chaosRun) {
	done := make(chan struct{})
	other := l.twin()
	go func() {
		defer close(done)
		other.produce(ctx, other.record)
	}()
	for n := 0; ctx.Err() == nil; n++ {
		cl := l.client(kgo.TransactionalID("chaos-"+l.load.topic), kgo.TransactionTimeout(10*time.Second), kgo.ProducerLinger(2*time.Millisecond))
		for i := 0; ctx.Err() == nil; i++ {
			if err := l.transact(cl, fmt.Sprintf("%d-%d", n, i)); err != nil {
				l.failed.CompareAndSwap(nil, &err)
				break
			}
			l.txns.Add(1)
			pause(ctx, l.slower*time.Duration(l.rng.IntN(50))*time.Millisecond)
		}
		cl.Close()
	}
	<-done
	l.acked.Add(other.acked.Load())
}

func (l *chaosRun) transact(cl *kgo.Client, name string) error {
	ctx, cancel := context.WithTimeout(l.life, 30*time.Second)
	defer cancel()
	if err := cl.BeginTransaction(); err != nil {
		return err
	}
	end := kgo.TransactionEndTry(l.rng.IntN(3) > 0)
	var rs []*kgo.Record
	for i := range 1 + l.rng.IntN(20) {
		r := l.record(i)
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: "transaction", Value: fmt.Appendf(nil, "%s %v", name, bool(end))})
		rs = append(rs, r)
	}
	if err := cl.ProduceSync(ctx, rs...).FirstErr(); err != nil {
		end = kgo.TryAbort
	}
	if err := cl.EndTransaction(ctx, end); err != nil {
		return err
	}
	if end == kgo.TryCommit {
		l.acked.Add(int64(len(rs)))
	}
	return nil
}

// twin is a run of the same load with randomness and counters of its own, for another goroutine.
func (l *chaosRun) twin() *chaosRun {
	return &chaosRun{load: l.load, life: l.life, source: l.source, client: l.client, mirrored: l.mirrored, slower: l.slower, rng: rand.New(rand.NewPCG(l.rng.Uint64(), 1))}
}
