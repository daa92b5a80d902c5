package admin

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"klink/protocol/timeline"

	"klink/protocol"

	"github.com/twmb/franz-go/pkg/kerr"
)

// What the owner of a partition keeps of its timeline. One owner writes at a time: see Owner and Fence. Checkpoints are taken
// from everybody, as what they say of a log stays true: they only go up.

// changeTimeline stores a change of a partition's timeline. The record that change gets is its own.
func (s *Service) changeTimeline(ctx context.Context, topic string, partition int32, change func(tx *Tx, m *mirrorRecord, r *timelineRecord) error) error {
	return s.update(ctx, func(tx *Tx) error {
		m, err := tx.Mirror(topic)
		if err != nil {
			return err
		}
		if m == nil || partition < 0 || partition >= m.Partitions {
			return protocol.Errorf(kerr.UnknownTopicOrPartition, "there is no mirror of partition %d of topic '%s'", partition, topic)
		}
		if err := s.ownTopic(topic); err != nil {
			return err
		}
		t, err := tx.Timeline(topic, partition)
		if err != nil {
			return err
		}
		if t == nil {
			return fmt.Errorf("partition %d of mirror topic '%s' has no timeline in %s", partition, topic, StateTopic)
		}
		t = t.clone()
		if err := change(tx, m, t); err != nil {
			return err
		}
		return tx.PutTimeline(topic, partition, t)
	})
}

// Checkpoint stores checkpoints of any number of partitions in one transaction. Those of partitions that are no mirrors any
// more, and those that say less than what is stored, are passed over. Of one partition only the last one counts. Durable
// when it returns nil.
func (s *Service) Checkpoint(ctx context.Context, checkpoints []Checkpoint) error {
	last := make(map[timelineAt]Checkpoint, len(checkpoints))
	for _, c := range checkpoints {
		if c.Physical < 0 || c.Logical < 0 {
			return fmt.Errorf("checkpoint of partition %d of '%s': negative offset (physical %d, logical %d)", c.Partition, c.Topic, c.Physical, c.Logical)
		}
		if c.Epoch < 0 || c.EpochEnd < 0 || c.EpochEnd > c.Logical {
			return fmt.Errorf("checkpoint of partition %d of '%s': leader epoch %d up to offset %d does not fit offset %d", c.Partition, c.Topic, c.Epoch, c.EpochEnd, c.Logical)
		}
		last[timelineAt{c.Topic, c.Partition}] = c
	}
	return s.update(ctx, func(tx *Tx) error {
		mirrors := map[string]*mirrorRecord{}
		for at, c := range last {
			m, ok := mirrors[at.topic]
			if !ok {
				m, _ = tx.Mirror(at.topic) // a broken record is shown as FAILED
				mirrors[at.topic] = m
			}
			if m == nil || m.State == MirrorStopped || at.partition < 0 || at.partition >= m.Partitions {
				continue
			}
			if err := tx.putCheckpoint(at, &checkpointRecord{
				Version: recordVersion, Mirror: m.ID, Physical: c.Physical, Logical: c.Logical, Epoch: c.Epoch, EpochEnd: c.EpochEnd,
			}); err != nil {
				return err
			}
		}
		return nil
	})
}

// LastCheckpoint returns the checkpoint that was stored last for a partition; ok is false if there is none. It may be some
// seconds older than the log.
func (s *Service) LastCheckpoint(topic string, partition int32) (c Checkpoint, ok bool) {
	select {
	case <-s.ready:
		return s.store.Checkpoint(topic, partition)
	default:
		return c, false
	}
}

// Hide stores that the physical offsets from from to to, to not included, are never shown, and then hides them in the
// partition's published timeline. Durable when it returns nil. When there would be too many ranges the mirror is moved to
// FAILED with FOREIGN_WRITE, and an error says so.
func (s *Service) Hide(ctx context.Context, topic string, partition int32, from, to int64) error {
	if from < 0 || to <= from {
		return fmt.Errorf("hide offsets of partition %d of '%s': %d to %d is no range", partition, topic, from, to)
	}
	tooMany := false
	err := s.changeTimeline(ctx, topic, partition, func(tx *Tx, m *mirrorRecord, r *timelineRecord) error {
		err := r.hide(from, to)
		if tooMany = errors.Is(err, errTooManyHidden); tooMany {
			return moveMirror(tx, topic, m, mirrorInput{Kind: mirrorFailed, Error: ErrForeignWrite, Message: tooManyHidden(partition), Link: linkStatusOf(tx, m.Link)}, s.cfg.Now())
		}
		return err
	})
	if err == nil && tooMany {
		return fmt.Errorf("mirror topic '%s' has FAILED: %s: %w", topic, tooManyHidden(partition), errTooManyHidden)
	}
	return err
}

// Hidden are the ranges of physical offsets that are stored as hidden, in order; the slice is the caller's. The published
// timeline of the partition may have more: readers hide what they meet before the owner does, and that is not durable.
func (s *Service) Hidden(topic string, partition int32) []timeline.Range {
	select {
	case <-s.ready:
		return s.store.hidden(timelineAt{topic, partition})
	default:
		return nil
	}
}

func tooManyHidden(partition int32) string {
	return fmt.Sprintf("somebody else keeps writing to partition %d at the destination: find out who writes to the brokers without klink, and stop it; then delete the topic and create the mirror anew, or fail it over", partition)
}

// SetAlignment stores from which logical offset on the physical offsets of a partition have not been the logical ones, and
// why, for people; began = -1 says that they are the same. Durable when it returns nil.
func (s *Service) SetAlignment(ctx context.Context, topic string, partition int32, began int64, reason string) error {
	if len(reason) > maxReasonBytes {
		reason = strings.ToValidUTF8(reason[:maxReasonBytes], "")
	}
	return s.changeTimeline(ctx, topic, partition, func(_ *Tx, _ *mirrorRecord, r *timelineRecord) error {
		r.Alignment = &alignment{Began: max(began, -1), Reason: reason}
		return nil
	})
}

// EndTimeline stores where the mirror of a partition ended, and then ends its published timeline: what is written from
// physical on has the logical offsets from logical on. Durable when it returns nil. An end is final: another one is an error.
func (s *Service) EndTimeline(ctx context.Context, topic string, partition int32, physical, logical int64) error {
	return s.changeTimeline(ctx, topic, partition, func(_ *Tx, _ *mirrorRecord, r *timelineRecord) error {
		return r.end(topic, partition, position{physical, logical})
	})
}
