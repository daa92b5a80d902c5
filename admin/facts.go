package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	"klink/router"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Broker is a broker of the destination at its own address.
type Broker struct {
	ID   int32
	Host string
	Port int32
}

// FactsConfig is what Facts needs.
type FactsConfig struct {
	// Destination are the client options of the destination cluster. Required.
	Destination []kgo.Opt
	// Interval between refreshes of brokers and topic ids; default 10 s.
	Interval time.Duration
	// TopicsSeen is told of topics as they are learned, by id; usually Service.TopicsSeen. Optional.
	TopicsSeen func(map[[16]byte]string)
	// CatchUp returns when the timelines of a mirror have everything that its owner had stored before, wherever that is.
	// Optional.
	CatchUp func(ctx context.Context, topic string) error
	Logger  *slog.Logger
	// Now is the clock of what is remembered for a while; default time.Now.
	Now func() time.Time
}

// unknownFor is how long a topic id that does not exist is remembered as such: a client that goes on asking for it costs a
// question a second.
const unknownFor = time.Second

// brokersEvery is how often the brokers are asked for at most. As long as a broker stays unknown, every Metadata response
// that names it asks; a cluster with one that klink cannot open a listener for must not cost it a question each time.
const brokersEvery = time.Second

// maxUnknownIDs bounds what clients can make klink remember; beyond it, the oldest are forgotten with all others.
const maxUnknownIDs = 10_000

// Facts implements router.Facts with a client of the destination: it learns brokers and topic ids, on demand and every
// Interval, and publishes them to the router's Directory.
type Facts struct {
	cfg        FactsConfig
	client     *kgo.Client
	directory  *router.Directory
	setBrokers func([]Broker) (map[int32]router.Addr, error)
	cancel     context.CancelFunc
	work       sync.WaitGroup

	leaders leaderCache // see LearnOffset
	maxSeek int         // see SeekTime; for tests

	// brokersTurn has one token: who holds it asks for the brokers, and owns brokersAsked, when the last question was
	// answered, and brokersErr, what came of it.
	brokersTurn  chan struct{}
	brokersAsked time.Time
	brokersErr   error

	topicsMu sync.Mutex // one question at a time, and what follows
	topics   map[[16]byte]string
	unknown  map[[16]byte]time.Time // when to ask again
	forget   *time.Timer            // will publish without what has been forgotten; nil = none is set
}

var _ router.Facts = (*Facts)(nil)

// NewFacts makes a Facts; Start binds it.
func NewFacts(cfg FactsConfig) (*Facts, error) {
	if cfg.Interval <= 0 {
		cfg.Interval = 10 * time.Second
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.TopicsSeen == nil {
		cfg.TopicsSeen = func(map[[16]byte]string) {}
	}
	client, err := kgo.NewClient(cfg.Destination...)
	if err != nil {
		return nil, fmt.Errorf("client of the destination: %w", err)
	}
	turn := make(chan struct{}, 1)
	turn <- struct{}{}
	return &Facts{cfg: cfg, client: client, cancel: func() {}, brokersTurn: turn, topics: map[[16]byte]string{}, unknown: map[[16]byte]time.Time{}, maxSeek: maxSeekBytes}, nil
}

// Start publishes to directory from now on, learns brokers and topics once, and then refreshes them until Close.
// setBrokers opens listeners for brokers and returns their advertised addresses (proxy.SetBrokers). An error means that
// the destination could not be asked within ctx, or that listeners could not be opened; Facts goes on trying.
func (f *Facts) Start(ctx context.Context, directory *router.Directory, setBrokers func([]Broker) (map[int32]router.Addr, error)) error {
	f.directory, f.setBrokers = directory, setBrokers
	err := f.refresh(ctx)
	loop, cancel := context.WithCancel(context.Background())
	f.cancel = cancel
	f.work.Go(func() {
		tick := time.NewTicker(f.cfg.Interval)
		defer tick.Stop()
		for {
			select {
			case <-loop.Done():
				return
			case <-tick.C:
			}
			if err := f.refresh(loop); err != nil && loop.Err() == nil {
				f.cfg.Logger.Warn("brokers and topics of the destination were not refreshed; will be tried again", "error", err)
			}
		}
	})
	return err
}

// Close ends the refreshing.
func (f *Facts) Close() {
	f.cancel()
	f.work.Wait()
	f.topicsMu.Lock()
	defer f.topicsMu.Unlock()
	if f.forget != nil {
		f.forget.Stop()
	}
	f.client.Close()
}

func (f *Facts) refresh(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	return errors.Join(f.LearnBrokers(ctx), f.learnAllTopics(ctx))
}

// LearnBrokers implements router.Facts. Who comes while a question is under way, or within brokersEvery of the last, shares
// what comes, or came, of it.
func (f *Facts) LearnBrokers(ctx context.Context) error {
	select {
	case <-f.brokersTurn:
	case <-ctx.Done():
		return fmt.Errorf("brokers of the destination: %w", ctx.Err())
	}
	defer func() { f.brokersTurn <- struct{}{} }()
	if !f.brokersAsked.IsZero() && f.cfg.Now().Before(f.brokersAsked.Add(brokersEvery)) {
		return f.brokersErr
	}
	err := f.askBrokers(ctx)
	if err != nil && ctx.Err() != nil {
		return err // one client went away; that is no answer for others
	}
	f.brokersAsked, f.brokersErr = f.cfg.Now(), err
	return err
}

func (f *Facts) askBrokers(ctx context.Context) error {
	req := kmsg.NewPtrMetadataRequest()
	req.Topics = []kmsg.MetadataRequestTopic{} // none; null would be all
	resp, err := req.RequestWith(ctx, f.client)
	if err != nil {
		return fmt.Errorf("brokers of the destination: %w", err)
	}
	brokers := make([]Broker, 0, len(resp.Brokers))
	for _, b := range resp.Brokers {
		brokers = append(brokers, Broker{ID: b.NodeID, Host: b.Host, Port: b.Port})
	}
	addresses, err := f.setBrokers(brokers)
	if err != nil {
		return fmt.Errorf("listeners for the brokers of the destination: %w", err)
	}
	f.directory.SetBrokers(addresses)
	return nil
}

// LearnTopicIDs implements router.Facts.
func (f *Facts) LearnTopicIDs(ctx context.Context, ids [][16]byte) error {
	f.topicsMu.Lock()
	defer f.topicsMu.Unlock()
	now := f.cfg.Now()
	var ask [][16]byte
	for _, id := range ids {
		if again, ok := f.unknown[id]; ok && now.Before(again) {
			continue
		}
		if _, known := f.topics[id]; !known && id != [16]byte{} {
			ask = append(ask, id)
		}
	}
	if len(ask) == 0 {
		f.publish(now)
		return nil
	}
	// Metadata by id is there from Kafka 3.1 on (v12); clients send ids to those only.
	req := kmsg.NewPtrMetadataRequest()
	for _, id := range ask {
		t := kmsg.NewMetadataRequestTopic()
		t.TopicID = id
		req.Topics = append(req.Topics, t)
	}
	resp, err := req.RequestWith(ctx, f.client)
	if err != nil {
		return fmt.Errorf("names of %d topic ids at the destination: %w", len(ask), err)
	}
	seen := map[[16]byte]string{}
	for _, t := range resp.Topics {
		switch {
		case t.ErrorCode == kerr.UnknownTopicID.Code, t.ErrorCode == kerr.UnknownTopicOrPartition.Code,
			t.ErrorCode == kerr.TopicAuthorizationFailed.Code:
			// What klink may not see is neither a mirror nor its own.
			continue
		case t.Topic != nil && t.TopicID != [16]byte{}:
			seen[t.TopicID] = *t.Topic
		case t.ErrorCode != 0:
			return fmt.Errorf("name of a topic id at the destination: %w", kerr.ErrorForCode(t.ErrorCode))
		}
	}
	if len(f.unknown)+len(ask) > maxUnknownIDs {
		clear(f.unknown)
	}
	for _, id := range ask {
		if _, ok := seen[id]; !ok {
			f.unknown[id] = now.Add(unknownFor)
		}
	}
	maps.Copy(f.topics, seen)
	f.publish(now)
	f.cfg.TopicsSeen(seen)
	return nil
}

// learnAllTopics replaces what is known by what there is now.
func (f *Facts) learnAllTopics(ctx context.Context) error {
	f.topicsMu.Lock()
	defer f.topicsMu.Unlock()
	req := kmsg.NewPtrMetadataRequest()
	req.Topics = nil // all
	resp, err := req.RequestWith(ctx, f.client)
	if err != nil {
		return fmt.Errorf("topics of the destination: %w", err)
	}
	seen := map[[16]byte]string{}
	for _, t := range resp.Topics {
		if t.Topic != nil && t.TopicID != [16]byte{} {
			seen[t.TopicID] = *t.Topic
		}
	}
	f.topics = seen
	f.publish(f.cfg.Now())
	f.cfg.TopicsSeen(seen)
	return nil
}

// publish gives the directory a new map: the ids that are known, and, as "", those that are known not to exist.
func (f *Facts) publish(now time.Time) {
	m := maps.Clone(f.topics)
	for id, again := range f.unknown {
		if !now.Before(again) {
			delete(f.unknown, id)
		} else if _, known := m[id]; !known {
			m[id] = ""
		}
	}
	f.directory.SetTopics(m)
	if len(f.unknown) > 0 && f.forget == nil {
		f.forget = time.AfterFunc(unknownFor, func() {
			f.topicsMu.Lock()
			defer f.topicsMu.Unlock()
			f.forget = nil
			f.publish(f.cfg.Now())
		})
	}
}
