package mirror

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"klink/bench/wire"
	"klink/internal/kafkatest"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sys/unix"
)

// cluster is the source or the destination: Apache Kafka as its own start script runs it, except
// for the size of its heap.
type cluster struct {
	*kafkatest.Cluster
	addr string // addresses of all brokers, without relays
	far  string // addresses through the relays that delay; like addr if there are none
	cl   *kgo.Client
	adm  *kadm.Client
	// replication is the replication factor of topics.
	replication int16
}

// startSource starts a broker with a relay in front of it, for workloads whose source is far away.
func startSource() (*cluster, error) {
	c, err := startCluster(1,
		kafkatest.WithFaults(),
		// Each pass of the cleaner looks at every log. Run it often only if a workload waits for
		// it.
		kafkatest.Config("log.cleaner.backoff.ms", "200"))
	if err != nil {
		return nil, err
	}
	c.Brokers()[0].Faults().Window(farWindow)
	return c.connect(c.Brokers()[0].InternalAddr())
}

// directListener is the listener that the harness uses when clients and brokers go through relays.
const directListener = "DIRECT"

// startDestination starts the brokers of a destination, with relays if it is far away.
func startDestination(d *destination) (*cluster, error) {
	var opts []kafkatest.Option
	if d.away > 0 {
		opts = append(opts, kafkatest.WithFaults(), kafkatest.WithReplicationFaults(), kafkatest.Listener(directListener, "PLAINTEXT", ""))
	}
	c, err := startCluster(d.brokers, opts...)
	if err != nil {
		return nil, err
	}
	var direct []string
	for _, b := range c.Brokers() {
		if d.away == 0 {
			direct = append(direct, b.Addr())
			continue
		}
		direct = append(direct, b.ListenerAddr(directListener))
		b.Faults().Delay(d.away / 2)
		b.ReplicationFaults().Delay(d.apart / 2)
	}
	return c.connect(direct...)
}

func startCluster(brokers int, more ...kafkatest.Option) (*cluster, error) {
	opts := append([]kafkatest.Option{
		kafkatest.Brokers(brokers),
		kafkatest.Heap("1g"),
		kafkatest.JVM("-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "-XX:InitiatingHeapOccupancyPercent=35", "-Xshare:auto", "-Xlog:disable"),
		kafkatest.Config("log.segment.delete.delay.ms", "100"), // frees disk space for the next run
		kafkatest.Config("log.cleaner.dedupe.buffer.size", "67108864"),
		kafkatest.Config("num.network.threads", "3"),
		kafkatest.Config("num.io.threads", "8"),
		kafkatest.Config("socket.request.max.bytes", "104857600"),
	}, more...)
	k, err := kafkatest.Run(kafkatest.V431, opts...)
	if err != nil {
		return nil, err
	}
	return &cluster{Cluster: k, far: k.Bootstrap(), replication: int16(min(brokers, 3))}, nil
}

// connect makes the harness's own client, at addresses without relays, and returns the cluster. If
// it fails, it stops the cluster.
func (c *cluster) connect(direct ...string) (*cluster, error) {
	c.addr = strings.Join(direct, ",")
	var err error
	if c.cl, err = kgo.NewClient(seeds(c.addr), kgo.MetadataMinAge(50*time.Millisecond)); err != nil {
		c.Stop()
		return nil, err
	}
	c.adm = kadm.NewClient(c.cl)
	return c, nil
}

func (c *cluster) stop() {
	c.cl.Close()
	c.Stop()
}

func (c *cluster) createTopic(ctx context.Context, topic string, partitions int, configs map[string]string) error {
	values := make(map[string]*string, len(configs))
	for k, v := range configs {
		values[k] = &v
	}
	if _, err := c.adm.CreateTopic(ctx, int32(partitions), c.replication, values, topic); err != nil {
		return fmt.Errorf("create topic %s: %w", topic, err)
	}
	return c.awaitTopic(ctx, topic, partitions)
}

// awaitTopic waits until the brokers serve all partitions of a topic.
func (c *cluster) awaitTopic(ctx context.Context, topic string, partitions int) error {
	return c.awaitTopics(ctx, func(topics kadm.TopicDetails) bool {
		t, ok := topics[topic]
		if !ok || t.Err != nil || len(t.Partitions) != partitions {
			return false
		}
		// The broker claims to lead a partition a little before it does.
		ends, err := c.adm.ListEndOffsets(ctx, topic)
		return err == nil && ends.Error() == nil && len(ends[topic]) == partitions
	})
}

func (c *cluster) awaitTopics(ctx context.Context, ok func(kadm.TopicDetails) bool) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		topics, err := c.adm.ListTopics(ctx)
		if err == nil && ok(topics) {
			return nil
		}
		if err == nil {
			err = fmt.Errorf("the topics do not have the expected partitions and leaders")
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited for topics at %s: %w", c.addr, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (c *cluster) setConfig(ctx context.Context, topic, name, value string) error {
	resp, err := c.adm.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: name, Value: &value}}, topic)
	if err == nil {
		_, err = resp.On(topic, nil)
	}
	if err == nil && resp[0].Err != nil {
		err = resp[0].Err
	}
	if err != nil {
		return fmt.Errorf("set %s of topic %s: %w", name, topic, err)
	}
	return nil
}

// deleteTopics deletes all topics for which doomed is true, except Kafka's own, and waits until
// they are gone.
func (c *cluster) deleteTopics(ctx context.Context, doomed func(string) bool) error {
	topics, err := c.adm.ListTopics(ctx)
	if err != nil {
		return err
	}
	var names []string
	for name := range topics {
		if !strings.HasPrefix(name, "__") && doomed(name) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	resp, err := c.adm.DeleteTopics(ctx, names...)
	if err == nil {
		err = resp.Error()
	}
	if err != nil {
		return fmt.Errorf("delete topics %v at %s: %w", names, c.addr, err)
	}
	return c.awaitTopics(ctx, func(topics kadm.TopicDetails) bool {
		for _, name := range names {
			if topics.Has(name) {
				return false
			}
		}
		return true
	})
}

func all(string) bool { return true }

// spareBytes must always stay free on the disk.
const spareBytes = 2 << 30

// checkDisk returns an error if the disk is too small. The data of all workloads stays at the
// source, and the destination needs room for the largest workload twice, because deleting takes a
// moment.
func checkDisk(ws []workload, scale float64) error {
	var all, largest int64
	for _, w := range ws {
		n := w.sourceBytes(scale)
		all, largest = all+n, max(largest, n*int64(w.destination().brokers))
	}
	return diskHas(os.TempDir(), all+2*largest+spareBytes)
}

func diskHas(dir string, need int64) error {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return fmt.Errorf("free space of %s: %w", dir, err)
	}
	if free := int64(s.Bavail) * s.Bsize; free < need {
		return fmt.Errorf("the clusters need %.1f GB in %s, but %.1f GB are free: free some space, choose another directory with TMPDIR, or run fewer workloads with --workload",
			float64(need)/1e9, dir, float64(free)/1e9)
	}
	return nil
}

// seeds returns the option for the addresses of a bootstrap.servers list.
func seeds(addrs string) kgo.Opt { return kgo.SeedBrokers(strings.Split(addrs, ",")...) }

// wireTimeout bounds an exchange that hangs, with brokers that may be far from each other. An
// answer that late is useless for a measurement.
const wireTimeout = 60 * time.Second

// dial connects to the first address of a comma-separated list.
func dial(ctx context.Context, addr string) (*wire.Conn, error) {
	c, err := wire.Dial(ctx, addr, nil)
	if err == nil {
		c.Timeout = wireTimeout
	}
	return c, err
}

// allPartitions are 0 to n-1.
func allPartitions(n int) []int32 {
	ps := make([]int32, n)
	for i := range ps {
		ps[i] = int32(i)
	}
	return ps
}
