package admin

import (
	"context"
	"fmt"
	"strings"

	"klink/admin/model"
	"klink/admin/store"
	"klink/protocol"

	"github.com/twmb/franz-go/pkg/kerr"
)

// This file stores what the owner of a partition keeps of its timeline. One owner writes at a time:
// see Owner and Fence. Checkpoints are accepted from every instance: what they say of a log stays
// true, so they only increase.

// ownTimeline returns the record of a partition's timeline, which this instance must own; nil =
// there is none yet.
func (s *Service) ownTimeline(tx *store.Tx, topic string, partition int32) (*store.TimelineRecord, error) {
	m, err := tx.Mirror(topic)
	if err != nil {
		return nil, err
	}
	if m == nil || partition < 0 || partition >= m.Partitions {
		return nil, protocol.Errorf(kerr.UnknownTopicOrPartition, "unknown partition %d of mirror topic '%s'", partition, topic)
	}
	if err := s.ownPartition(topic, partition); err != nil {
		return nil, err
	}
	return tx.Timeline(topic, partition)
}

// changeTimeline stores a change of a partition's timeline. change may modify the record that it
// gets.
func (s *Service) changeTimeline(ctx context.Context, topic string, partition int32, change func(r *store.TimelineRecord) error) error {
	return s.update(ctx, func(tx *store.Tx) error {
		t, err := s.ownTimeline(tx, topic, partition)
		if err != nil {
			return err
		}
		if t == nil {
			return fmt.Errorf("partition %d of mirror topic '%s' has no timeline in %s", partition, topic, store.StateTopic)
		}
		t = t.Clone()
		if err := change(t); err != nil {
			return err
		}
		return tx.PutTimeline(topic, partition, t)
	})
}

// Checkpoint stores checkpoints of any number of partitions in one transaction. It skips partitions
// that are no longer mirrors, and checkpoints that are behind the stored ones. If a partition
// occurs more than once, only its last checkpoint counts. Durable when it returns nil.
func (s *Service) Checkpoint(ctx context.Context, checkpoints []model.Checkpoint) error {
	last := make(map[store.TimelineAt]model.Checkpoint, len(checkpoints))
	for _, c := range checkpoints {
		if c.Physical < 0 || c.Logical < 0 {
			return fmt.Errorf("checkpoint of partition %d of '%s': negative offset (physical %d, logical %d)", c.Partition, c.Topic, c.Physical, c.Logical)
		}
		if c.Epoch < 0 || c.EpochEnd < 0 || c.EpochEnd > c.Logical {
			return fmt.Errorf("checkpoint of partition %d of '%s': leader epoch %d up to offset %d does not fit offset %d", c.Partition, c.Topic, c.Epoch, c.EpochEnd, c.Logical)
		}
		last[store.TimelineAt{Topic: c.Topic, Partition: c.Partition}] = c
	}
	return s.update(ctx, func(tx *store.Tx) error {
		mirrors := map[string]*store.MirrorRecord{}
		for at, c := range last {
			m, ok := mirrors[at.Topic]
			if !ok {
				m, _ = tx.Mirror(at.Topic) // a broken record is shown as FAILED
				mirrors[at.Topic] = m
			}
			if m == nil || m.State == model.MirrorStopped || at.Partition < 0 || at.Partition >= m.Partitions {
				continue
			}
			if err := tx.PutCheckpoint(at, &store.CheckpointRecord{
				Version: store.RecordVersion, Mirror: m.ID, Physical: c.Physical, Logical: c.Logical, Epoch: c.Epoch, EpochEnd: c.EpochEnd,
				Straight: c.Straight,
			}); err != nil {
				return err
			}
		}
		return nil
	})
}

// LastCheckpoint returns the checkpoint that was last stored for a partition; ok is false if there
// is none. It may be some seconds behind the log.
func (s *Service) LastCheckpoint(topic string, partition int32) (c model.Checkpoint, ok bool) {
	select {
	case <-s.ready:
		return s.store.Checkpoint(topic, partition)
	default:
		return c, false
	}
}

// SetAlignment stores the logical offset from which logical and physical offsets of a partition
// differ, and the reason, for people. began = -1 says that they are the same. Durable when it
// returns nil.
func (s *Service) SetAlignment(ctx context.Context, topic string, partition int32, began int64, reason string) error {
	if len(reason) > store.MaxReasonBytes {
		reason = strings.ToValidUTF8(reason[:store.MaxReasonBytes], "")
	}
	return s.changeTimeline(ctx, topic, partition, func(r *store.TimelineRecord) error {
		r.Alignment = &store.Alignment{Began: max(began, -1), Reason: reason}
		return nil
	})
}
