package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"klink/admin/caslog"
	"klink/admin/model"
	"klink/admin/offsets"
	"klink/admin/store"
	"klink/admin/transactions"
	"klink/internal/kafkaclient"
	"klink/protocol"
	"klink/router"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Config is what a Service needs.
type Config struct {
	// Destination are the client options of the destination cluster: seeds, TLS, SASL. Required.
	Destination []kgo.Opt
	// Publish is called with each new snapshot, one call at a time; it must not block. Required.
	Publish func(*router.Snapshot)
	// Lease is the lease of the router that Publish publishes to; the service keeps it up. Default:
	// one that nobody looks at.
	Lease *router.Lease
	// StateLease is for how long the last read of the state topic counts when the topic cannot be
	// read any more; default 10 s. After an instance has died, the next mirror that another
	// instance creates has to wait this long.
	StateLease time.Duration
	// Instance returns the name of this instance, for people and to find its predecessor ("" = it
	// succeeds nobody), and its client id in the group of instances ("" = it is in none). It is
	// called after Start; nil = neither.
	Instance func() (name, clientID string)
	// HeardFor is for how long the lease lasts after the group coordinator last answered this
	// instance; see router.Lease.Heard.
	HeardFor time.Duration
	// Session is the session time-out in the group of instances; 0 = not known. Only a check of the
	// destination uses it.
	Session time.Duration
	// Secrets seals sensitive link configs; nil = no key.
	Secrets *store.SecretsKey
	// AllowPlaintextSecrets lets sensitive link configs be stored unencrypted when Secrets is nil.
	AllowPlaintextSecrets bool
	// LinkFiles are the files on this machine that the configs of links may name.
	LinkFiles kafkaclient.Files
	// OwnPrincipals are the principals of klink at the destination, as TYPE:NAME. ACLs for them are
	// not copied from a source.
	OwnPrincipals []string
	// ReconcileInterval is how often the mirrors are compared with the topics of the destination;
	// default 5 s.
	ReconcileInterval time.Duration
	Logger            *slog.Logger
	// Now is the clock of state times; default time.Now.
	Now func() time.Time
}

// Service is the control plane: it keeps links and mirrors in the state topic, moves them through
// their states, answers the link API, and publishes what the router and the replicator need. It
// implements router.Control.
//
// Invariants:
//  1. What is published has been committed to the state topic before.
//  2. A snapshot is Complete only when the state topic has been read to its end. The lease says for
//     how long it may be used after that (instances.go).
//  3. No request to a source or to the destination's brokers is made while a lock is held that a
//     reader of State needs.
type Service struct {
	cfg    Config
	log    *slog.Logger
	client *kgo.Client // of the destination
	admin  *kadm.Client

	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup

	id           string // of this process, in the state topic
	lease        *router.Lease
	leaving      atomic.Bool
	introduced   bool                  // it has written its record; only open, then keepLease, use it
	leaseTrouble atomic.Pointer[error] // why the lease was not extended last

	store     *store.Store // set before ready is closed
	ready     chan struct{}
	clusterID atomic.Pointer[string] // of the destination

	state    atomic.Pointer[model.State]
	reporter atomic.Pointer[model.Reporter]
	owner    atomic.Pointer[model.Owner] // nil = this instance owns everything

	publishMu   sync.Mutex // serialises snapshots
	complete    bool       // under publishMu
	subscribers map[chan struct{}]struct{}

	// transactionWait is how long the creation of a mirror waits for transactions that have its
	// topic in them.
	transactionWait time.Duration
	transactions    *transactions.Watch

	following chan struct{} // a semaphore for concurrent FollowConfigs

	creatingMu sync.Mutex
	creating   map[string]bool // topics whose creation is under way in this process

	stopsMu  sync.Mutex
	stops    map[string]model.Event // drained mirrors that are to be STOPPED, by topic
	stopping bool                   // finishStops is running
	// finalSync is called between the drain of promoted mirrors and the setting back of offsets;
	// nil = there is nothing to do. It is set before Start.
	finalSync finalSync
	restoreMu sync.Mutex // one restoreConfigs at a time

	kick chan struct{} // wakes the reconciler
	gone map[string]int
	// heldAt is when klink last saw that a mirror is not compacted, by topic.
	heldAt map[string]heldSince
	// uncreated is since when this instance has known mirrors whose topics do not exist, by id.
	// Only the reconciler uses it.
	uncreated map[string]time.Time
	unseen    map[string]*seenWait // of the same mirrors; only the reconciler uses it

	tasks   *taskRunner
	aclLock chan struct{} // held by the one ACL sync that runs; see aclTask
	checks  chan struct{} // held by the one check of a cluster that runs

	offsetsMu sync.Mutex
	offsets   map[string]*offsets.Memory // by link id; see consumerOffsetTask

	// ungrown says why this instance could not add partitions to a mirror, by topic.
	ungrown sync.Map

	driftMu sync.Mutex
	drift   map[string][]model.ConfigDrift // by mirror; see topicConfigTask
}

var _ router.Control = (*Service)(nil)

// New makes a service; Start runs it.
func New(cfg Config) (*Service, error) {
	if cfg.Publish == nil {
		return nil, errors.New("admin: Publish is required")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.ReconcileInterval <= 0 {
		cfg.ReconcileInterval = 5 * time.Second
	}
	if cfg.StateLease <= 0 {
		cfg.StateLease = defaultStateLease
	}
	if cfg.Lease == nil {
		cfg.Lease = router.NewLease()
	}
	client, err := kgo.NewClient(append(slices.Clone(cfg.Destination), kafkaclient.FreshMetadata)...)
	if err != nil {
		return nil, fmt.Errorf("could not create a client for the destination: %w", err)
	}
	admin := kadm.NewClient(client)
	s := &Service{
		cfg: cfg, log: cfg.Logger, id: store.NewID(), lease: cfg.Lease, client: client, admin: admin,
		ready: make(chan struct{}), subscribers: map[chan struct{}]struct{}{}, creating: map[string]bool{}, following: make(chan struct{}, followLooks),
		transactionWait: transactions.DefaultWait, transactions: transactions.NewWatch(admin, cfg.Destination, cfg.Logger),
		stops: map[string]model.Event{}, aclLock: make(chan struct{}, 1), checks: make(chan struct{}, 1),
		kick: make(chan struct{}, 1), gone: map[string]int{}, heldAt: map[string]heldSince{}, uncreated: map[string]time.Time{}, unseen: map[string]*seenWait{},
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.state.Store(&model.State{})
	s.tasks = newTaskRunner(s)
	s.finalSync = s.finalOffsets
	return s, nil
}

// Start begins to read the state topic, which it creates if there is none, and returns at once;
// Ready tells when it has been read. The service keeps trying while the destination does not
// answer.
func (s *Service) Start(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.work.Go(s.run)
	return nil
}

// Ready is closed once the state topic has been read to its end.
func (s *Service) Ready() <-chan struct{} { return s.ready }

// Close stops the service and its clients. Requests under way fail.
func (s *Service) Close() {
	s.leave()
	s.stopsMu.Lock() // or a stop could begin after work.Wait has returned
	s.cancel()
	s.stopsMu.Unlock()
	s.work.Wait()
	if s.store != nil {
		s.store.Close()
	}
	s.client.Close()
}

// Run opens the store and then reconciles until Close.
func (s *Service) run() {
	for attempt := 0; ; attempt++ {
		err := s.open()
		if err == nil {
			break
		}
		if s.ctx.Err() != nil {
			return
		}
		s.log.Error("could not read links and mirrors yet; produce requests wait", "error", err)
		select {
		case <-s.ctx.Done():
			return
		case <-time.After(min(100*time.Millisecond<<min(attempt, 6), 5*time.Second)):
		}
	}
	close(s.ready)
	s.work.Go(func() { s.tasks.run(s.ctx) })
	s.work.Go(func() { s.expirePromotions(s.ctx) })
	s.work.Go(s.keepLease)
	s.work.Go(s.acknowledge)
	s.reconcile()
}

// Open makes the state topic usable, reads it to its end, publishes the first snapshot and begins
// the lease on it.
func (s *Service) open() error {
	ctx, cancel := context.WithTimeout(s.ctx, time.Minute)
	defer cancel()
	cluster, err := store.EnsureTopic(ctx, s.admin)
	if cluster != "" {
		s.clusterID.Store(&cluster)
	}
	if err != nil {
		return err
	}
	if s.store == nil {
		opened, err := store.Open(s.cfg.Destination, s.cfg.Secrets, s.log, s.publish)
		if err != nil {
			return err
		}
		s.store = opened
	}
	if err := s.store.Sync(ctx); err != nil {
		return err
	}
	s.publishMu.Lock()
	s.complete = true
	s.publishMu.Unlock()
	s.publish()
	return s.holdLease(ctx)
}

// State returns the current snapshot; never nil. It is empty until Ready.
func (s *Service) State() *model.State { return s.state.Load() }

// Broken returns how many records of the state topic could not be read so far.
func (s *Service) Broken() int64 {
	select {
	case <-s.ready:
		return s.store.Broken()
	default:
		return 0
	}
}

// Subscribe returns a channel that gets a token after State has changed, and a function that ends
// the subscription. One token may stand for several changes. The channel has a token at once.
func (s *Service) Subscribe() (<-chan struct{}, func()) {
	ch := make(chan struct{}, 1)
	ch <- struct{}{}
	s.publishMu.Lock()
	defer s.publishMu.Unlock()
	s.subscribers[ch] = struct{}{}
	return ch, func() {
		s.publishMu.Lock()
		defer s.publishMu.Unlock()
		delete(s.subscribers, ch)
	}
}

// GroupKey returns the secret by which the instances of the destination recognise each other; see
// store.Store.GroupKey.
func (s *Service) GroupKey(ctx context.Context) ([]byte, error) {
	if err := s.waitReady(ctx); err != nil {
		return nil, err
	}
	return s.store.GroupKey(ctx)
}

// SetReporter sets where the offsets in answers come from.
func (s *Service) SetReporter(r model.Reporter) { s.reporter.Store(&r) }

// publish takes a new snapshot of the store and hands it out. It does nothing until the state topic
// has been read to its end.
func (s *Service) publish() {
	s.publishMu.Lock()
	defer s.publishMu.Unlock()
	if !s.complete {
		return
	}
	state := s.store.State()
	s.state.Store(state)
	s.cfg.Publish(store.Snapshot(state))
	s.wakeSubscribers()
}

// wakeSubscribers gives every subscriber a token; publishMu is held.
func (s *Service) wakeSubscribers() {
	for ch := range s.subscribers {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}

// update changes the store once it is there; see store.Store.Update.
func (s *Service) update(ctx context.Context, fn func(tx *store.Tx) error) error {
	if err := s.waitReady(ctx); err != nil {
		return err
	}
	return s.store.Update(ctx, fn)
}

func (s *Service) waitReady(ctx context.Context) error {
	select {
	case <-s.ready:
		return nil
	case <-ctx.Done():
	case <-s.ctx.Done():
		return caslog.ErrClosed
	}
	return protocol.Errorf(kerr.CoordinatorLoadInProgress, "klink has not read its links and mirrors from %s at the destination yet: try again", store.StateTopic)
}

// wait returns when done is true for State, or ctx ends.
func (s *Service) wait(ctx context.Context, done func(*model.State) bool) error {
	changes, end := s.Subscribe()
	defer end()
	for {
		if done(s.State()) {
			return nil
		}
		select {
		case <-changes:
		case <-ctx.Done():
			return ctx.Err()
		case <-s.ctx.Done():
			return caslog.ErrClosed
		}
	}
}

// wakeReconciler makes the next comparison with the destination happen now.
func (s *Service) wakeReconciler() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}
