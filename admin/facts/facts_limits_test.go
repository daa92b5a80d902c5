package facts

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// A broker that stays unknown makes every Metadata response ask for the brokers. Facts sends at
// most one request a second, whatever came of the last one.
func TestLearnBrokersIsLimited(t *testing.T) {
	w := newFactsWorld(t, 1)
	learn := func() (failed int) {
		var work sync.WaitGroup
		var mu sync.Mutex
		for range 50 {
			work.Go(func() {
				if w.facts.LearnBrokers(context.Background()) != nil {
					mu.Lock()
					defer mu.Unlock()
					failed++
				}
			})
		}
		work.Wait()
		return failed
	}
	require.Zero(t, learn())
	require.Zero(t, w.asked.Load(), "they were asked for at the start")
	for i := range int64(3) {
		w.now.Add(brokersEvery.Milliseconds())
		require.Zero(t, learn())
		require.Equal(t, i+1, w.asked.Load())
	}
	w.refuse = errors.New("no port")
	w.now.Add(brokersEvery.Milliseconds())
	require.Equal(t, 50, learn(), "all are told what came of it")
	require.Equal(t, int64(4), w.asked.Load())
}

// A client that goes away while it waits leaves nothing behind.
func TestLearnBrokersForAClientThatGoes(t *testing.T) {
	w := newFactsWorld(t, 1)
	w.now.Add(brokersEvery.Milliseconds())
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	require.ErrorIs(t, w.facts.LearnBrokers(ctx), context.Canceled)
	require.NoError(t, w.facts.LearnBrokers(context.Background()))
	require.Equal(t, int64(1), w.asked.Load())
}

// A topic that klink's principal may not see is neither a mirror nor klink's own, so clients that
// may read it do.
func TestLearnTopicIDsThatMayNotBeSeen(t *testing.T) {
	w := newFactsWorld(t, 1)
	id := [16]byte{9}
	w.cluster.ControlKey(int16(kmsg.Metadata), func(req kmsg.Request) (kmsg.Response, error, bool) {
		resp := req.ResponseKind().(*kmsg.MetadataResponse)
		topic := kmsg.NewMetadataResponseTopic()
		topic.TopicID, topic.ErrorCode = id, kerr.TopicAuthorizationFailed.Code
		resp.Topics = append(resp.Topics, topic)
		return resp, nil, true
	})
	require.NoError(t, w.facts.LearnTopicIDs(context.Background(), [][16]byte{id}))
	name, known := w.directory.Topic(id)
	require.True(t, known)
	require.Empty(t, name)
}
