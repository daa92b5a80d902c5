package facts

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"klink/router"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Broker is a broker of the destination at its own address.
type Broker struct {
	ID   int32
	Host string
	Port int32
}

// Config is what Facts needs.
type Config struct {
	// Destination has the client options for the destination cluster. Required.
	Destination []kgo.Opt
	// Interval between refreshes of brokers and topic ids; default 10 s.
	Interval time.Duration
	// TopicsSeen is called with the topics that Facts learns, by id; usually Service.TopicsSeen.
	// Optional.
	TopicsSeen func(map[[16]byte]string)
	// CatchUp returns once the timelines of a mirror here include everything that its owner, on
	// whichever instance, had stored before the call. Optional.
	CatchUp func(ctx context.Context, topic string) error
	Logger  *slog.Logger
	// Now is the clock for cached answers; default time.Now.
	Now func() time.Time
}

// brokersEvery is the shortest time between two requests for the brokers. While a broker is
// unknown, every Metadata response that names it makes klink ask. If klink cannot open a listener
// for that broker, it would otherwise send a request each time.
const brokersEvery = time.Second

// Facts implements router.Facts with a client of the destination: it learns brokers and topic ids,
// on demand and every Interval, and publishes them to the router's Directory.
type Facts struct {
	cfg        Config
	client     *kgo.Client
	directory  *router.Directory
	setBrokers func([]Broker) ([]map[int32]router.Addr, error)
	cancel     context.CancelFunc
	work       sync.WaitGroup

	leaders leaderCache // see LearnOffset
	seeks   *seeks      // see SeekTime
	maxSeek int         // see SeekTime; for tests
	maxLook int         // see maxLookBytes; for tests

	// brokersTurn has one token. Its holder asks for the brokers, and owns brokersAsked, the time
	// of the last response, and brokersErr, its outcome.
	brokersTurn  chan struct{}
	brokersAsked time.Time
	brokersErr   error

	topics topicQuestions
}

var _ router.Facts = (*Facts)(nil)

// New returns a Facts, which does nothing until Start.
func New(cfg Config) (*Facts, error) {
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
		return nil, fmt.Errorf("could not create a client for the destination: %w", err)
	}
	turn := make(chan struct{}, 1)
	turn <- struct{}{}
	return &Facts{cfg: cfg, client: client, cancel: func() {}, brokersTurn: turn, topics: newTopicQuestions(), seeks: newSeeks(), maxSeek: maxSeekBytes, maxLook: maxLookBytes}, nil
}

// Start publishes to directory from now on, learns brokers and topics once, and then refreshes them
// until Close. setBrokers opens ports for brokers and returns their advertised addresses, for each
// listener (proxy.SetBrokers). Start returns an error if the destination did not answer within ctx,
// or if ports could not be opened; Facts goes on trying either way.
func (f *Facts) Start(ctx context.Context, directory *router.Directory, setBrokers func([]Broker) ([]map[int32]router.Addr, error)) error {
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
				f.cfg.Logger.Warn("could not refresh the brokers and topics of the destination, will retry", "error", err)
			}
		}
	})
	return err
}

// Close stops the refreshing and waits for it.
func (f *Facts) Close() {
	f.cancel()
	f.topics.close()
	f.work.Wait()
	f.client.Close()
}

func (f *Facts) refresh(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	return errors.Join(f.LearnBrokers(ctx), f.learnAllTopics(ctx))
}

// LearnBrokers implements router.Facts. Concurrent callers share one request, and its result is
// reused for brokersEvery.
func (f *Facts) LearnBrokers(ctx context.Context) error {
	select {
	case <-f.brokersTurn:
	case <-ctx.Done():
		return fmt.Errorf("could not list the brokers of the destination: %w", ctx.Err())
	}
	defer func() { f.brokersTurn <- struct{}{} }()
	if !f.brokersAsked.IsZero() && f.cfg.Now().Before(f.brokersAsked.Add(brokersEvery)) {
		return f.brokersErr
	}
	err := f.askBrokers(ctx)
	if err != nil && ctx.Err() != nil {
		return err // this caller gave up: that is no result for others
	}
	f.brokersAsked, f.brokersErr = f.cfg.Now(), err
	return err
}

func (f *Facts) askBrokers(ctx context.Context) error {
	req := kmsg.NewPtrMetadataRequest()
	req.Topics = []kmsg.MetadataRequestTopic{} // none; null would be all
	resp, err := req.RequestWith(ctx, f.client)
	if err != nil {
		return fmt.Errorf("could not list the brokers of the destination: %w", err)
	}
	brokers := make([]Broker, 0, len(resp.Brokers))
	for _, b := range resp.Brokers {
		brokers = append(brokers, Broker{ID: b.NodeID, Host: b.Host, Port: b.Port})
	}
	addresses, err := f.setBrokers(brokers)
	if err != nil {
		return fmt.Errorf("could not open listeners for the brokers of the destination: %w", err)
	}
	f.directory.SetBrokers(addresses...)
	return nil
}
