package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"klink/admin"
	"klink/admin/facts"
	"klink/admin/store"
	"klink/internal/config"
	"klink/internal/kafkaclient"
	"klink/proxy"
	"klink/replicator"
	"klink/router"
	"klink/telemetry"
)

// server is one assembled klink process: proxy, router, control plane, replicator, telemetry.
// `serve` and `demo` run the same one.
//
// Life cycle: assemble makes everything; its errors are about the settings. Run starts it bottom
// up. Parts that need the destination keep trying, so klink can start before its brokers.
//
// To stop, klink first hands its share of the replication to other instances. They need not wait
// for a time-out then, and this instance still holds its address, by which its successor knows it.
// Then klink shuts down from the clients inwards: it accepts no new connections, requests in flight
// finish, and the control plane ends last.
type server struct {
	cfg   *config.Serve
	log   *slog.Logger
	seeds []string

	facts      *facts.Facts
	service    *admin.Service
	router     *router.Router
	proxy      *proxy.Proxy
	replicator *replicator.Replicator
	meter      *telemetry.Meter
	http       *telemetry.Server // nil without --http
	gatekeeper *gatekeeper
	identity   identity
	failed     chan error      // an error here ends Run; the first counts
	work       context.Context // ends with Run

	warnings     []string // about settings
	brokersKnown atomic.Bool
	draining     atomic.Bool
	problem      atomic.Pointer[string] // why brokersKnown is still false
}

// assemble makes a server from its settings. It opens and dials nothing yet, but it reads files.
func assemble(ctx context.Context, cfg *config.Serve, log *slog.Logger) (*server, error) {
	s := &server{cfg: cfg, log: log, failed: make(chan error, 1)}
	written, ignored, err := cfg.DestinationProperties()
	if err != nil {
		return nil, err
	}
	if len(ignored) > 0 {
		log.Info("destination-config has properties that klink does not use", "properties", strings.Join(ignored, ", "))
	}
	properties, err := written.Resolve()
	if err != nil {
		return nil, fmt.Errorf("destination-config: %w", err)
	}
	if s.seeds, err = properties.Seeds(); err != nil {
		return nil, err
	}
	destination, err := properties.Options()
	if err != nil {
		return nil, fmt.Errorf("destination-config: %w", err)
	}
	if written.HasReferences() {
		destination = kafkaclient.Refreshed(destination, properties, written.Resolve)
	}
	upstreamTLS, err := properties.ClientsTLS()
	if err != nil {
		return nil, fmt.Errorf("destination-config: %w", err)
	}
	login, err := properties.SASL()
	if err != nil {
		return nil, fmt.Errorf("destination-config: %w", err)
	}
	s.gatekeeper = newGatekeeper(upstreamTLS, cfg.DialTimeout)
	if cfg.CredentialMapFile != "" {
		s.gatekeeper = newGatekeeper(nil, cfg.DialTimeout) // the map has the certificates that brokers ask for
	}
	if has, err := properties.HasKeyStore(); err != nil {
		return nil, fmt.Errorf("destination-config: %w", err)
	} else if has {
		log.Info("destination-config has a key store: klink uses its certificate only for its own connections to the brokers. " +
			"Connections for clients carry no certificate; clients log in to the brokers as themselves")
	}
	listeners, err := proxyListeners(cfg.Listeners)
	if err != nil {
		return nil, err
	}
	var secrets *store.SecretsKey
	if cfg.SecretsKeyFile != "" {
		if secrets, err = store.LoadSecretsKey(cfg.SecretsKeyFile); err != nil {
			return nil, fmt.Errorf("secrets-key-file: %w", err)
		}
	}

	files, err := linkFiles(cfg, written, properties)
	if err != nil {
		return nil, err
	}
	if s.identity, err = newIdentity(cfg, properties, listeners, files, log); err != nil {
		return nil, err
	}
	s.warnings = append(plaintextWarnings(cfg, properties), identityWarnings(cfg)...)
	s.warnings = append(s.warnings, nameWarnings(listeners)...)
	if s.facts, err = facts.New(facts.Config{
		Destination: destination, Logger: log, TopicsSeen: func(topics map[[16]byte]string) { s.service.TopicsSeen(topics) },
		CatchUp: func(ctx context.Context, topic string) error {
			if s.replicator.OwnsAll(topic) {
				return nil
			}
			return s.service.CatchUp(ctx)
		},
	}); err != nil {
		return nil, err
	}
	lease := router.NewLease()
	own, err := cfg.OwnPrincipals(properties)
	if err != nil {
		return nil, err
	}
	s.service, err = admin.New(admin.Config{
		OwnPrincipals: own,
		Destination:   destination, Secrets: secrets, AllowPlaintextSecrets: cfg.AllowPlaintextSecrets, Logger: log,
		LinkFiles: files,
		Publish:   func(sn *router.Snapshot) { s.router.Publish(sn) },
		Lease:     lease, StateLease: cfg.StateLease, HeardFor: replicator.HeardFor(cfg.SessionTimeout), Session: cfg.SessionTimeout,
		Instance: func() (name, clientID string) { name = s.instance(); return name, replicator.ClientID(name) },
	})
	if err != nil {
		return nil, err
	}
	s.router = router.New(s.service, s.facts)
	s.router.SetLease(lease)
	s.router.SetLinkAdmin(router.LinkAdmin(cfg.LinkAdmin))
	s.proxy, err = proxy.New(proxy.Config{
		Gate:      s.identity.proxyGate(),
		Listeners: listeners, UpstreamTLS: upstreamTLS, DialTimeout: cfg.DialTimeout,
		MaxRequestBytes: int(cfg.MaxRequestBytes), MaxConnections: int(cfg.MaxConnections), IdleTimeout: cfg.IdleTimeout,
		SASL: login, RequestMemory: cfg.RequestMemory, LoginTimeout: cfg.LoginTimeout, FrameTimeout: cfg.FrameTimeout,
		MaxConnectionsPerIP: int(cfg.MaxConnectionsPerIP), MaxConnectionRate: int(cfg.MaxConnectionsRate),
		Sessions: s.router, Logger: log,
	})
	if err != nil {
		return nil, err
	}
	s.replicator, err = replicator.New(replicator.Config{
		Destination: destination, Control: s.service, MemoryBytes: cfg.ReplicatorMemory, DrainTimeout: cfg.DrainTimeout / 3, Logger: log,
		LinkFiles: files,
		Group: ownership(&replicator.Group{
			SessionTimeout: cfg.SessionTimeout, Instance: s.instance, Tasks: s.service.TasksOf, Drift: s.service.DriftOf,
			Changed: s.service.OwnerChanged, Heard: lease.Heard,
		}),
	})
	if err != nil {
		return nil, err
	}
	s.service.SetReporter(s.replicator)
	s.service.SetOwner(s.replicator)
	s.meter, err = telemetry.NewMeter(ctx, telemetry.Sources{
		Proxy: s.proxy.Stats(), RejectedProduces: s.router.RejectedProduces, VoidedBatches: s.router.VoidedBatches, Probes: s.router.Probes,
		Replicator: s.replicator.Stats, State: s.service.State, LinkTasks: s.service.LinkTasks, StateAge: s.service.StateAge,
	}, versionText(), log)
	return s, err
}

// Run serves until ctx ends, and then drains. It returns why the server could not start, or what
// did not end in time. It calls ready once klink can serve clients; ready may be nil.
func (s *server) Run(ctx context.Context, ready func()) error {
	if s.cfg.HTTP != "" {
		var err error
		s.http, err = telemetry.Serve(telemetry.ServerConfig{Addr: s.cfg.HTTP, Meter: s.meter, Ready: s.ready, PProf: s.cfg.PProf, Logger: s.log})
		if err != nil {
			return errors.Join(err, s.closeRest())
		}
		s.log.Info("serving metrics and health", "address", s.http.Addr())
	}
	if err := s.proxy.Start(); err != nil {
		return errors.Join(err, s.closeRest())
	}
	s.proxy.SetBootstrap(s.seeds)
	for i, addr := range s.proxy.Addrs() {
		s.log.Info("listening for clients", "listener", s.cfg.Listeners[i].Name, "address", addr.String(), "destination", s.seeds)
	}

	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	s.work = work
	var tasks sync.WaitGroup
	tasks.Go(func() { s.learnBrokers(work) })
	if err := s.service.Start(work); err != nil {
		s.fail(err)
	}
	mirroring, stopMirroring := context.WithCancel(work)
	defer stopMirroring()
	mirrored := make(chan struct{})
	tasks.Go(func() {
		defer close(mirrored)
		if err := s.replicator.Run(mirroring); err != nil {
			s.fail(fmt.Errorf("replicator: %w", err))
		}
	})
	tasks.Go(func() {
		select {
		case <-s.service.Ready():
			s.log.Info("read links and mirrors", "links", len(s.service.State().Links), "mirrors", len(s.service.State().Mirrors))
		case <-work.Done():
		}
	})
	if s.identity.gate != nil {
		tasks.Go(func() { s.identity.gate.Run(work, s.proxy.Expel) })
	}
	if ready != nil {
		tasks.Go(func() {
			if s.awaitReady(work) {
				ready()
			}
		})
	}

	var failure error
	select {
	case <-ctx.Done():
		s.log.Info("stopping: klink accepts no new connections, and finishes requests in flight", "timeout", s.cfg.DrainTimeout)
	case failure = <-s.failed:
		s.log.Error("stopping", "error", failure)
	}
	s.draining.Store(true)
	// Spend one third of the drain time-out on the replicator, and two thirds on clients.
	stopMirroring()
	<-mirrored
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.DrainTimeout*2/3)
	defer cancel()
	if err := s.proxy.Shutdown(drain); err != nil {
		s.log.Warn("connections with requests in flight were closed", "error", err)
	}
	stop()
	tasks.Wait()
	err := errors.Join(failure, s.closeRest())
	s.log.Info("stopped")
	return err
}

// fail ends Run with an error, unless an earlier error has done so.
func (s *server) fail(err error) {
	select {
	case s.failed <- err:
	default:
	}
}

// instance returns the name of this process among klink's instances at the destination.
func (s *server) instance() string {
	if s.cfg.InstanceID != "" {
		return s.cfg.InstanceID
	}
	host, err := os.Hostname()
	if err != nil {
		return "" // will not be recognized as a predecessor
	}
	return host + "/" + s.proxy.Addr().String()
}

// closeRest closes what Run does not stop itself.
func (s *server) closeRest() error {
	err := s.proxy.Close()
	s.service.Close()
	s.facts.Close()
	s.identity.close()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if e := s.meter.Shutdown(ctx); e != nil {
		s.log.Warn("could not export the last metrics", "error", e)
	}
	if s.http != nil {
		err = errors.Join(err, s.http.Shutdown(ctx))
	}
	return err
}

// learnBrokers finds the destination's brokers and opens a port for each. Facts refreshes the
// brokers periodically; until it has found any, learnBrokers asks more often.
func (s *server) learnBrokers(ctx context.Context) {
	// Ask for certificates before anything else: a broker that wants one from clients may also
	// refuse klink itself.
	_ = s.admit(ctx, s.seeds)
	err := s.facts.Start(ctx, s.router.Directory(), s.setBrokers)
	for wait := 100 * time.Millisecond; err != nil && ctx.Err() == nil; wait = min(2*wait, 5*time.Second) {
		problem := err.Error()
		s.problem.Store(&problem)
		s.log.Error("klink does not know the destination's brokers yet", "destination", s.seeds, "error", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		_ = s.admit(ctx, s.seeds)
		asking, cancel := context.WithTimeout(ctx, 30*time.Second)
		err = s.facts.LearnBrokers(asking)
		cancel()
	}
	if err == nil {
		s.brokersKnown.Store(true)
	}
}

// admit ends Run if klink can serve no client through one of the brokers, but only until klink has
// been ready once. A working klink goes on: its mirrors need no clients, and client connections to
// that broker fail on their own.
func (s *server) admit(ctx context.Context, addrs []string) error {
	err := s.gatekeeper.refusal(ctx, addrs)
	if err == nil {
		return nil
	}
	problem := err.Error()
	s.problem.Store(&problem)
	if !s.brokersKnown.Load() {
		s.fail(err)
	}
	return err
}

// setBrokers opens a port for each broker at every listener. It returns, for each listener, the
// addresses at which clients reach the brokers.
func (s *server) setBrokers(brokers []facts.Broker) ([]map[int32]router.Addr, error) {
	upstream := make([]proxy.Broker, len(brokers))
	addrs := make([]string, len(brokers))
	for i, b := range brokers {
		upstream[i] = proxy.Broker{ID: b.ID, Host: b.Host, Port: b.Port}
		addrs[i] = net.JoinHostPort(b.Host, strconv.Itoa(int(b.Port)))
	}
	if err := s.admit(s.work, addrs); err != nil && !s.brokersKnown.Load() {
		return nil, err
	} else if err != nil {
		s.log.Error("could not open a listener for a broker; clients cannot reach it", "error", err)
	}
	// Known brokers are better bootstrap targets than the seeds, which may be gone; the seeds
	// remain as a last resort.
	s.proxy.SetBootstrap(append(addrs, s.seeds...))
	return s.proxy.SetBrokers(upstream)
}

// ready returns why klink cannot serve clients yet; nil if it can.
func (s *server) ready() error {
	if s.draining.Load() {
		return errors.New("klink is shutting down")
	}
	if !s.brokersKnown.Load() {
		if p := s.problem.Load(); p != nil {
			return fmt.Errorf("klink does not know the destination's brokers yet: %s", *p)
		}
		return errors.New("klink does not know the destination's brokers yet")
	}
	select {
	case <-s.service.Ready():
		return s.service.StateProblem()
	default:
		return errors.New("klink has not read its links and mirrors from the state topic yet")
	}
}

// awaitReady returns true once the server is ready, false if ctx ends first.
func (s *server) awaitReady(ctx context.Context) bool {
	select {
	case <-s.service.Ready():
	case <-ctx.Done():
		return false
	}
	t := time.NewTicker(10 * time.Millisecond)
	defer t.Stop()
	for s.ready() != nil {
		select {
		case <-t.C:
		case <-ctx.Done():
			return false
		}
	}
	return true
}
