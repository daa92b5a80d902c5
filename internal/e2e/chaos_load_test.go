package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"klink/internal/kafkatest"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// chaosLoad is one topic of the chaos test and what is done to it meanwhile. A kind of source data that klink learns to
// mirror is one more line in [chaosLoads].
type chaosLoad struct {
	topic      string
	partitions int32
	configs    map[string]string
	// run works on the source until the context ends. Errors of single operations are what the test is made for; it
	// goes on after them.
	run func(ctx context.Context, l *chaosRun)
	// compacted topics are compared by assertCompactedAlike, and by no client that has to be told how many records there are.
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
	acked    atomic.Int64          // records
	failed   atomic.Pointer[error] // the first produce that failed
	deleted  atomic.Int64          // DeleteRecords that the source has carried out
	txns     atomic.Int64          // transactions ended, committed or aborted
}

func chaosLoads() []chaosLoad {
	loads := []chaosLoad{
		{topic: "plain", partitions: 3, run: loadPlain},
		{topic: "transactions", partitions: 2, run: loadTransactions},
		{topic: "compacted", partitions: 2, run: loadCompacted, configs: busyCleaner(), compacted: true},
	}
	// Only where CHAOS is set: after one run in four the mirror's log started above the source's, at the end of a run with
	// source brokers killed. It is not known yet whether the source forgot its log start (a broker checkpoints it once a
	// minute) or the mirror went too far.
	if os.Getenv("CHAOS") != "" {
		loads = append(loads, chaosLoad{topic: "trimmed", partitions: 2, run: loadTrimmed})
	}
	return loads
}

// produce sends records until the context ends, in bursts of a few batches, each burst with another codec.
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
			cl.Produce(l.life, record(i), func(_ *kgo.Record, err error) {
				if err == nil {
					l.acked.Add(1)
				} else {
					l.failed.CompareAndSwap(nil, &err)
				}
			})
			i++
		}
		pause(ctx, time.Duration(l.rng.IntN(60))*time.Millisecond)
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

// pause is a rate: the machine has two cores for everything.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// loadPlain appends.
func loadPlain(ctx context.Context, l *chaosRun) { l.produce(ctx, l.record) }

// loadTrimmed appends, and deletes records that have been mirrored, often in the middle of a batch.
func loadTrimmed(ctx context.Context, l *chaosRun) {
	done := make(chan struct{})
	rng := rand.New(rand.NewPCG(l.rng.Uint64(), 1))
	go func() {
		defer close(done)
		adm := kadm.NewClient(l.client())
		for ctx.Err() == nil {
			pause(ctx, 3*time.Second)
			attempt, cancel := context.WithTimeout(ctx, 10*time.Second)
			l.trim(attempt, adm, rng)
			cancel()
		}
	}()
	l.produce(ctx, l.record)
	<-done
}

func (l *chaosRun) trim(ctx context.Context, adm *kadm.Client, rng *rand.Rand) {
	ends, err := l.mirrored.ListEndOffsets(ctx, l.load.topic)
	if err != nil {
		return
	}
	starts, err := adm.ListStartOffsets(ctx, l.load.topic)
	if err != nil {
		return
	}
	offsets := kadm.Offsets{}
	ends.Each(func(end kadm.ListedOffset) {
		start, ok := starts.Lookup(end.Topic, end.Partition)
		if end.Err != nil || !ok || start.Err != nil || end.Offset <= start.Offset {
			return
		}
		// At most half of what is left, so that much remains to be compared.
		offsets.AddOffset(end.Topic, end.Partition, start.Offset+rng.Int64N((end.Offset-start.Offset)/2+1), -1)
	})
	if rs, err := adm.DeleteRecords(ctx, offsets); err == nil {
		rs.Each(func(r kadm.DeleteRecordsResponse) {
			if r.Err == nil {
				l.deleted.Add(1)
			}
		})
	}
}
