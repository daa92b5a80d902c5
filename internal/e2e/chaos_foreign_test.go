package e2e

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"klink/internal/kafkatest"

	"github.com/twmb/franz-go/pkg/kgo"
)

// foreignWriter writes into one partition of a mirror around klink, straight to the destination's
// brokers. Nobody may see it through klink. One partition only: it is shifted from then on, and the
// others are to stay aligned.
type foreignWriter struct {
	at      topicPartition
	client  func() *kgo.Client
	writes  int
	written atomic.Int64 // records acknowledged
	wg      sync.WaitGroup
}

func newForeignWriter(t testing.TB, destination *kafkatest.Cluster, at topicPartition) *foreignWriter {
	w := &foreignWriter{at: at}
	w.client = func() *kgo.Client {
		return destination.Client(t, kgo.DialTimeout(5*time.Second), kgo.ProducerLinger(0))
	}
	t.Cleanup(w.wait)
	return w
}

// write appends 1 to 20 records in one batch or several, and does not wait for it. What comes of it
// while brokers fail is no matter.
func (w *foreignWriter) write(pick uint32) {
	if w.writes++; w.writes > mostForeignWrites {
		return
	}
	w.wg.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		cl := w.client()
		defer cl.Close()
		for i := range 1 + int(pick%4)*int(pick/4%5) {
			r := &kgo.Record{Topic: w.at.topic, Partition: w.at.partition, Value: []byte(foreignMark + strings.Repeat("x", i*i))}
			if pick%2 == 0 {
				r.Key = fmt.Appendf(nil, "k%d", pick%1000) // as the source's
			}
			cl.Produce(ctx, r, func(_ *kgo.Record, err error) {
				if err == nil {
					w.written.Add(1)
				}
			})
		}
		_ = cl.Flush(ctx)
	})
}

const foreignMark = "foreign"

// mostForeignWrites bounds what is written in a long run.
const mostForeignWrites = 60

func (w *foreignWriter) wait() { w.wg.Wait() }
