package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"klink/internal/kafkatest"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// chaosLoad is one topic of the chaos test and what is done to it meanwhile. A kind of source data
// that klink learns to mirror is one more line in [chaosLoads].
type chaosLoad struct {
	topic      string
	partitions int32
	configs    map[string]string
	// run works on the source until the context ends. Errors of single operations are what the test
	// is made for; it goes on after them.
	run func(ctx context.Context, l *chaosRun)
	// compacted topics are compared by assertCompactedAlike, and with what was acknowledged.
	compacted bool
}

// chaosRun is what a load works with.
type chaosRun struct {
	load   chaosLoad
	life   context.Context // of the test
	source *kafkatest.Cluster
	client func(opts ...kgo.Opt) *kgo.Client // of the source
	// mirrored is a client of klink, by which a load can know how far the mirror is.
	mirrored *kadm.Client
	rng      *rand.Rand
	slower   time.Duration         // factor of the pauses
	acked    atomic.Int64          // records
	journal  journal               // of compacted topics
	failed   atomic.Pointer[error] // the first produce that failed
	deleted  atomic.Int64          // DeleteRecords that the source has carried out
	deletes  map[int32]int64       // by partition, the highest offset that DeleteRecords was asked for; of one goroutine at a time
	txns     atomic.Int64          // transactions ended, committed or aborted
}

func chaosLoads() []chaosLoad {
	return []chaosLoad{
		{topic: "plain", partitions: 3, run: loadPlain},
		{topic: "transactions", partitions: 2, run: loadTransactions},
		{topic: "compacted", partitions: 2, run: loadCompacted, configs: busyCleaner(), compacted: true},
		{topic: "trimmed", partitions: 2, run: loadTrimmed},
	}
}

// produce sends records until the context ends, in bursts of a few batches, each burst with another
// codec.
func (l *chaosRun) produce(ctx context.Context, record func(i int) *kgo.Record) {
	codecs := []kgo.CompressionCodec{kgo.NoCompression(), kgo.GzipCompression(), kgo.SnappyCompression(), kgo.Lz4Compression(), kgo.ZstdCompression()}
	var clients []*kgo.Client
	for _, c := range codecs {
		clients = append(clients, l.client(kgo.ProducerBatchCompression(c), kgo.ProducerLinger(2*time.Millisecond),
			kgo.MaxBufferedRecords(200)))
	}
	for i := 0; ctx.Err() == nil; {
		cl := clients[l.rng.IntN(len(clients))]
		for range 1 + l.rng.IntN(40) {
			// Not the context that ends: records under way then would be given up.
			cl.Produce(l.life, record(i), func(r *kgo.Record, err error) {
				if err != nil {
					l.failed.CompareAndSwap(nil, &err)
					return
				}
				l.acked.Add(1)
				if l.load.compacted {
					l.journal.note(r)
				}
			})
			i++
		}
		pause(ctx, l.slower*time.Duration(l.rng.IntN(60))*time.Millisecond)
	}
	for _, cl := range clients {
		_ = cl.Flush(l.life) // the source is healed by now
	}
}

// record varies keys, values, headers and timestamps.
func (l *chaosRun) record(i int) *kgo.Record {
	r := &kgo.Record{
		Topic: l.load.topic, Partition: int32(l.rng.IntN(int(l.load.partitions))),
		Key: fmt.Appendf(nil, "k%d", i), Value: fmt.Appendf(nil, "%d %s", i, strings.Repeat("v", l.rng.IntN(200))),
		Timestamp: time.UnixMilli(baseTime + int64(l.rng.IntN(3_000_000))),
	}
	switch l.rng.IntN(20) {
	case 0:
		r.Key = nil
	case 1:
		r.Value = nil
	case 2:
		r.Key, r.Value = []byte{}, []byte{}
	case 3:
		r.Headers = []kgo.RecordHeader{{Key: "n", Value: fmt.Append(nil, i)}, {Key: "trace", Value: []byte("abc")}}
	case 4:
		r.Value = fmt.Appendf(nil, "%d %s", i, strings.Repeat("large ", 3000))
	}
	return r
}

// lastWords appends some records to every partition when all is healed: mirroring goes on, and
// there is something to compare wherever deletes or a slow machine have left little. Their keys are
// new, so that the others keep their last records.
func (l *chaosRun) lastWords(ctx context.Context, t testing.TB) {
	t.Helper()
	cl := l.client()
	var rs []*kgo.Record
	for p := range l.load.partitions {
		for i := range 100 {
			rs = append(rs, &kgo.Record{
				Topic: l.load.topic, Partition: p, Key: fmt.Appendf(nil, "last%d", i), Value: fmt.Appendf(nil, "last words %d", i),
				Timestamp: time.UnixMilli(baseTime + 4_000_000 + int64(i)),
			})
		}
	}
	results := cl.ProduceSync(ctx, rs...)
	if err := results.FirstErr(); err != nil {
		t.Fatalf("%s: produce to the source when all is healed: %v", l.load.topic, err)
	}
	l.acked.Add(int64(len(rs)))
	for _, r := range results {
		if l.load.compacted {
			l.journal.note(r.Record)
		}
	}
}

// pause is a rate: the machine has two cores for everything.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// loadPlain appends.
func loadPlain(ctx context.Context, l *chaosRun) { l.produce(ctx, l.record) }
