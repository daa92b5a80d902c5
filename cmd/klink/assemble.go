package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"klink/admin"
	"klink/internal/config"
	"klink/internal/telemetry"
	"klink/proxy"
	"klink/replicator"
	"klink/router"
)

// server is one klink process put together: proxy, router, control plane, replicator, telemetry.
// `serve` and `demo` run the same one.
//
// Order of life: everything is made (errors are of the settings), then started bottom up; what
// needs the destination keeps trying, so that klink can be started before its brokers. When it is
// stopped, its share of the replication goes to other instances first, which have nothing to wait
// for then, and while this one still has its address, by which its successor knows it. The rest is
// stopped from the clients inwards: no new connections and requests in flight finish, then the
// control plane.
type server struct {
	cfg   *config.Serve
	log   *slog.Logger
	seeds []string

	facts      *admin.Facts
	service    *admin.Service
	router     *router.Router
	proxy      *proxy.Proxy
	replicator *replicator.Replicator
	meter      *telemetry.Meter
	http       *telemetry.Server // nil without --http
	gatekeeper *gatekeeper
	failed     chan error      // what ends Run; the first counts
	work       context.Context // ends with Run

	warnings     []string // about the settings
	brokersKnown atomic.Bool
	draining     atomic.Bool
	problem      atomic.Pointer[string] // why brokersKnown is still false
}

// assemble makes a server from its settings. Nothing is opened or dialled yet, but files are read.
func assemble(ctx context.Context, cfg *config.Serve, log *slog.Logger) (*server, error) {
	s := &server{cfg: cfg, log: log, failed: make(chan error, 1)}
	properties, err := cfg.DestinationProperties()
	if err != nil {
		return nil, err
	}
	if s.seeds, err = properties.Seeds(); err != nil {
		return nil, err
	}
	destination, err := properties.Options()
	if err != nil {
		return nil, fmt.Errorf("destination-config: %w", err)
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
	if has, err := properties.HasKeyStore(); err != nil {
		return nil, fmt.Errorf("destination-config: %w", err)
	} else if has {
		log.Info("destination-config has a key store: its certificate is for klink's own connections to the brokers. " +
			"Connections for clients carry no certificate; clients log in to the brokers as themselves")
	}
	var clientTLS *tls.Config
	if cfg.TLSCertFile != "" {
		cert, err := tls.LoadX509KeyPair(cfg.TLSCertFile, cfg.TLSKeyFile)
		if err != nil {
			return nil, fmt.Errorf("tls-cert-file and tls-key-file: %w", err)
		}
		clientTLS = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	}
	var secrets *admin.SecretsKey
	if cfg.SecretsKeyFile != "" {
		if secrets, err = admin.LoadSecretsKey(cfg.SecretsKeyFile); err != nil {
			return nil, fmt.Errorf("secrets-key-file: %w", err)
		}
	}

	s.warnings = plaintextWarnings(cfg, properties)
	files, err := linkFiles(cfg, properties)
	if err != nil {
		return nil, err
	}
	if s.facts, err = admin.NewFacts(admin.FactsConfig{
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
		Lease:     lease, StateLease: cfg.StateLease, HeardFor: replicator.HeardFor(cfg.SessionTimeout),
		Instance: func() (name, clientID string) { name = s.instance(); return name, replicator.ClientID(name) },
	})
	if err != nil {
		return nil, err
	}
	s.router = router.New(s.service, s.facts)
	s.router.SetLease(lease)
	s.router.SetLinkAdmin(router.LinkAdmin(cfg.LinkAdmin))
	s.proxy, err = proxy.New(proxy.Config{
		Listen: cfg.Listen, Advertise: cfg.Advertise, TLS: clientTLS, UpstreamTLS: upstreamTLS, DialTimeout: cfg.DialTimeout,
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

// Run serves until ctx ends, and then drains. The error is why it could not start, or what did not
// end in time. ready is called once clients can be served; it may be nil.
func (s *server) Run(ctx context.Context, ready func()) error {
	if s.cfg.HTTP != "" {
		var err error
		s.http, err = telemetry.Serve(telemetry.ServerConfig{Addr: s.cfg.HTTP, Meter: s.meter, Ready: s.ready, PProf: s.cfg.PProf, Logger: s.log})
		if err != nil {
			return errors.Join(err, s.closeRest())
		}
		s.log.Info("metrics and health are served", "address", s.http.Addr())
	}
	if err := s.proxy.Start(); err != nil {
		return errors.Join(err, s.closeRest())
	}
	s.proxy.SetBootstrap(s.seeds)
	s.log.Info("listening for clients", "address", s.proxy.Addr().String(), "destination", s.seeds)

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
			s.log.Info("links and mirrors are known", "links", len(s.service.State().Links), "mirrors", len(s.service.State().Mirrors))
		case <-work.Done():
		}
	})
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
		s.log.Info("stopping: no new connections, requests in flight finish", "timeout", s.cfg.DrainTimeout)
	case failure = <-s.failed:
		s.log.Error("stopping", "error", failure)
	}
	s.draining.Store(true)
	// One third of the time is for the replicator, and two for clients.
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

// fail ends Run with an error, unless another one does already.
func (s *server) fail(err error) {
	select {
	case s.failed <- err:
	default:
	}
}

// instance is the name of this process among those on the destination.
func (s *server) instance() string {
	if s.cfg.InstanceID != "" {
		return s.cfg.InstanceID
	}
	host, err := os.Hostname()
	if err != nil {
		return "" // nobody's predecessor
	}
	return host + "/" + s.proxy.Addr().String()
}

// closeRest closes what Run does not stop by itself.
func (s *server) closeRest() error {
	err := s.proxy.Close()
	s.service.Close()
	s.facts.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if e := s.meter.Shutdown(ctx); e != nil {
		s.log.Warn("metrics were not exported to the end", "error", e)
	}
	if s.http != nil {
		err = errors.Join(err, s.http.Shutdown(ctx))
	}
	return err
}

// learnBrokers finds the destination's brokers and opens their ports. Facts refreshes them from
// time to time by itself; while it has not found any, it is asked more often.
func (s *server) learnBrokers(ctx context.Context) {
	// A broker that wants a certificate may not let klink itself in either, so ask before anything
	// else does.
	_ = s.admit(ctx, s.seeds)
	err := s.facts.Start(ctx, s.router.Directory(), s.setBrokers)
	for wait := 100 * time.Millisecond; err != nil && ctx.Err() == nil; wait = min(2*wait, 5*time.Second) {
		problem := err.Error()
		s.problem.Store(&problem)
		s.log.Error("the destination's brokers are not known yet", "destination", s.seeds, "error", err)
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

// admit ends Run where no client can be served through one of the brokers, as long as klink has not
// been ready. A klink that works goes on: its mirrors need no clients, and the connections of
// clients to that broker fail by themselves.
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

// setBrokers opens listeners for brokers and says where clients reach them.
func (s *server) setBrokers(brokers []admin.Broker) (map[int32]router.Addr, error) {
	upstream := make([]proxy.Broker, len(brokers))
	addrs := make([]string, len(brokers))
	for i, b := range brokers {
		upstream[i] = proxy.Broker{ID: b.ID, Host: b.Host, Port: b.Port}
		addrs[i] = net.JoinHostPort(b.Host, strconv.Itoa(int(b.Port)))
	}
	if err := s.admit(s.work, addrs); err != nil && !s.brokersKnown.Load() {
		return nil, err
	} else if err != nil {
		s.log.Error("clients are not served through a broker", "error", err)
	}
	// Brokers that are up are better entries than the seeds, which may be gone by now; the seeds
	// stay as a last resort.
	s.proxy.SetBootstrap(append(addrs, s.seeds...))
	return s.proxy.SetBrokers(upstream)
}

// ready says why clients cannot be served yet; nil when they can.
func (s *server) ready() error {
	if s.draining.Load() {
		return errors.New("klink is being stopped")
	}
	if !s.brokersKnown.Load() {
		if p := s.problem.Load(); p != nil {
			return fmt.Errorf("the destination's brokers are not known yet: %s", *p)
		}
		return errors.New("the destination's brokers are not known yet")
	}
	select {
	case <-s.service.Ready():
		return s.service.StateProblem()
	default:
		return errors.New("links and mirrors have not been read from the state topic yet")
	}
}

// awaitReady returns true when the server is ready, false when ctx has ended before.
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
