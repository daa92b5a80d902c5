package admin

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"klink/admin/linkconfig"
	"klink/admin/model"
	"klink/internal/kafkaclient"
	"klink/internal/kafkatest"
	"klink/protocol/linkapi"
	"klink/router"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// world is two embedded clusters with a service on the destination.
type world struct {
	t                   testing.TB
	source, destination *kfake.Cluster
	seeds               []string // of the destination
	sourceAdmin         *kadm.Client
	destAdmin           *kadm.Client
	service             *Service
	reporter            *fakeReplicator

	mu   sync.Mutex
	snap *router.Snapshot
}

// clientOptions returns the options of klink's own clients, so that requests and responses pass the
// guard.
func clientOptions(t testing.TB, seeds ...string) []kgo.Opt {
	opts, err := kafkaclient.Properties{"bootstrap.servers": strings.Join(seeds, ",")}.Options()
	require.NoError(t, err)
	return opts
}

func newWorld(t testing.TB, change ...func(*Config)) *world {
	w := &world{t: t}
	w.source = kafkatest.Embedded(t, 1, kfake.ClusterID("source"))
	w.destination = kafkatest.Embedded(t, 1, kfake.ClusterID("destination"))
	w.seeds = w.destination.ListenAddrs()
	w.sourceAdmin = kadm.NewClient(kafkatest.NewClient(t, kgo.SeedBrokers(w.source.ListenAddrs()...)))
	w.destAdmin = kadm.NewClient(kafkatest.NewClient(t, kgo.SeedBrokers(w.destination.ListenAddrs()...)))
	w.service = w.start(change...)
	return w
}

// start starts another service on the destination.
func (w *world) start(change ...func(*Config)) *Service {
	return w.startWith(func(*Service) {}, change...)
}

// startWith is start, but calls prepare with the service before it runs.
func (w *world) startWith(prepare func(*Service), change ...func(*Config)) *Service {
	cfg := Config{
		Destination: clientOptions(w.t, w.destination.ListenAddrs()...),
		Publish: func(s *router.Snapshot) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.snap = s
		},
		ReconcileInterval: 50 * time.Millisecond,
		Logger:            testLogger(w.t),
	}
	for _, c := range change {
		c(&cfg)
	}
	s, err := New(cfg)
	require.NoError(w.t, err)
	prepare(s)
	require.NoError(w.t, s.Start(context.Background()))
	w.t.Cleanup(s.Close)
	select {
	case <-s.Ready():
	case <-time.After(20 * time.Second):
		w.t.Fatal("the service is not ready")
	}
	return s
}

// unready starts a service with an unreachable destination.
func (w *world) unready(address string) *Service {
	s, err := New(Config{
		Destination: clientOptions(w.t, address), Publish: func(*router.Snapshot) {}, Logger: testLogger(w.t),
	})
	require.NoError(w.t, err)
	require.NoError(w.t, s.Start(context.Background()))
	return s
}

func (w *world) snapshot() *router.Snapshot {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.snap
}

// replicator starts a stand-in for the replicator that drains every mirror that is being stopped.
func (w *world) replicator() { w.reporter = startFakeReplicator(w.t, w.service) }

func (w *world) sourceTopic(topic string, partitions int32, configs map[string]string) {
	_, err := w.sourceAdmin.CreateTopic(context.Background(), partitions, 1, linkconfig.Pointers(configs), topic)
	require.NoError(w.t, err)
}

func (w *world) link(name string, more ...string) linkapi.CreateLinkResult {
	req := &linkapi.CreateLinksRequest{Links: []linkapi.CreateLink{{Name: name, Configs: w.configs(more...)}}}
	return w.service.HandleLink(context.Background(), req).(*linkapi.CreateLinksResponse).Results[0]
}

// Configs returns the configs of a link to the source, and further ones given as key=value.
func (w *world) configs(more ...string) []linkapi.Config {
	address := strings.Join(w.source.ListenAddrs(), ",")
	configs := []linkapi.Config{{Name: linkconfig.ConfigBootstrapServers, Value: &address}}
	for _, m := range more {
		key, value, _ := strings.Cut(m, "=")
		if key == linkconfig.ConfigBootstrapServers {
			configs[0].Value = &value
			continue
		}
		configs = append(configs, linkapi.Config{Name: key, Value: &value})
	}
	return configs
}

func (w *world) mirror(topic, link string) linkapi.NameResult {
	req := &linkapi.CreateMirrorsRequest{Mirrors: []linkapi.CreateMirror{{Topic: topic, Link: link, NumPartitions: -1, ReplicationFactor: -1}}}
	return w.service.HandleLink(context.Background(), req).(*linkapi.CreateMirrorsResponse).Results[0]
}

func (w *world) alter(topic string, op int8) linkapi.AlteredMirror {
	req := &linkapi.AlterMirrorsRequest{TimeoutMs: 10_000, Mirrors: []linkapi.AlterMirror{{Topic: topic, Op: op}}}
	return w.service.HandleLink(context.Background(), req).(*linkapi.AlterMirrorsResponse).Results[0]
}

func (w *world) report(ev model.Event) {
	require.NoError(w.t, w.service.Report(context.Background(), endedSomewhere(w.service, ev)))
}

// endedAt returns partitions, from 0 on, that ended at the given logical and physical offsets.
func endedAt(ends ...[2]int64) (ended []model.PartitionEnd) {
	for p, e := range ends {
		ended = append(ended, model.PartitionEnd{Partition: int32(p), Logical: e[0], Physical: e[1]})
	}
	return ended
}

// endedSomewhere adds to EventMirrorDrained that the mirror's other partitions have also ended, at
// unknown offsets.
func endedSomewhere(s *Service, ev model.Event) model.Event {
	if m := s.State().Mirrors[ev.Topic]; ev.Kind == model.EventMirrorDrained && m != nil {
		for p := int32(len(ev.Ended)); p < m.Partitions; p++ {
			ev.Ended = append(ev.Ended, model.PartitionEnd{Partition: p, Logical: -1, Physical: -1})
		}
	}
	return ev
}

// awaitState waits until the service's snapshot satisfies done.
func awaitState(t testing.TB, s *Service, what string, done func(*model.State) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	require.NoError(t, s.wait(ctx, done), what)
}

func text(message *string) string {
	if message == nil {
		return ""
	}
	return *message
}

// fakeReplicator reports events as a replicator would.
type fakeReplicator struct {
	empty  bool // it knows that mirrors are empty
	mu     sync.Mutex
	status map[string][]model.PartitionStatus
}

func startFakeReplicator(t testing.TB, s *Service, change ...func(*fakeReplicator)) *fakeReplicator {
	r := &fakeReplicator{status: map[string][]model.PartitionStatus{}}
	for _, f := range change {
		f(r)
	}
	s.SetReporter(r)
	changes, end := s.Subscribe()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-ctx.Done():
				return
			case <-changes:
			}
			for topic, m := range s.State().Mirrors {
				switch {
				case m.Promotion != "" && m.State == model.MirrorActive:
					_ = s.Report(ctx, model.Event{Kind: model.EventMirrorCaughtUp, Topic: topic, Promotion: m.Promotion})
				case m.State == model.MirrorPendingStopped:
					ev := model.Event{Kind: model.EventMirrorDrained, Topic: topic}
					if r.empty {
						ev.Ended = endedAt(make([][2]int64, m.Partitions)...)
					}
					_ = s.Report(ctx, endedSomewhere(s, ev))
				case m.State == model.MirrorPending && m.Created:
					_ = s.Report(ctx, model.Event{Kind: model.EventMirrorStarted, Topic: topic})
				}
			}
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		end()
	})
	return r
}

func (r *fakeReplicator) Status(topic string) []model.PartitionStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.status[topic]
}

func (r *fakeReplicator) set(topic string, status ...model.PartitionStatus) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status[topic] = status
}

// testLogger logs to the test until the test ends.
func testLogger(t testing.TB) *slog.Logger {
	w := &testWriter{t: t}
	t.Cleanup(func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.t = nil
	})
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

type testWriter struct {
	mu sync.Mutex
	t  testing.TB
}

func (w *testWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.t != nil {
		w.t.Log(strings.TrimSpace(string(p)))
	}
	return len(p), nil
}
