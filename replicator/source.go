package replicator

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"klink/admin/linkconfig"
	"klink/admin/model"
	"klink/internal/kafkaclient"
	"klink/internal/retry"
	"klink/replicator/wire"

	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	// probeTimeout bounds one check of a source. With the default interval of 2 s and three
	// failures in a row, a source that has gone silent is noticed within 2 + 3*2 seconds.
	probeTimeout = 2 * time.Second
	// dialTimeout leaves a probe the time to try another broker.
	dialTimeout = 1500 * time.Millisecond
	// maxProbeInterval bounds the back-off while a source is down.
	maxProbeInterval = 15 * time.Second
)

// source is the connection of one link to its source cluster, with one set of configs. It checks
// that the source answers, follows its metadata, and keeps one fetcher per broker that leads a
// mirrored partition, or is nearer than the leader: nearest.go. It checks the leaders, too:
// health.go. When the configs change, another source takes over the mirrors; their positions are
// not touched.
type source struct {
	r           *Replicator
	name        string
	fingerprint string
	cfg         linkconfig.Replication
	sasl        bool // the link logs in
	client      *kgo.Client
	dialer      *wire.Dialer // of the fetchers' connections
	at          addresses
	lastDial    kafkaclient.DialTrouble
	counters    *LinkCounters
	log         *slog.Logger
	blind       atomic.Bool        // it was logged that the source does not know a leader epoch
	stopped     chan struct{}      // closed when everything of this source has ended
	cancel      context.CancelFunc // nil = it has not begun
	kick        chan struct{}      // asks for metadata soon

	mu       sync.Mutex
	mirrors  map[*mirror]bool
	topics   map[string]sourceTopic
	fetchers map[int32]*fetcher
	health   health
	brokers  map[int32]*brokerHealth // those that are checked
	nearest  map[*worker]*nearest    // only with client.rack
	live     map[int32]bool          // brokers in the last metadata; only with client.rack
}

// sourceTopic is what metadata says about a topic.
type sourceTopic struct {
	id      [16]byte
	leaders []int32 // by partition, -1 = none
	epochs  []int32
}

// of returns the leader of a partition and its epoch, -1 = none.
func (t *sourceTopic) of(partition int32) (leader, epoch int32) {
	if int(partition) >= len(t.leaders) {
		return -1, -1
	}
	return t.leaders[partition], t.epochs[partition]
}

// health is what the checks found.
type health struct {
	known     bool
	up        bool
	clusterID string
	code      model.Error // while down
	message   string
	failures  int       // in a row
	answered  time.Time // when the last check succeeded
	brokers   string    // while up: which brokers cannot be reached all the same, "" = none
}

// newSource returns a source that does not run yet. An error is about the configs.
func newSource(r *Replicator, link *model.Link) (*source, error) {
	opts, err := linkconfig.ClientOptions(link.Configs, r.cfg.LinkFiles)
	if err != nil {
		return nil, fmt.Errorf("link %q: %w", link.Name, err)
	}
	s := &source{
		r:           r,
		name:        link.Name,
		fingerprint: linkconfig.Fingerprint(link.Configs),
		cfg:         linkconfig.ReplicationOf(link.Configs),
		sasl:        strings.HasPrefix(strings.ToUpper(link.Configs["security.protocol"]), "SASL_"),
		counters:    r.metrics.link(link.Name),
		log:         r.log.With("link", link.Name),
		stopped:     make(chan struct{}),
		kick:        make(chan struct{}, 1),
		mirrors:     map[*mirror]bool{},
		topics:      map[string]sourceTopic{},
		fetchers:    map[int32]*fetcher{},
		nearest:     map[*worker]*nearest{},
	}
	// The link's own options win over the client id, but not over the options that follow: the
	// checks depend on those.
	opts = append([]kgo.Opt{kgo.ClientID("klink")}, opts...)
	opts = append(kafkaclient.DialTimeout(opts, dialTimeout),
		kgo.RetryBackoffFn(s.cfg.RetryBackoff),
		kgo.WithHooks(&s.lastDial),
		kgo.BrokerMaxReadBytes(128<<20),
	)
	if s.client, err = kgo.NewClient(opts...); err != nil {
		return nil, fmt.Errorf("link %q: %w", link.Name, err)
	}
	s.dialer = wire.DialerOf(s.client)
	return s, nil
}

// begin starts the source, if it does not run yet.
func (s *source) begin() {
	if s.cancel == nil {
		var ctx context.Context
		ctx, s.cancel = context.WithCancel(s.r.life)
		s.r.spawn(func(context.Context) { s.run(ctx) })
	}
}

// close ends the source and waits until nothing of it runs.
func (s *source) close() {
	s.begin()
	s.cancel()
	<-s.stopped
}

// refresh asks for metadata soon.
func (s *source) refresh() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// add makes the source serve a mirror.
func (s *source) add(m *mirror) {
	s.mu.Lock()
	s.mirrors[m] = true
	s.mu.Unlock()
	s.refresh()
}

// remove makes the source stop serving a mirror.
func (s *source) remove(m *mirror) {
	s.mu.Lock()
	delete(s.mirrors, m)
	delete(s.topics, m.sourceTopic)
	s.mu.Unlock()
	s.refresh()
}

func (s *source) healthNow() health {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.health
}

// run checks the source until the context ends.
func (s *source) run(ctx context.Context) {
	var fetchers sync.WaitGroup
	defer func() {
		fetchers.Wait()
		s.r.fetchers.Add(-int64(len(s.fetchers)))
		s.client.Close()
		close(s.stopped)
	}()
	spawn := func(f *fetcher) {
		fctx, cancel := context.WithCancel(ctx)
		f.cancel = cancel
		fetchers.Go(func() { f.run(fctx) })
	}
	fetchers.Go(func() { s.watchBrokers(ctx) })
	fetchers.Go(func() { s.watchNearest(ctx) })
	down := retry.Backoff{Low: s.cfg.CheckInterval, High: max(s.cfg.CheckInterval, maxProbeInterval)}
	var last time.Time // of the last check of all topics
	full := true
	for ctx.Err() == nil {
		began := time.Now()
		full = full || began.Sub(last) >= s.cfg.MetadataMaxAge
		again, err := s.check(ctx, full, spawn)
		wait := s.cfg.CheckInterval
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			if !s.failed(err) {
				break // not yet down: keep the interval
			}
			wait = down.Next()
		default:
			down.Reset()
			if full {
				last, full = began, false
			}
			if again {
				full, wait = true, min(wait, suspicionInterval)
			}
		}
		// A probe that timed out has already used up its interval.
		wait -= min(wait, time.Since(began))
		if err == nil {
			wait = max(wait, minRefresh)
		}
		full = s.pause(ctx, wait) || full
	}
}

const (
	// minRefresh is the least time between two checks.
	minRefresh = 100 * time.Millisecond
	// suspicionInterval is the time between checks while a suspicion waits to be confirmed.
	suspicionInterval = 700 * time.Millisecond
)

// pause waits for d, and at least minRefresh. It returns true early if somebody asks for metadata.
func (s *source) pause(ctx context.Context, d time.Duration) bool {
	if retry.Sleep(ctx, min(d, minRefresh)) != nil {
		return false
	}
	t := time.NewTimer(max(0, d-minRefresh))
	defer t.Stop()
	select {
	case <-s.kick:
		return true
	case <-t.C:
	case <-ctx.Done():
	}
	return false
}

// failed notes a failed check, and returns true if the link is down.
func (s *source) failed(err error) bool {
	code, message := s.classify(err)
	s.mu.Lock()
	s.health.failures++
	down := s.health.failures >= s.cfg.CheckThreshold
	if down {
		s.health.known, s.health.up = true, false
		s.health.code, s.health.message = code, message
	}
	s.mu.Unlock()
	s.log.Debug("the source did not answer a check", "error", err)
	if down {
		s.r.wake()
	}
	return down
}

// ok notes a check that succeeded.
func (s *source) ok(clusterID string) {
	s.mu.Lock()
	was := s.health
	s.health = health{known: true, up: true, clusterID: clusterID, answered: time.Now(), brokers: was.brokers}
	if !was.up { // what was found before says nothing now
		s.brokers, s.health.brokers = nil, ""
	}
	changed := !was.up || was.clusterID != clusterID
	s.mu.Unlock()
	if changed {
		s.r.wake()
	}
}

// assign gives every partition to the fetcher of its leader, or of the follower that the leader
// prefers; s.mu is held. If the cluster is a foreign one, nothing is fetched.
func (s *source) assign(spawn func(*fetcher), foreign bool) {
	byBroker := map[int32][]fetcherTopic{}
	mirrorsOf := map[string]int{}
	for m := range s.mirrors {
		mirrorsOf[m.sourceTopic]++
	}
	// In the same order each time: a fetcher takes a list in another order for a change of its
	// partitions.
	ordered := slices.SortedFunc(maps.Keys(s.mirrors), func(a, b *mirror) int {
		return cmp.Or(strings.Compare(a.sourceTopic, b.sourceTopic), strings.Compare(a.topic, b.topic))
	})
	for _, m := range ordered {
		if foreign {
			break
		}
		t, ok := s.topics[m.sourceTopic]
		if !ok || !m.mayFetch() {
			continue
		}
		for _, w := range m.all() {
			leader, epoch := t.of(w.id)
			if leader < 0 {
				continue
			}
			from := s.fetchFrom(w, leader, epoch)
			of := byBroker[from]
			if len(of) == 0 || of[len(of)-1].m != m {
				of = append(of, fetcherTopic{m: m, twin: mirrorsOf[m.sourceTopic] > 1})
			}
			last := &of[len(of)-1]
			last.parts = append(last.parts, fetchedPart{w: w, leader: leader, epoch: epoch})
			byBroker[from] = of
		}
	}
	for broker, f := range s.fetchers {
		if _, ok := byBroker[broker]; !ok {
			s.end(f)
		}
	}
	for broker, topics := range byBroker {
		f := s.fetchers[broker]
		if f == nil {
			f = newFetcher(s, broker)
			s.fetchers[broker] = f
			s.r.fetchers.Add(1)
			spawn(f)
		}
		f.topics.Store(&topics)
		for _, t := range topics {
			for _, p := range t.parts {
				p.w.fetcher.Store(f)
			}
		}
		f.wake()
	}
}

// end ends a fetcher; s.mu is held.
func (s *source) end(f *fetcher) {
	f.cancel()
	delete(s.fetchers, f.broker)
	s.r.fetchers.Add(-1)
}

// mirrorsNow returns a copy of the list of mirrors served.
func (s *source) mirrorsNow() []*mirror {
	s.mu.Lock()
	defer s.mu.Unlock()
	ms := make([]*mirror, 0, len(s.mirrors))
	for m := range maps.Keys(s.mirrors) {
		ms = append(ms, m)
	}
	return ms
}
