package kafkatest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"
)

// Broker is one node of a [Cluster]. Its address stays the same over restarts.
type Broker struct {
	cluster *Cluster
	id      int
	dir     string
	addr    string // of the client listener itself, behind any proxy
	ports   *portBlock
	faults  *Faults // before the client listener, and the other brokers' way to the internal one
	between *Faults

	mu   sync.Mutex
	proc *Process // nil while stopped
}

// The listeners of a node, as offsets into its ports.
const (
	clientPort = iota
	internalPort
	controllerPort
	portsPerBroker
)

func newBroker(c *Cluster, id int) (*Broker, error) {
	ports, err := reservePorts(portsPerBroker + len(c.opts.listeners))
	if err != nil {
		return nil, err
	}
	b := &Broker{cluster: c, id: id, ports: ports, dir: filepath.Join(c.dir, fmt.Sprintf("broker-%d", id))}
	b.addr = b.listener(clientPort)
	if c.opts.faults {
		if b.faults, err = newFaults(b.addr); err != nil {
			ports.release()
			return nil, err
		}
	}
	if c.opts.replicationFaults {
		if b.between, err = newFaults(b.listener(internalPort)); err != nil {
			b.close()
			return nil, err
		}
	}
	if err := os.MkdirAll(b.dir, 0o755); err != nil {
		b.close()
		return nil, fmt.Errorf("kafkatest: %w", err)
	}
	return b, nil
}

func (b *Broker) listener(port int) string { return fmt.Sprintf("127.0.0.1:%d", b.ports.base+port) }

// ID is the broker id.
func (b *Broker) ID() int { return b.id }

// Addr is the host:port that clients dial: that of the fault proxy if there is one.
func (b *Broker) Addr() string {
	if b.faults != nil {
		return b.faults.Addr()
	}
	return b.addr
}

// internal is the host:port that other brokers dial.
func (b *Broker) internal() string {
	if b.between != nil {
		return b.between.Addr()
	}
	return b.listener(internalPort)
}

// InternalAddr is the host:port of the listener that brokers use among themselves, without
// authentication. A client that bootstraps there stays there, so with [WithFaults] it does not see
// the faults. KRaft clusters only.
func (b *Broker) InternalAddr() string { return b.listener(internalPort) }

// ListenerAddr is the host:port of a listener that [Listener] has added: where it listens, not what
// it advertises. It is empty if there is no such listener.
func (b *Broker) ListenerAddr(name string) string {
	for i, l := range b.cluster.opts.listeners {
		if l.name == name {
			return b.listener(portsPerBroker + i)
		}
	}
	return ""
}

// Faults is the proxy in front of this broker, nil without [WithFaults].
func (b *Broker) Faults() *Faults { return b.faults }

// ReplicationFaults is the proxy through which the other brokers reach this one, nil without
// [WithReplicationFaults].
func (b *Broker) ReplicationFaults() *Faults { return b.between }

// proxies returns all proxies in front of the broker.
func (b *Broker) proxies() (list []*Faults) {
	for _, f := range []*Faults{b.faults, b.between} {
		if f != nil {
			list = append(list, f)
		}
	}
	return list
}

// PID is the process id of the broker, 0 while it is stopped.
func (b *Broker) PID() int {
	b.cluster.touched.Store(true)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.proc == nil {
		return 0
	}
	return b.proc.PID()
}

// Kill ends the broker as a crash would (SIGKILL).
func (b *Broker) Kill() {
	b.end(func(p *Process) { p.Kill() })
}

// Stop shuts the broker down cleanly (SIGTERM). If it has not ended after 30 s, Stop kills it.
func (b *Broker) Stop() {
	b.end(func(p *Process) { _, _ = p.Terminate(30 * time.Second) })
}

func (b *Broker) end(how func(*Process)) {
	b.cluster.touched.Store(true)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.proc == nil {
		return
	}
	how(b.proc)
	b.proc = nil
	for _, f := range b.proxies() {
		f.Cut() // a dead broker refuses connections, a proxy would accept them
	}
}

// Restart starts the broker again, after ending it if it runs, and waits until it serves. It also
// ends a fault.
func (b *Broker) Restart(t testing.TB) {
	t.Helper()
	b.Stop()
	if err := b.spawn(); err != nil {
		t.Fatal(err)
	}
	if err := b.awaitReady(); err != nil {
		t.Fatal(err)
	}
}

func (b *Broker) running() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.proc != nil
}

func (b *Broker) close() {
	b.Kill()
	for _, f := range b.proxies() {
		f.Close()
	}
	b.ports.release()
}

func (b *Broker) logPath() string {
	return filepath.Join(b.cluster.dir, fmt.Sprintf("broker-%d.log", b.id))
}

func (b *Broker) configPath() string {
	return filepath.Join(b.cluster.dir, fmt.Sprintf("broker-%d.properties", b.id))
}

// spawn starts the process; awaitReady waits for it to serve.
func (b *Broker) spawn() error {
	c := b.cluster
	flags := c.opts.jvm
	if flags == nil {
		flags = append(slices.Clone(fastJVM), archive(c.lib, brokerArchive)...)
	}
	args := append([]string{"-Xms128m", "-Xmx" + c.opts.heap}, flags...)
	args = append(args, c.opts.oauthFlags()...)
	args = append(args, c.logging()...)
	args = append(args, "-cp", filepath.Join(c.lib, "*"), "kafka.Kafka", b.configPath())
	proc, err := startLogged(b.logPath(), args)
	if err != nil {
		return err
	}
	b.mu.Lock()
	b.proc = proc
	b.mu.Unlock()
	return nil
}

// awaitReady polls until the broker answers, fails early if it ends, and notes the proof. A
// ZooKeeper-era broker that comes back after a crash gives up while ZooKeeper still holds its old
// registration; awaitReady starts it again.
func (b *Broker) awaitReady() error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		b.mu.Lock()
		proc := b.proc
		b.mu.Unlock()
		if proc == nil {
			return fmt.Errorf("kafkatest: broker %d was stopped while it started", b.id)
		}
		attempt, done := context.WithTimeout(ctx, 5*time.Second)
		err := b.cluster.ready(attempt, b.addr)
		done()
		if err == nil {
			for _, f := range b.proxies() {
				f.Resume()
			}
			if b.cluster.opts.training {
				return nil
			}
			return prove(b.cluster.version, b.addr)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("kafkatest: broker %d at %s not ready after %v: %w\n%s",
				b.id, b.addr, startTimeout, err, TailFile(b.logPath(), 40))
		case <-proc.Done():
			if b.cluster.zk == nil {
				return fmt.Errorf("kafkatest: broker %d ended while it started:\n%s", b.id, TailFile(b.logPath(), 40))
			}
			if err := b.spawn(); err != nil {
				return err
			}
		case <-tick.C:
		}
	}
}

func startLogged(logPath string, args []string) (*Process, error) {
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("kafkatest: %w", err)
	}
	defer log.Close() // the child has its own
	cmd := exec.Command("java", args...)
	cmd.Stdout, cmd.Stderr = log, log
	return StartProcess(cmd)
}
