package admin

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"klink/admin/linkconfig"
	"klink/admin/store"
	"klink/admin/topicconfig"
	"klink/internal/kafkaclient"
	"klink/internal/retry"
	"klink/protocol"
	"klink/router"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Operations on the topic of a mirror at the destination.

// findTopic looks up a topic at the destination; nil = there is none. It asks for authorized
// operations, because otherwise kadm answers from a cache, which may still have a topic that was
// just deleted.
func (s *Service) findTopic(ctx context.Context, topic string) (*kadm.TopicDetail, error) {
	meta, err := s.admin.Metadata(kadm.WithAuthorizedOps(ctx), topic)
	if err != nil {
		return nil, fmt.Errorf("could not look up topic '%s' at the destination: %w", topic, err)
	}
	t, ok := meta.Topics[topic]
	switch {
	case !ok || errors.Is(t.Err, kerr.UnknownTopicOrPartition):
		return nil, nil
	case t.Err != nil && !errors.Is(t.Err, kerr.LeaderNotAvailable):
		return nil, fmt.Errorf("could not look up topic '%s' at the destination: %w", topic, t.Err)
	}
	return &t, nil
}

// existingTopic checks that no topic has the name. For a conversion it checks instead that the
// topic exists, is empty and has the right number of partitions, and returns their physical ends.
func (s *Service) existingTopic(ctx context.Context, spec router.MirrorSpec, partitions int32) ([]int64, *protocol.Error) {
	t, err := s.findTopic(ctx, spec.Topic)
	if err != nil {
		return nil, asError(err)
	}
	switch {
	case t == nil && spec.Convert:
		return nil, protocol.Errorf(kerr.UnknownTopicOrPartition, "topic '%s' does not exist at the destination, so it cannot become a mirror: create the mirror instead", spec.Topic)
	case t != nil && !spec.Convert:
		return nil, protocol.Errorf(kerr.TopicAlreadyExists, "topic '%s' exists at the destination: delete it, or, if it is empty, turn it into a mirror with `kafka-configs --alter --entity-type topics --entity-name %s --add-config mirror.link=%s`", spec.Topic, spec.Topic, spec.Link)
	case t == nil:
		return nil, nil
	case int32(len(t.Partitions)) != partitions:
		return nil, protocol.Errorf(kerr.InvalidPartitions, "topic '%s' has %d partitions at the destination and %d at the source of link %q: it can become a mirror only if the numbers are equal", spec.Topic, len(t.Partitions), partitions, spec.Link)
	}
	// There is no point in waiting for open transactions to end: their markers would be content of
	// the topic, so it would no longer be empty.
	if err := s.transactions.Await(ctx, spec.Topic, 0, partitions, true, 0); err != nil {
		return nil, asError(err)
	}
	ends, err := s.emptyEnds(ctx, spec.Topic, partitions)
	if err != nil {
		return nil, asError(err)
	}
	return ends, nil
}

// emptyEnds returns the physical end of every partition of a topic that has no records; the error
// names a partition that has some.
func (s *Service) emptyEnds(ctx context.Context, topic string, partitions int32) ([]int64, error) {
	starts, err := s.admin.ListStartOffsets(ctx, topic)
	if err != nil {
		return nil, err
	}
	listed, err := s.admin.ListEndOffsets(ctx, topic)
	if err != nil {
		return nil, err
	}
	ends := make([]int64, partitions)
	for p := range ends {
		start, ok1 := starts.Lookup(topic, int32(p))
		end, ok2 := listed.Lookup(topic, int32(p))
		switch {
		case !ok1 || !ok2:
			return nil, fmt.Errorf("no answer for the offsets of partition %d of topic '%s' at the destination", p, topic)
		case start.Err != nil || end.Err != nil:
			return nil, fmt.Errorf("could not list the offsets of partition %d of topic '%s' at the destination: %w", p, topic, errors.Join(start.Err, end.Err))
		case start.Offset != end.Offset:
			return nil, protocol.Errorf(kerr.InvalidRequest, "topic '%s' has records at the destination (partition %d, offsets %d to %d): only an empty topic can become a mirror", topic, p, start.Offset, end.Offset-1)
		}
		ends[p] = end.Offset
	}
	return ends, nil
}

// validateTopic asks the destination whether it would create the topic.
func (s *Service) validateTopic(ctx context.Context, plan *mirrorPlan) *protocol.Error {
	if plan.convert {
		return nil
	}
	r := plan.record
	responses, err := s.admin.ValidateCreateTopics(ctx, r.Partitions, r.ReplicationFactor, linkconfig.Pointers(r.Configs), plan.topic)
	if err != nil {
		return asError(err)
	}
	if resp := responses[plan.topic]; resp.Err != nil {
		return asError(s.notCreated(ctx, plan, resp))
	}
	return nil
}

// finishMirror creates or adopts the topic of a recorded mirror, and then records that it is there.
// It may be called again after a failure or a crash. It does nothing while another instance may not
// know the mirror; see seen. It waits up to wait for open transactions.
func (s *Service) finishMirror(ctx context.Context, plan *mirrorPlan, w *seenWait, wait time.Duration) error {
	if err := s.seen(ctx, plan.topic, w); err != nil {
		return err
	}
	r := plan.record
	created := false
	if !plan.convert {
		// Transactions of an earlier topic of the same name.
		if err := s.transactions.Await(ctx, plan.topic, 0, r.Partitions, false, wait); err != nil {
			return err
		}
		responses, err := s.admin.CreateTopics(ctx, r.Partitions, r.ReplicationFactor, linkconfig.Pointers(r.Configs), plan.topic)
		if err != nil {
			return fmt.Errorf("could not create topic '%s' at the destination: %w", plan.topic, kafkaclient.NotOffered(err, kmsg.CreateTopics))
		}
		resp := responses[plan.topic]
		if resp.Err != nil && !errors.Is(resp.Err, kerr.TopicAlreadyExists) {
			return s.notCreated(ctx, plan, resp)
		}
		created = resp.Err == nil
	}
	if !created {
		// A topic to be converted, or one that an earlier attempt created.
		if err := s.adoptTopic(ctx, plan); err != nil {
			return err
		}
	}
	id, err := s.topicIDOf(ctx, plan.topic)
	if err != nil {
		return err
	}
	return s.update(ctx, func(tx *store.Tx) error {
		m, err := tx.Mirror(plan.topic)
		if err != nil || m == nil || m.ID != r.ID {
			return err // the mirror was deleted since
		}
		m = m.Clone()
		m.Created, m.TopicID = true, id
		return tx.PutMirror(plan.topic, m)
	})
}

// adoptTopic turns an existing topic into a mirror's. The topic must be empty, and must end where
// the timelines say that the mirror begins.
func (s *Service) adoptTopic(ctx context.Context, plan *mirrorPlan) error {
	t, err := s.findTopic(ctx, plan.topic)
	switch {
	case err != nil:
		return err
	case t == nil:
		return protocol.Errorf(kerr.UnknownTopicOrPartition, "topic '%s' at the destination was deleted while klink was turning it into a mirror", plan.topic)
	case int32(len(t.Partitions)) != plan.record.Partitions:
		return protocol.Errorf(kerr.TopicAlreadyExists, "topic '%s' exists at the destination with %d partitions, but has %d at the source: somebody else created it", plan.topic, len(t.Partitions), plan.record.Partitions)
	}
	if err := s.transactions.Await(ctx, plan.topic, 0, plan.record.Partitions, true, 0); err != nil {
		return err
	}
	// The mirror is recorded, so no client can write through klink any more. A write that was in
	// flight is in the log already, or the replicator will find it.
	ends, err := s.emptyEnds(ctx, plan.topic, plan.record.Partitions)
	if err != nil {
		return err
	}
	for p, end := range ends {
		if end != plan.starts[p].Physical {
			return protocol.Errorf(kerr.InvalidRequest, "somebody is writing to topic '%s' at the destination: it cannot become a mirror now", plan.topic)
		}
	}
	if err := topicconfig.Alter(ctx, s.admin, plan.topic, linkconfig.Pointers(plan.record.Configs)); err != nil {
		return fmt.Errorf("could not set the configs of topic '%s' at the destination: %w", plan.topic, err)
	}
	return nil
}

// topicIDOf waits until the brokers know a topic and returns its id; zero when they have no ids
// (before Kafka 2.8).
func (s *Service) topicIDOf(ctx context.Context, topic string) (store.TopicID, error) {
	for {
		t, err := s.findTopic(ctx, topic)
		if err != nil {
			return store.TopicID{}, err
		}
		if t != nil {
			return store.TopicID(t.ID), nil
		}
		if err := retry.Sleep(ctx, pollInterval); err != nil {
			return store.TopicID{}, fmt.Errorf("topic '%s' was created at the destination, but does not appear in its metadata: %w", topic, err)
		}
	}
}

// notCreated is the error of a topic that the destination refused to create. Policies need not say
// which configs they refuse; then klink finds out.
func (s *Service) notCreated(ctx context.Context, plan *mirrorPlan, resp kadm.CreateTopicResponse) error {
	err := fmt.Errorf("the destination refused to create topic '%s': %w", plan.topic, kafkaclient.WithMessage(resp.Err, resp.ErrMessage))
	if !errors.Is(resp.Err, kerr.PolicyViolation) && !errors.Is(resp.Err, kerr.InvalidConfig) {
		return err
	}
	r := plan.record
	refused := topicconfig.Refused(r.Configs, func(configs map[string]string) error {
		answers, err := s.admin.ValidateCreateTopics(ctx, r.Partitions, r.ReplicationFactor, linkconfig.Pointers(configs), plan.topic)
		if err != nil {
			return err
		}
		return answers[plan.topic].Err
	})
	if len(refused) == 0 {
		return err
	}
	return fmt.Errorf("%w; by itself it refuses: %s. Allow it there; or, if it is not one that each mirror needs, leave it out of %s of the link",
		err, strings.Join(refused, ", "), linkconfig.ConfigTopicSyncInclude)
}
