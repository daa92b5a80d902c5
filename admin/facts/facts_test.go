package facts

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"klink/internal/kafkaclient"
	"klink/internal/kafkatest"
	"klink/router"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// factsWorld is Facts on an embedded cluster, with a clock.
type factsWorld struct {
	cluster   *kfake.Cluster
	facts     *Facts
	directory *router.Directory
	now       atomic.Int64
	asked     atomic.Int64 // metadata requests
	seen      atomic.Int64
	opened    []Broker
	refuse    error
}

func newFactsWorld(t *testing.T, brokers int) *factsWorld {
	w := &factsWorld{cluster: kafkatest.Embedded(t, brokers), directory: router.New(nil, nil).Directory()}
	facts, err := New(Config{
		Destination: seedOptions(t, w.cluster.ListenAddrs()...), Interval: time.Hour, Logger: slog.New(slog.DiscardHandler),
		Now:        func() time.Time { return time.UnixMilli(w.now.Load()) },
		TopicsSeen: func(m map[[16]byte]string) { w.seen.Add(int64(len(m))) },
	})
	require.NoError(t, err)
	w.facts = facts
	require.NoError(t, facts.Start(context.Background(), w.directory, func(bs []Broker) ([]map[int32]router.Addr, error) {
		w.opened = bs
		m := map[int32]router.Addr{}
		for _, b := range bs {
			m[b.ID] = router.Addr{Host: "klink", Port: 1000 + b.ID}
		}
		return []map[int32]router.Addr{m}, w.refuse
	}))
	t.Cleanup(facts.Close)
	w.cluster.ControlKey(int16(kmsg.Metadata), func(kmsg.Request) (kmsg.Response, error, bool) {
		w.cluster.KeepControl()
		w.asked.Add(1)
		return nil, nil, false
	})
	return w
}

func TestLearnBrokers(t *testing.T) {
	w := newFactsWorld(t, 2)
	require.Len(t, w.opened, 2)
	for _, b := range w.opened {
		require.NotZero(t, b.Port)
		require.Equal(t, "127.0.0.1", b.Host)
		a, ok := w.directory.Broker(0, b.ID)
		require.True(t, ok)
		require.Equal(t, router.Addr{Host: "klink", Port: 1000 + b.ID}, a)
	}
	id, _, err := w.cluster.AddNode(-1, -1)
	require.NoError(t, err)
	_, ok := w.directory.Broker(0, id)
	require.False(t, ok)
	w.now.Add(brokersEvery.Milliseconds())
	require.NoError(t, w.facts.LearnBrokers(context.Background()))
	_, ok = w.directory.Broker(0, id)
	require.True(t, ok)
	w.refuse = errors.New("no port")
	w.now.Add(brokersEvery.Milliseconds())
	require.ErrorContains(t, w.facts.LearnBrokers(context.Background()), "no port")
}

func TestLearnTopicIDs(t *testing.T) {
	w := newFactsWorld(t, 1)
	ctx := context.Background()
	client := kafkatest.NewClient(t, kgo.SeedBrokers(w.cluster.ListenAddrs()...))
	kafkatest.CreateTopic(t, client, "orders", 1, 1, nil)
	id := w.cluster.TopicInfo("orders").TopicID
	w.asked.Store(0)

	_, ok := w.directory.Topic(id)
	require.False(t, ok, "not known yet")
	require.NoError(t, w.facts.LearnTopicIDs(ctx, [][16]byte{id}))
	name, ok := w.directory.Topic(id)
	require.True(t, ok)
	require.Equal(t, "orders", name)
	require.Positive(t, w.seen.Load())
	asked := w.asked.Load()
	require.NoError(t, w.facts.LearnTopicIDs(ctx, [][16]byte{id}))
	require.Equal(t, asked, w.asked.Load(), "a known id costs no question")

	none := [16]byte{1, 2, 3}
	for range 5 {
		require.NoError(t, w.facts.LearnTopicIDs(ctx, [][16]byte{none}))
	}
	require.Equal(t, asked+1, w.asked.Load(), "an unknown id costs one for a while")
	name, ok = w.directory.Topic(none)
	require.True(t, ok)
	require.Empty(t, name)
	w.now.Add(2 * unknownFor.Milliseconds())
	kafkatest.WaitFor(t, 20*time.Second, "the unknown id to be forgotten", func() (bool, string) {
		_, known := w.directory.Topic(none)
		return !known, ""
	})
	require.NoError(t, w.facts.LearnTopicIDs(ctx, [][16]byte{none}))
	require.Equal(t, asked+2, w.asked.Load())
	name, _ = w.directory.Topic(id)
	require.Equal(t, "orders", name)
}

// The cost of an unknown id does not depend on how many topics there are.
func TestAnUnknownIDCostsLittle(t *testing.T) {
	w := newFactsWorld(t, 1)
	const known, unknown = 100_000, 200
	topics := map[[16]byte]string{}
	for i := range known {
		topics[[16]byte{byte(i), byte(i >> 8), byte(i >> 16)}] = "t"
	}
	w.directory.SetTopics(topics)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for i := range unknown {
		require.NoError(t, w.facts.LearnTopicIDs(context.Background(), [][16]byte{{byte(i), 1, 2, 3}}))
	}
	runtime.ReadMemStats(&after)
	// This includes the request, at the client and at the embedded broker. A copy of the topics
	// takes megabytes.
	each := (after.TotalAlloc - before.TotalAlloc) / unknown
	require.Less(t, each, uint64(200<<10), "bytes for an unknown id")
	t.Logf("%d bytes for an unknown id", each)
	require.Equal(t, int64(unknown), w.asked.Load())
}

// While the destination does not answer, callers that need no answer do not wait. One request asks
// for the ids of all callers that do, each id once.
func TestNobodyWaitsForOthersIDs(t *testing.T) {
	w := newFactsWorld(t, 1)
	client := kafkatest.NewClient(t, kgo.SeedBrokers(w.cluster.ListenAddrs()...))
	kafkatest.CreateTopic(t, client, "orders", 1, 1, nil)
	id := w.cluster.TopicInfo("orders").TopicID
	require.NoError(t, w.facts.LearnTopicIDs(context.Background(), [][16]byte{id}))

	held, goOn := make(chan struct{}, 1), make(chan struct{})
	var asked atomic.Int64
	w.cluster.ControlKey(int16(kmsg.Metadata), func(req kmsg.Request) (kmsg.Response, error, bool) {
		w.cluster.KeepControl()
		if topics := req.(*kmsg.MetadataRequest).Topics; len(topics) > 0 && topics[0].TopicID != [16]byte{} {
			if asked.Add(1) == 1 {
				held <- struct{}{}
				w.cluster.SleepControl(func() { <-goOn })
			}
		}
		return nil, nil, false
	})
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var work sync.WaitGroup
	learn := func(id [16]byte) {
		work.Go(func() {
			if err := w.facts.LearnTopicIDs(ctx, [][16]byte{id}); err != nil {
				t.Error(err)
			}
		})
	}
	learn([16]byte{1})
	<-held
	require.NoError(t, w.facts.LearnTopicIDs(ctx, [][16]byte{id}), "a known id")
	for i := range byte(50) {
		learn([16]byte{1})
		learn([16]byte{2, i % 25})
	}
	kafkatest.WaitFor(t, time.Minute, "all ids to wait", func() (bool, string) {
		w.facts.topics.mu.Lock()
		defer w.facts.topics.mu.Unlock()
		return len(w.facts.topics.pending) == 26, ""
	})
	gone, leave := context.WithCancel(ctx)
	leave()
	require.ErrorIs(t, w.facts.LearnTopicIDs(gone, [][16]byte{{2, 1}}), context.Canceled)
	close(goOn)
	work.Wait()
	require.Equal(t, int64(2), asked.Load(), "questions")
}

// The number of ids that wait is bounded.
func TestWaitingIDsAreBounded(t *testing.T) {
	w := newFactsWorld(t, 1)
	w.facts.topics.busy = true // nobody answers
	var ids [][16]byte
	for i := range maxPendingIDs + 10 {
		ids = append(ids, [16]byte{1, byte(i), byte(i >> 8), byte(i >> 16)})
	}
	require.ErrorContains(t, w.facts.LearnTopicIDs(context.Background(), ids), "try again")
	require.Len(t, w.facts.topics.pending, maxPendingIDs)
}

func seedOptions(t testing.TB, seeds ...string) []kgo.Opt {
	t.Helper()
	opts, err := kafkaclient.Properties{"bootstrap.servers": strings.Join(seeds, ",")}.Options()
	require.NoError(t, err)
	return opts
}
