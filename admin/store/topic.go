package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"klink/admin/linkconfig"
	"klink/admin/topicconfig"
	"klink/internal/kafkaclient"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

// EnsureTopic creates the state topic if there is none, waits until it can be used, and checks
// that it is what it must be: one compacted partition. A topic that lost old records to retention
// would lose links. It returns the id of the cluster, if it could learn that, in any case.
func EnsureTopic(ctx context.Context, admin *kadm.Client) (cluster string, err error) {
	details, err := admin.Metadata(ctx, StateTopic)
	if err != nil {
		return cluster, fmt.Errorf("could not read the metadata of the destination: %w", err)
	}
	cluster = details.Cluster
	if errors.Is(details.Topics[StateTopic].Err, kerr.UnknownTopicOrPartition) {
		if err := createStateTopic(ctx, admin, len(details.Brokers)); err != nil {
			return cluster, err
		}
	}
	if err := waitStateTopic(ctx, admin); err != nil {
		return cluster, err
	}
	configs, err := topicconfig.Describe(ctx, admin, StateTopic)
	if err != nil {
		return cluster, fmt.Errorf("could not read the configs of the state topic: %w", err)
	}
	if policy := configs["cleanup.policy"].Value; policy != "compact" {
		return cluster, fmt.Errorf("the state topic %s of the destination has cleanup.policy=%s, which would lose links and mirrors: set it to compact", StateTopic, policy)
	}
	// klink writes only in transactions, which brokers refuse if the topic has an older message
	// format (possible before Kafka 3.0).
	if format, ok := configs[linkconfig.MessageFormat]; ok && linkconfig.FormatMatters(format.Value) && oldFormat(format.Value) {
		if err := topicconfig.Alter(ctx, admin, StateTopic, linkconfig.Pointers(map[string]string{linkconfig.MessageFormat: linkconfig.MessageFormatV2})); err != nil {
			return cluster, fmt.Errorf("could not set %s of the state topic %s, because the destination's default is %s: %w; klink's principal needs ALTER_CONFIGS on it", linkconfig.MessageFormat, StateTopic, format.Value, err)
		}
	}
	return cluster, nil
}

// oldFormat reports whether a message.format.version is older than v2 (0.11).
func oldFormat(version string) bool {
	return strings.HasPrefix(version, "0.8") || strings.HasPrefix(version, "0.9") || strings.HasPrefix(version, "0.10")
}

// stateSegmentBytes keeps the segments of the state topic small: the last one is never compacted,
// and checkpoints fill it.
const stateSegmentBytes = "16777216"

// createStateTopic creates the state topic with the destination's default replication factor. If
// the brokers do not know a default (before Kafka 2.4), or cannot meet it, the topic gets as many
// replicas as there are brokers, up to three.
func createStateTopic(ctx context.Context, admin *kadm.Client, brokers int) error {
	var errs []error
	for _, try := range []struct {
		replicas int16
		configs  map[string]string
	}{
		{-1, map[string]string{"cleanup.policy": "compact", "segment.bytes": stateSegmentBytes}},
		{-1, map[string]string{"cleanup.policy": "compact"}},
		{int16(max(1, min(brokers, 3))), map[string]string{"cleanup.policy": "compact"}},
	} {
		created, err := admin.CreateTopics(ctx, 1, try.replicas, linkconfig.Pointers(try.configs), StateTopic)
		if err != nil {
			return fmt.Errorf("could not create the state topic %s: %w", StateTopic, err)
		}
		resp := created[StateTopic]
		if resp.Err == nil || errors.Is(resp.Err, kerr.TopicAlreadyExists) {
			return nil
		}
		errs = append(errs, kafkaclient.WithMessage(resp.Err, resp.ErrMessage))
	}
	return fmt.Errorf("could not create the state topic %s at the destination: %w; klink's principal needs CREATE on it", StateTopic, errors.Join(errs...))
}

// waitStateTopic waits until the state topic has a leader that every broker can be asked for.
func waitStateTopic(ctx context.Context, admin *kadm.Client) error {
	for {
		details, err := admin.Metadata(ctx, StateTopic)
		if err != nil {
			return fmt.Errorf("could not read the metadata of the state topic %s: %w", StateTopic, err)
		}
		t := details.Topics[StateTopic]
		switch {
		case t.Err == nil && len(t.Partitions) > 1:
			return fmt.Errorf("the state topic %s of the destination has %d partitions; it must have one", StateTopic, len(t.Partitions))
		case t.Err == nil && len(t.Partitions) == 1 && t.Partitions[0].Err == nil:
			return nil
		case t.Err != nil && !kerr.IsRetriable(t.Err):
			return fmt.Errorf("the state topic %s: %w", StateTopic, t.Err)
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("the state topic %s has no leader: %w", StateTopic, ctx.Err())
		}
	}
}
