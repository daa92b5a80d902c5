package admin

import (
	"context"
	"runtime"
	"testing"
	"time"

	"klink/admin/store"
	"klink/internal/kafkatest"
	"klink/router"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
)

// The state topic has a batch that decompresses to a huge size. An instance that runs reports it,
// and no longer serves mirrors by what it knew. An instance that starts does not become ready.
// Neither allocates the memory.
func TestADecompressionBombInTheStateTopic(t *testing.T) {
	w := newWorld(t)
	lease := router.NewLease()
	running := w.start(func(c *Config) { c.Lease, c.StateLease = lease, 2*time.Second })
	require.True(t, lease.Fresh())
	bomber := kafkatest.NewClient(t, kgo.SeedBrokers(w.seeds...), kgo.DefaultProduceTopic(store.StateTopic),
		kgo.ProducerBatchMaxBytes(512<<20), kgo.BrokerMaxWriteBytes(600<<20), kgo.ProducerBatchCompression(kgo.GzipCompression().WithLevel(9)))
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	var before, after runtime.MemStats
	require.NoError(t, bomber.ProduceSync(ctx, &kgo.Record{Key: []byte("mirror/a"), Value: make([]byte, 256<<20)}).FirstErr())
	runtime.GC()
	runtime.ReadMemStats(&before)
	require.Eventually(t, func() bool { return !lease.Fresh() }, time.Minute, 50*time.Millisecond, "it goes on by what it knew")
	require.ErrorContains(t, running.StateProblem(), store.StateTopic)
	second, err := New(Config{Destination: []kgo.Opt{kgo.SeedBrokers(w.seeds...)}, Publish: func(*router.Snapshot) {}, Logger: testLogger(t)})
	require.NoError(t, err)
	require.NoError(t, second.Start(ctx))
	defer second.Close()
	select {
	case <-second.Ready():
		t.Error("it is ready, though it could not read all of the state topic")
	case <-time.After(3 * time.Second):
	}
	runtime.ReadMemStats(&after)
	if cost := after.Sys - before.Sys; after.Sys > before.Sys && cost > 64<<20 {
		t.Errorf("it takes %d bytes more of memory", cost)
	}
}
