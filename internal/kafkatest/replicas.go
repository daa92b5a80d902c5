package kafkatest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Leader returns the broker that leads a partition, or nil if none does. It asks the running
// brokers directly, not through their [Faults].
func (c *Cluster) Leader(ctx context.Context, topic string, partition int32) (*Broker, error) {
	meta, err := c.metadata(ctx)
	if err != nil {
		return nil, err
	}
	for _, rt := range meta.Topics {
		for _, rp := range rt.Partitions {
			if rt.Topic == nil || *rt.Topic != topic || rp.Partition != partition {
				continue
			}
			for _, b := range c.brokers {
				if int(rp.Leader) == b.id {
					return b, nil
				}
			}
			return nil, nil // no leader
		}
	}
	return nil, fmt.Errorf("kafkatest: %s-%d: %w", topic, partition, kerr.UnknownTopicOrPartition)
}

// InSync reports whether every partition of the cluster, Kafka's own included, has all its replicas
// in sync; state names one that has not. It asks the brokers directly, not through their [Faults].
func (c *Cluster) InSync(ctx context.Context) (ok bool, state string) {
	meta, err := c.metadata(ctx)
	if err != nil {
		return false, err.Error()
	}
	for _, rt := range meta.Topics {
		for _, rp := range rt.Partitions {
			if rt.Topic != nil && len(rp.ISR) != len(rp.Replicas) {
				return false, fmt.Sprintf("%s-%d has replicas %v, in sync %v", *rt.Topic, rp.Partition, rp.Replicas, rp.ISR)
			}
		}
	}
	return true, fmt.Sprintf("%d topics", len(meta.Topics))
}

// metadata returns the metadata of all topics, from the first running broker that answers.
func (c *Cluster) metadata(ctx context.Context) (*kmsg.MetadataResponse, error) {
	err := errors.New("no broker runs")
	for _, b := range c.brokers {
		if !b.running() {
			continue
		}
		var meta *kmsg.MetadataResponse
		if meta, err = c.metadataFrom(ctx, b); err == nil {
			return meta, nil
		}
	}
	return nil, fmt.Errorf("kafkatest: metadata: %w", err)
}

func (c *Cluster) metadataFrom(ctx context.Context, b *Broker) (*kmsg.MetadataResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	cl, err := kgo.NewClient(append(c.superOpts(), kgo.SeedBrokers(b.addr), kgo.DialTimeout(2*time.Second))...)
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	resp, err := cl.SeedBrokers()[0].Request(ctx, kmsg.NewPtrMetadataRequest())
	if err != nil {
		return nil, err
	}
	return resp.(*kmsg.MetadataResponse), nil
}

var partitionDir = regexp.MustCompile(`-[0-9]+$`)

// LoseLogs removes the logs of all topics of a stopped broker, as if somebody had replaced their
// disk. The cluster's metadata log stays. The broker's records survive only if every partition had
// another replica in sync.
func (b *Broker) LoseLogs(t testing.TB) {
	t.Helper()
	if b.running() {
		t.Fatalf("broker %d runs: its logs cannot be taken away", b.id)
	}
	entries, err := os.ReadDir(b.dir)
	if err != nil {
		t.Fatal(err)
	}
	logs := 0
	for _, e := range entries {
		name := e.Name()
		isLog := e.IsDir() && partitionDir.MatchString(name) && name != "__cluster_metadata-0"
		if !isLog && !isCheckpoint(name) {
			continue
		}
		if isLog {
			logs++
		}
		if err := os.RemoveAll(filepath.Join(b.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if logs == 0 {
		t.Fatalf("broker %d has no logs in %s", b.id, b.dir)
	}
}

// isCheckpoint reports whether a file notes offsets of the logs beside it.
func isCheckpoint(name string) bool {
	switch name {
	case "cleaner-offset-checkpoint", "log-start-offset-checkpoint", "recovery-point-offset-checkpoint", "replication-offset-checkpoint":
		return true
	}
	return false
}
