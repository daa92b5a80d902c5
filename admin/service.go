package admin

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"klink/protocol"
	"klink/router"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Config is what a Service needs.
type Config struct {
	// Destination are the client options of the destination cluster: seeds, TLS, SASL.
	Destination []kgo.Opt
	// Publish is called with each new snapshot, one call at a time; it must not block. Required.
	Publish func(*router.Snapshot)
	// Secrets seals sensitive link configs; nil = no key.
	Secrets *SecretsKey
	// AllowPlaintextSecrets lets sensitive link configs be stored readable when Secrets is nil.
	AllowPlaintextSecrets bool
	Logger                *slog.Logger
}

// SecretsKey is the key that seals sensitive configs.
type SecretsKey struct{}

// Service is the control plane.
type Service struct{}

var errNotYet = errors.New("not implemented yet")

// New makes a service; Start runs it.
func New(cfg Config) (*Service, error) { return nil, errNotYet }

// Start opens the state topic in the background; see Ready.
func (s *Service) Start(ctx context.Context) error { return errNotYet }

// Ready is closed once the state topic has been read to its end.
func (s *Service) Ready() <-chan struct{} { return nil }

// Close stops the service and its clients.
func (s *Service) Close() {}

// State returns the current picture; never nil.
func (s *Service) State() *State { return nil }

// Subscribe returns a channel that gets a token after State has changed (coalesced), and a function that ends it.
func (s *Service) Subscribe() (<-chan struct{}, func()) { return nil, nil }

// SetReporter sets where the offsets in answers come from.
func (s *Service) SetReporter(r Reporter) {}

// Report records a finding of the replicator; durable when it returns.
func (s *Service) Report(ctx context.Context, ev Event) error { return errNotYet }

// SetTimeline stores where a partition begins, then updates its published timeline in place.
func (s *Service) SetTimeline(ctx context.Context, topic string, partition int32, physical, logical, floor int64) error {
	return errNotYet
}

// GrowMirror adds partitions to a mirror: timelines are stored first, then the partitions are created.
func (s *Service) GrowMirror(ctx context.Context, topic string, starts []Start) error {
	return errNotYet
}

// HandleLink implements router.Control.
func (s *Service) HandleLink(ctx context.Context, req kmsg.Request) kmsg.Response { return nil }

// CreateMirror implements router.Control.
func (s *Service) CreateMirror(ctx context.Context, spec router.MirrorSpec) *protocol.Error {
	return nil
}

// SetMirrorState implements router.Control.
func (s *Service) SetMirrorState(ctx context.Context, topic, state string, validateOnly bool) *protocol.Error {
	return nil
}

// TopicsDeleted implements router.Control.
func (s *Service) TopicsDeleted(ctx context.Context, topics []string) error { return errNotYet }

// Broker is a broker of the destination at its own address.
type Broker struct {
	ID   int32
	Host string
	Port int32
}

// FactsConfig is what Facts needs.
type FactsConfig struct {
	Destination []kgo.Opt
	// Interval between refreshes of brokers and topic ids; default 10 s.
	Interval time.Duration
	Logger   *slog.Logger
}

// Facts implements router.Facts with a client of the destination.
type Facts struct{}

// NewFacts makes a Facts; Start binds it.
func NewFacts(cfg FactsConfig) (*Facts, error) { return nil, errNotYet }

// Start publishes to dir from now on, learns brokers and topics once, and then refreshes them until Close. setBrokers
// opens listeners for brokers and returns their advertised addresses (proxy.SetBrokers).
func (f *Facts) Start(ctx context.Context, dir *router.Directory, setBrokers func([]Broker) (map[int32]router.Addr, error)) error {
	return errNotYet
}

// LearnTopicIDs implements router.Facts.
func (f *Facts) LearnTopicIDs(ctx context.Context, ids [][16]byte) error { return errNotYet }

// LearnBrokers implements router.Facts.
func (f *Facts) LearnBrokers(ctx context.Context) error { return errNotYet }

// Close ends the refreshing.
func (f *Facts) Close() {}
