package kafkatest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// A cluster takes seconds of CPU time to start, and more until its code is compiled. So a cluster
// without options serves one test after another: it is emptied in between. Only what a test leaves
// behind in full health is used again; in doubt a cluster ends with its test.
//
// Two tests never share such a cluster at the same time.
var pool struct {
	mu   sync.Mutex
	open bool // [Main] will stop the idle clusters
	idle []*Cluster
}

// maxIdle is how many clusters wait for a test at most.
const maxIdle = 4

// openPool lets clusters be used again. Main closes it again.
func openPool() {
	pool.mu.Lock()
	defer pool.mu.Unlock()
	pool.open = true
}

// idleCluster returns a plain cluster that has been emptied, nil if there is none.
func idleCluster() *Cluster {
	pool.mu.Lock()
	defer pool.mu.Unlock()
	if len(pool.idle) == 0 {
		return nil
	}
	c := pool.idle[len(pool.idle)-1]
	pool.idle = pool.idle[:len(pool.idle)-1]
	return c
}

// retire ends a cluster with its test, or empties it for the next one.
func (c *Cluster) retire(t testing.TB) {
	pool.mu.Lock()
	wanted := c.plain && pool.open && len(pool.idle) < maxIdle && !t.Failed() && !c.touched.Load()
	pool.mu.Unlock()
	if !wanted {
		c.stop()
		return
	}
	if err := c.empty(); err != nil {
		t.Logf("the cluster ends with this test: %v", err)
		c.stop()
		return
	}
	pool.mu.Lock()
	defer pool.mu.Unlock()
	pool.idle = append(pool.idle, c)
}

// closePool returns the idle clusters, which nobody gets any more. No test runs by then.
func closePool() (idle []*Cluster) {
	pool.mu.Lock()
	defer pool.mu.Unlock()
	idle, pool.idle, pool.open = pool.idle, nil, false
	return idle
}

// empty deletes what a test has left in a cluster: its topics and groups. It returns an error if
// anything else is left, or if the cluster does not answer at once.
func (c *Cluster) empty() error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	cl, err := kgo.NewClient(append(c.superOpts(), kgo.SeedBrokers(c.seeds()...))...)
	if err != nil {
		return err
	}
	defer cl.Close()
	adm := kadm.NewClient(cl)
	if err := c.unchanged(ctx, adm); err != nil {
		return err
	}
	groups, err := adm.ListGroups(ctx)
	if err != nil {
		return fmt.Errorf("kafkatest: list groups: %w", err)
	}
	if names := groups.Groups(); len(names) > 0 {
		if err := expelMembers(ctx, cl, adm, names); err != nil {
			return err
		}
		deleted, err := adm.DeleteGroups(ctx, names...)
		if err = errors.Join(err, deleted.Error()); err != nil {
			return fmt.Errorf("kafkatest: delete groups: %w", err)
		}
	}
	return deleteTopics(ctx, adm)
}

// expelMembers makes the members of groups leave: what a test has killed did not.
func expelMembers(ctx context.Context, cl *kgo.Client, adm *kadm.Client, groups []string) error {
	described, err := adm.DescribeGroups(ctx, groups...)
	if err != nil {
		return fmt.Errorf("kafkatest: describe groups: %w", err)
	}
	for name, group := range described {
		req := kmsg.NewPtrLeaveGroupRequest()
		req.Group = name
		for _, member := range group.Members {
			leaves := kmsg.NewLeaveGroupRequestMember()
			leaves.MemberID, leaves.InstanceID = member.MemberID, member.InstanceID
			req.Members = append(req.Members, leaves)
		}
		if len(req.Members) == 0 {
			continue
		}
		if _, err := req.RequestWith(ctx, cl); err != nil {
			return fmt.Errorf("kafkatest: leave group %s: %w", name, err)
		}
	}
	return nil
}

// unchanged returns an error if a test has set what empty does not set back, or if a transaction is
// open.
func (c *Cluster) unchanged(ctx context.Context, adm *kadm.Client) error {
	// A broker tells the defaults of all brokers with its own configs.
	configs, err := adm.DescribeBrokerConfigs(ctx, int32(c.brokers[0].id))
	if err != nil {
		return fmt.Errorf("kafkatest: describe the broker's configs: %w", err)
	}
	for _, resource := range configs {
		if i := slices.IndexFunc(resource.Configs, changed); i >= 0 {
			return fmt.Errorf("kafkatest: %s was changed", resource.Configs[i].Key)
		}
	}
	quotas, err := adm.DescribeClientQuotas(ctx, false, nil)
	if err != nil {
		return fmt.Errorf("kafkatest: describe quotas: %w", err)
	}
	if len(quotas) > 0 {
		return fmt.Errorf("kafkatest: there are %d quotas", len(quotas))
	}
	open, err := adm.ListTransactions(ctx, nil, nil)
	if err != nil {
		return fmt.Errorf("kafkatest: list transactions: %w", err)
	}
	for _, tx := range open {
		if !slices.Contains([]string{"Empty", "CompleteCommit", "CompleteAbort", "Dead"}, tx.State) {
			return fmt.Errorf("kafkatest: transaction %s is %s", tx.TxnID, tx.State)
		}
	}
	return nil
}

// changed reports whether a test has set a config. The controller itself sets min.insync.replicas
// as it starts.
func changed(e kadm.Config) bool {
	return strings.HasPrefix(e.Source.String(), "DYNAMIC") && (e.Key != "min.insync.replicas" || e.MaybeValue() != "1")
}

// deleteTopics deletes all topics but Kafka's own, and waits until the broker knows none of them.
func deleteTopics(ctx context.Context, adm *kadm.Client) error {
	for {
		topics, err := adm.ListTopicsWithInternal(ctx)
		if err != nil {
			return fmt.Errorf("kafkatest: list topics: %w", err)
		}
		var left []string
		for _, topic := range topics.Names() {
			if topic != "__consumer_offsets" && topic != "__transaction_state" {
				left = append(left, topic)
			}
		}
		if len(left) == 0 {
			return nil
		}
		deleted, err := adm.DeleteTopics(ctx, left...)
		if err != nil {
			return fmt.Errorf("kafkatest: delete topics: %w", err)
		}
		for _, d := range deleted {
			if d.Err != nil && !errors.Is(d.Err, kerr.UnknownTopicOrPartition) {
				return fmt.Errorf("kafkatest: delete topic %s: %w", d.Topic, d.Err)
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}
