package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/panjf2000/gnet/v2"
	"golang.org/x/sys/unix"
)

// readBuffer is the size of a loop's read buffer, and so the most that one event delivers. Smaller
// buffers cost throughput on large frames, and 5 % (128 KiB) to 25 % (64 KiB) more CPU time, even
// if the rest of a frame is then read without another turn through epoll. Reading the rest of a
// large request from the socket straight to its place, past this buffer, saved some CPU time but
// cost throughput.
const readBuffer = 1 << 20

// runGrace is how long Decision.Run may take to return after its context has ended.
const runGrace = time.Second

// Proxy accepts clients, connects each with the broker that its port leads to, and carries out the
// decisions of its session.
//
// Lock order: mu alone. It guards what the methods change: ports, addresses, started and stopped.
// Event loops never take it.
type Proxy struct {
	config     Config
	stats      Stats
	log        closeLog
	loops      atomic.Pointer[[]*loop] // gnet's ticker reads it before Start returns
	engine     *gnet.Client
	waiter     *waiter
	epoch      time.Time
	tickLength time.Duration

	ctx         context.Context // for Decision.Run
	cancel      context.CancelFunc
	setupCtx    context.Context // for handshakes and dials
	cancelSetup context.CancelFunc
	accepts     sync.WaitGroup // accept loops
	setups      sync.WaitGroup // connections in a handshake or dial
	live        sync.WaitGroup // connections, from accept to their end
	runs        sync.WaitGroup // Decision.Run

	budget budget
	perIP  perIP
	rate   rate
	quiet  quiet
	hosts  sync.Map // host of a broker -> hostTLS to dial it with

	mu        sync.Mutex
	started   bool
	stopped   bool
	finished  chan struct{}     // closed when Shutdown is done
	entrances []*entrance       // by place in Config.Listeners
	brokers   map[int32]*target // all that were ever set
	seeds     atomic.Pointer[seeds]
}

// New checks the configuration and makes a Proxy. It opens nothing; Start does.
func New(config Config) (*Proxy, error) {
	if err := config.complete(); err != nil {
		return nil, err
	}
	p := &Proxy{config: config, brokers: map[int32]*target{}, finished: make(chan struct{}), epoch: time.Now()}
	p.log.logger = config.Logger
	for i, l := range config.Listeners {
		e := &entrance{Listener: l, index: i}
		e.tls = e.serverTLS()
		p.entrances = append(p.entrances, e)
	}
	shortest := min(config.IdleTimeout, config.LoginTimeout, config.FrameTimeout)
	p.tickLength = min(max(shortest/32, 5*time.Millisecond), 250*time.Millisecond)
	p.budget.init(config.RequestMemory, int64(config.MaxRequestBytes), &p.stats.RequestMemory)
	p.perIP.limit, p.rate.limit = config.MaxConnectionsPerIP, config.MaxConnectionRate
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.setupCtx, p.cancelSetup = context.WithCancel(p.ctx)
	return p, nil
}

// Stats returns the counters.
func (p *Proxy) Stats() *Stats { return &p.stats }

// ticks converts a duration to ticks of the loops' wheels, at least 1.
func (p *Proxy) ticks(d time.Duration) uint32 { return uint32(max(d/p.tickLength, 1)) }

// Start opens the event loops and the ports to bootstrap from. Until SetBootstrap is called, klink
// closes clients of these ports at their first request.
func (p *Proxy) Start() (err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.started || p.stopped {
		return errors.New("proxy: started or stopped before")
	}
	if p.waiter, err = newWaiter(); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			for _, e := range p.entrances {
				e.close()
			}
			p.waiter.close()
			if p.engine != nil {
				_ = p.engine.Stop()
			}
		}
	}()
	if err = p.startLoops(); err != nil {
		return fmt.Errorf("start the event loops: %w", err)
	}
	for _, e := range p.entrances {
		if err = e.open(p); err != nil {
			return err
		}
	}
	p.started = true
	for _, e := range p.entrances {
		e.bootstrap.serve()
	}
	return nil
}

// startLoops starts gnet and gets hold of its event loops. gnet exposes a loop only through a
// connection on it, so startLoops enrolls one per loop. (gnet's balancer gives a connection to the
// loop that has the fewest.)
func (p *Proxy) startLoops() error {
	engine, err := gnet.NewClient(&handler{proxy: p}, gnet.WithNumEventLoop(p.config.Loops), gnet.WithReadBufferCap(readBuffer),
		gnet.WithTicker(true), gnet.WithLogger(gnetLogger{p.config.Logger}))
	if err != nil {
		return err
	}
	known := map[gnet.EventLoop]bool{}
	loops := make([]*loop, 0, p.config.Loops)
	if err := engine.Start(); err != nil {
		return err
	}
	p.engine = engine
	for len(loops) < p.config.Loops {
		ours, theirs, err := socketPair()
		if err != nil {
			return err
		}
		defer theirs.Close()
		c, err := engine.Enroll(ours)
		if err != nil {
			return err
		}
		defer c.Close()
		el := c.EventLoop()
		if known[el] {
			return errors.New("gnet's balancer did not use every event loop: klink needs gnet v2.10.0 exactly")
		}
		known[el] = true
		l := &loop{proxy: p, gnet: el, scratch: make([]byte, scratchSize)}
		if l.poller, err = newPoller(el); err != nil {
			return err
		}
		if l.reads, err = readBufferOf(el); err != nil {
			return err
		}
		loops = append(loops, l)
	}
	p.loops.Store(&loops)
	return nil
}

// socketPair returns two connected sockets.
func socketPair() (ours, theirs net.Conn, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	var conns [2]net.Conn
	for i, fd := range fds {
		unix.CloseOnExec(fd)
		f := os.NewFile(uintptr(fd), "socketpair")
		c, e := net.FileConn(f)
		_ = f.Close()
		if e != nil {
			err = errors.Join(err, e)
			continue
		}
		conns[i] = c
	}
	return conns[0], conns[1], err
}

func (p *Proxy) eventLoops() []*loop {
	if loops := p.loops.Load(); loops != nil {
		return *loops
	}
	return nil
}

// Addrs returns the addresses to bootstrap from, one for each listener, or nil before Start.
func (p *Proxy) Addrs() (all []net.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.started {
		return nil
	}
	for _, e := range p.entrances {
		all = append(all, e.bootstrap.ln.Addr())
	}
	return all
}

// Addr returns the address to bootstrap from of the first listener. Call it after Start.
func (p *Proxy) Addr() net.Addr { return p.Addrs()[0] }

// Shutdown drains: the proxy accepts no connections and reads no further requests, and closes each
// connection once its requests in flight are answered. If ctx ends first, Shutdown closes the
// remaining connections at once and returns the error of ctx. Later calls wait for the first one.
func (p *Proxy) Shutdown(ctx context.Context) error {
	p.mu.Lock()
	first := !p.stopped
	p.stopped = true
	started := p.started
	if first && started {
		for _, e := range p.entrances {
			e.close()
		}
	}
	p.mu.Unlock()
	if !first {
		select {
		case <-p.finished:
			return nil
		case <-ctx.Done():
			p.cancel()
			p.killAll()
			<-p.finished
			return ctx.Err()
		}
	}
	defer close(p.finished)
	defer p.cancel()
	p.cancelSetup()
	if !started {
		return nil
	}
	p.accepts.Wait()
	p.setups.Wait()
	// From here on every connection is in the wheel of a loop.
	p.onLoops(func(l *loop) { l.wheel.each((*pair).drainSafely) })
	err := waitFor(ctx, &p.live)
	if err != nil {
		p.cancel()
		p.killAll()
		p.live.Wait()
	}
	p.cancel()
	patience, stop := context.WithTimeout(context.Background(), runGrace)
	defer stop()
	if waitFor(patience, &p.runs) != nil {
		p.config.Logger.Error("work for a connection did not stop when its context ended; this is a bug in klink")
	}
	_ = p.engine.Stop()
	p.waiter.close()
	return err
}

// Close is Shutdown without draining: it closes all connections at once.
func (p *Proxy) Close() error {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := p.Shutdown(ctx); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

func (p *Proxy) killAll() {
	p.onLoops(func(l *loop) { l.wheel.each(func(x *pair) { x.kill(ReasonDrain, nil) }) })
}

func (x *pair) drainSafely() {
	defer x.recoverPanic()
	x.drain()
}

// onLoops makes each event loop run f. It does not wait for that.
func (p *Proxy) onLoops(f func(*loop)) {
	for _, l := range p.eventLoops() {
		_ = l.executeLoop(func() { f(l) })
	}
}

func waitFor(ctx context.Context, wg *sync.WaitGroup) error {
	done := make(chan struct{})
	go func() {
		wg.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// ended updates counters and log when a connection ends. counted says whether its address was.
func (p *Proxy) ended(r Reason, e *entrance, remote netip.AddrPort, broker int32, counted bool, err error) {
	p.stats.Connections.Add(-1)
	p.stats.closed[r].Add(1)
	if counted {
		p.perIP.leave(remote.Addr())
	}
	p.log.closed(r, e.Name, remote.String(), broker, err)
	p.live.Done()
}
