package kafkaclient

import (
	"fmt"
	"testing"
	"time"

	"klink/internal/kafkatest"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
)

// BenchmarkConsume reads a topic of 64 MiB from a real broker, alternately with the guard and
// without it, and reports the ratio of the times.
//
//	go test ./internal/kafkaclient -run - -bench Consume -benchtime 40x
func BenchmarkConsume(b *testing.B) {
	c := kafkatest.Shared(b, "source")
	topic := fmt.Sprint("guard-", time.Now().UnixNano())
	cl := c.Client(b)
	kafkatest.CreateTopic(b, cl, topic, 4, 1, nil)
	for p := range int32(4) {
		kafkatest.Produce(b, cl, topic, p, kafkatest.Records(16<<10, 1<<10)...)
	}
	guarded, err := Properties{"bootstrap.servers": c.Bootstrap()}.Options()
	require.NoError(b, err)
	plain := []kgo.Opt{kgo.SeedBrokers(c.Bootstrap())}
	var took [2]time.Duration
	b.SetBytes(2 * 64 << 20)
	for i := 0; b.Loop(); i++ {
		for j := range 2 {
			with := (i + j) % 2 // each goes first equally often
			began := time.Now()
			consumer, err := kgo.NewClient(append(append([]kgo.Opt(nil), [][]kgo.Opt{plain, guarded}[with]...), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))...)
			require.NoError(b, err)
			for n := 0; n < 4*16<<10; {
				f := consumer.PollFetches(b.Context())
				require.NoError(b, f.Err())
				n += f.NumRecords()
			}
			consumer.Close()
			took[with] += time.Since(began)
		}
	}
	b.ReportMetric(took[1].Seconds()/took[0].Seconds(), "guarded/plain")
}
