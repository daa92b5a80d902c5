package admin

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"klink/admin/model"
	"klink/admin/store"
	"klink/internal/kafkaclient"
	"klink/internal/retry"
	"klink/protocol"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// GrowMirror adds the partitions that starts describe, which must follow those that the mirror has.
// First it stores their timelines with the mirror's new size, so that no client ever sees them
// untranslated. Then it creates the partitions. It skips starts of partitions that the mirror has
// already, so the call can be repeated.
func (s *Service) GrowMirror(ctx context.Context, topic string, starts []model.Start) error {
	starts = slices.Clone(starts)
	slices.SortFunc(starts, func(a, b model.Start) int { return int(a.Partition) - int(b.Partition) })
	if err := s.newPartitionsEmpty(ctx, topic, starts); err != nil {
		return err
	}
	var partitions int32
	err := s.update(ctx, func(tx *store.Tx) error {
		m, err := tx.Mirror(topic)
		if err != nil {
			return err
		}
		if m == nil {
			return protocol.Errorf(kerr.UnknownTopicOrPartition, "unknown mirror topic '%s'", topic)
		}
		if m.State == model.MirrorStopped || m.State == model.MirrorPendingStopped {
			return protocol.Errorf(kerr.InvalidRequest, "mirror topic '%s' is %s and does not grow with its source", topic, m.State)
		}
		partitions = m.Partitions
		for _, start := range starts {
			switch {
			case start.Partition < partitions:
				continue
			case start.Partition > partitions || start.Partition >= store.MaxPartitions:
				return fmt.Errorf("mirror topic '%s' cannot grow from %d partitions by partition %d", topic, partitions, start.Partition)
			case start.Logical < 0 || start.Floor < 0:
				return fmt.Errorf("mirror topic '%s' cannot grow by partition %d: negative start", topic, start.Partition)
			}
			if err := tx.PutTimeline(topic, start.Partition, &store.TimelineRecord{Logical: start.Logical, Floor: start.Floor}); err != nil {
				return err
			}
			partitions++
		}
		m = m.Clone()
		m.Partitions = partitions
		return tx.PutMirror(topic, m)
	})
	if err != nil {
		return err
	}
	return s.createPartitions(ctx, topic, partitions)
}

// newPartitionsEmpty refuses new partitions that somebody has created, and written to, around
// klink.
func (s *Service) newPartitionsEmpty(ctx context.Context, topic string, starts []model.Start) error {
	t, err := s.findTopic(ctx, topic)
	if err != nil || t == nil || len(starts) == 0 {
		return err
	}
	if first := starts[0].Partition; int32(len(t.Partitions)) <= first {
		return nil
	}
	if err := s.transactions.Await(ctx, topic, starts[0].Partition, int32(len(t.Partitions)), true, 0); err != nil {
		return err
	}
	ends, err := s.admin.ListEndOffsets(ctx, topic)
	if err != nil {
		return err
	}
	m := s.State().Mirrors[topic]
	for _, start := range starts {
		if end, ok := ends.Lookup(topic, start.Partition); ok && m != nil && start.Partition >= m.Partitions && end.Offset > 0 {
			return protocol.Errorf(kerr.InvalidRequest, "partition %d of mirror topic '%s' was created at the destination, not through klink, and has records", start.Partition, topic)
		}
	}
	return nil
}

// createPartitions grows a destination topic to at least that many partitions, and waits until they
// appear.
func (s *Service) createPartitions(ctx context.Context, topic string, partitions int32) error {
	t, err := s.findTopic(ctx, topic)
	switch {
	case err != nil:
		return err
	case t == nil:
		return protocol.Errorf(kerr.UnknownTopicOrPartition, "mirror topic '%s' does not exist at the destination", topic)
	case int32(len(t.Partitions)) >= partitions:
		s.ungrown.Delete(topic)
		return nil
	}
	// Such transactions may be left of an earlier topic with the same name and more partitions.
	if err := s.transactions.Await(ctx, topic, int32(len(t.Partitions)), partitions, false, 0); err != nil {
		return err
	}
	responses, err := s.admin.UpdatePartitions(ctx, int(partitions), topic)
	err = kafkaclient.NotOffered(err, kmsg.CreatePartitions)
	if err == nil {
		r := responses[topic]
		err = kafkaclient.WithMessage(r.Err, r.ErrMessage)
	}
	if err != nil && !errors.Is(err, kerr.InvalidPartitions) {
		s.ungrown.Store(topic, err.Error())
		return fmt.Errorf("could not grow topic '%s' at the destination to %d partitions: %w", topic, partitions, err)
	}
	s.ungrown.Delete(topic)
	// INVALID_PARTITIONS: the topic has as many already. Wait until they appear.
	for {
		t, err := s.findTopic(ctx, topic)
		if err != nil {
			return err
		}
		if t != nil && int32(len(t.Partitions)) >= partitions {
			return nil
		}
		if err := retry.Sleep(ctx, pollInterval); err != nil {
			return fmt.Errorf("topic '%s' at the destination has grown to %d partitions, but its metadata does not show them yet: %w", topic, partitions, err)
		}
	}
}

// whyUngrown returns why this instance could not add partitions to a mirror last, "" if it could.
func (s *Service) whyUngrown(topic string) string {
	why, _ := s.ungrown.Load(topic)
	text, _ := why.(string)
	return text
}
