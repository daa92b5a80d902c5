package e2e

import (
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"klink/internal/kafkatest"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestSizes measures what a klink takes, for docs/operations.md, "Sizing". It needs minutes and
// proves little, so it runs only with KLINK_SIZES=1 in the environment, as `make sizes` sets it.
func TestSizes(t *testing.T) {
	if os.Getenv("KLINK_SIZES") != "1" {
		t.Skip("a measurement: make sizes")
	}
	t.Run("mirrors and connections", sizeOfMirrors)
	t.Run("three brokers on each side", sizeOfBrokers)
	t.Run("TLS connections", sizeOfTLS)
	t.Run("backlog", sizeOfBacklog)
}

// backlog is what is copied at once to see how the budget bounds memory, and what a gigabyte costs.
const (
	backlogPartitions = 8
	backlogBytes      = 2 << 30
	backlogRecord     = 1 << 10
)

func sizeOfMirrors(t *testing.T) {
	e := newExact(t, kafkatest.Start(t, kafkatest.Heap("1g")))
	fmt.Print(sizesHead)
	total := 0
	for _, n := range []int{0, 1, 199, 1800} {
		if n > 0 {
			topic := fmt.Sprint("of-", n)
			e.createSource(t, topic, int32(n))
			cl := e.source.Client(t)
			for p := range int32(n) {
				cl.Produce(e.ctx, &kgo.Record{Topic: topic, Partition: p, Value: make([]byte, 100)}, nil)
			}
			if err := cl.Flush(e.ctx); err != nil {
				t.Fatal(err)
			}
			e.mirror(t, topic)
			awaitMirrorFor(t, e.k, e.source, topic, 5*time.Minute)
		}
		total += n
		e.sizes(t, total, 0)
	}
	conns := idle(t, e.k.Bootstrap(), 1000, nil)
	e.sizes(t, total, len(conns))
	// The same without the mirrors' work of a start: what remains when the garbage of that is gone.
	for _, c := range conns {
		c.Close()
	}
	e.k.Restart()
	awaitMirrorFor(t, e.k, e.source, "of-1800", 5*time.Minute)
	fmt.Println("started again:")
	e.sizes(t, total, 0)
}

// sizeOfBrokers shows what more brokers cost.
func sizeOfBrokers(t *testing.T) {
	three := []kafkatest.Option{kafkatest.Brokers(3), kafkatest.Heap("320m")}
	e := exactBetween(t, kafkatest.Start(t, three...), kafkatest.Start(t, three...))
	e.createSource(t, "spread", 60)
	for p := range int32(60) {
		produceVaried(e.ctx, t, e.source, "spread", p, 5)
	}
	e.mirror(t, "spread")
	awaitMirrorFor(t, e.k, e.source, "spread", 5*time.Minute)
	fmt.Print("three brokers on each side:\n" + sizesHead)
	e.sizes(t, 60, 0)
}

const sizesHead = "| mirror partitions | idle clients | resident memory | sockets to the source | to the destination | descriptors | CPU while nothing is written |\n" +
	"|---|---|---|---|---|---|---|\n"

// sizes prints a row.
func (e *exact) sizes(t *testing.T, partitions, clients int) {
	t.Helper()
	time.Sleep(5 * time.Second) // what creating mirrors began
	began, used := time.Now(), cpuTime(t, e.k.PID(t))
	time.Sleep(15 * time.Second)
	cpu := (cpuTime(t, e.k.PID(t)) - used).Seconds() / time.Since(began).Seconds()
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", e.k.PID(t)))
	if err != nil {
		t.Fatal(err)
	}
	peers := peerPorts(t, e.k.PID(t))
	sockets := func(c *kafkatest.Cluster) (n int) {
		for _, b := range c.Brokers() {
			_, p, _ := strings.Cut(b.Addr(), ":")
			port, err := strconv.Atoi(p)
			if err != nil {
				t.Fatal(err)
			}
			n += peers[port]
		}
		return n
	}
	fmt.Printf("| %d | %d | %d MiB | %d | %d | %d | %.1f %% of a core |\n", partitions, clients, e.k.RSS(t)>>20,
		sockets(e.source), sockets(e.destination), len(fds), 100*cpu)
}

// idle opens client connections that have asked for something once.
func idle(t *testing.T, bootstrap string, n int, config *tls.Config) (conns []net.Conn) {
	t.Helper()
	request := kmsg.NewRequestFormatter().AppendRequest(nil, kmsg.NewPtrApiVersionsRequest(), 7)
	for i := range n {
		c, err := net.Dial("tcp", bootstrap)
		if err == nil && config != nil {
			c = tls.Client(c, config)
		}
		if err == nil {
			_, err = c.Write(request)
		}
		if err == nil {
			_, err = c.Read(make([]byte, 64<<10))
		}
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		t.Cleanup(func() { c.Close() })
		conns = append(conns, c)
	}
	return conns
}

func sizeOfTLS(t *testing.T) {
	destination := kafkatest.Start(t, kafkatest.SSL())
	cert, key := destination.ServerCertificate()
	k := StartKlink(t, destination, "--tls-cert-file", cert, "--tls-key-file", key)
	time.Sleep(5 * time.Second)
	before := k.RSS(t)
	idle(t, k.Bootstrap(), 1000, &tls.Config{InsecureSkipVerify: true})
	time.Sleep(15 * time.Second)
	fmt.Printf("an idle client with TLS on both sides: %d KiB (1000: %d MiB to %d MiB)\n", (k.RSS(t)-before)>>10/1000, before>>20, k.RSS(t)>>20)
}

func sizeOfBacklog(t *testing.T) {
	jvm := kafkatest.JVM("-XX:+UseSerialGC", "-XX:-UsePerfData", "-Xshare:auto", "-Xlog:disable")
	e := newExact(t, kafkatest.Start(t, jvm), "offset.alignment=off")
	e.createSource(t, "backlog", backlogPartitions)
	cl := e.source.Client(t, kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.ProducerBatchMaxBytes(128<<10), kgo.MaxBufferedBytes(64<<20))
	value := make([]byte, backlogRecord)
	for i := range backlogBytes / backlogRecord {
		cl.Produce(e.ctx, &kgo.Record{Topic: "backlog", Partition: int32(i % backlogPartitions), Value: value}, nil)
	}
	if err := cl.Flush(e.ctx); err != nil {
		t.Fatal(err)
	}
	fmt.Println("| --replicator-memory | budget in use at the most | resident memory at the most | CPU per GiB |")
	fmt.Println("|---|---|---|---|")
	for _, budget := range []string{"16MiB", "64MiB", "256MiB"} {
		if code := e.k.Terminate(t); code != 0 {
			t.Fatalf("exit code %d", code)
		}
		e.k = StartKlink(t, e.destination, "--replicator-memory", budget)
		used := cpuTime(t, e.k.PID(t))
		e.mirror(t, "backlog")
		awaitMirrorFor(t, e.k, e.source, "backlog", 5*time.Minute)
		fmt.Printf("| %s | %.0f MiB | %d MiB | %.2f s |\n", budget, e.k.metric(t, `klink_replicator_memory_bytes{kind="peak"}`)/(1<<20),
			peakRSS(t, e.k.PID(t))>>20, (cpuTime(t, e.k.PID(t))-used).Seconds()*(1<<30)/backlogBytes)
		e.k.MustCLI(t, "topic", "delete", "backlog")
	}
}

// peakRSS is the most resident memory that a process ever had, in bytes.
func peakRSS(t testing.TB, pid int) int64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(status), "VmHWM:")
	kib, err := strconv.ParseInt(strings.Fields(after)[0], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return kib << 10
}

// peerPorts counts the established TCP connections of a process by the port of the other side.
func peerPorts(t testing.TB, pid int) map[int]int {
	t.Helper()
	own := map[string]bool{}
	links, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		if to, err := os.Readlink(link); err == nil && strings.HasPrefix(to, "socket:[") {
			own[strings.TrimSuffix(strings.TrimPrefix(to, "socket:["), "]")] = true
		}
	}
	ports := map[int]int{}
	for _, file := range []string{"tcp", "tcp6"} {
		table, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", pid, file))
		if err != nil {
			continue // no IPv6
		}
		for line := range strings.Lines(string(table)) {
			f := strings.Fields(line)
			if len(f) < 10 || f[3] != "01" || !own[f[9]] {
				continue
			}
			port, _ := strconv.ParseInt(f[2][strings.LastIndexByte(f[2], ':')+1:], 16, 32)
			ports[int(port)]++
		}
	}
	return ports
}
