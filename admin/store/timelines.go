package store

import (
	"klink/admin/model"
	"klink/protocol/timeline"
)

// applyTimeline keeps the published timeline of a partition in step with its record. A record moves
// a live timeline only if it differs from the one before: in between the partition's owner moves
// the timeline, ahead of the store.
func (s *Store) applyTimeline(k recordKey, value []byte) error {
	at := TimelineAt{k.Name, k.Partition}
	before := s.records.timelines[k.Name][k.Partition]
	forget(s.records.timelines, at)
	if value == nil {
		delete(s.live, at)
		return nil
	}
	r, err := decodeTimeline(value)
	if err != nil {
		delete(s.live, at)
		return err
	}
	keep(s.records.timelines, at, r)
	live := s.live[at]
	if live == nil {
		return nil // liveTimeline makes it when it is first needed
	}
	if before == nil || before.Physical != r.Physical || before.Logical != r.Logical || before.Floor != r.Floor {
		live.Move(r.Physical, r.Logical, r.Floor)
	}
	if r.End != nil && (before == nil || before.End == nil) {
		live.End(r.End.Physical, r.End.Logical, r.End.Straight)
	}
	return nil
}

// liveTimeline returns the timeline that readers and the owner of a partition share; nil if none is
// recorded.
func (s *Store) liveTimeline(at TimelineAt) *timeline.Partition {
	if s.live[at] == nil {
		if r := s.records.timelines[at.Topic][at.Partition]; r != nil {
			s.live[at] = r.open(s.records.checkpoint(at))
		}
	}
	return s.live[at]
}

func (s *Store) applyCheckpoint(k recordKey, value []byte) error {
	at := TimelineAt{k.Name, k.Partition}
	forget(s.records.checkpoints, at)
	if value == nil {
		return nil
	}
	r, err := decodeCheckpoint(value)
	if err != nil {
		return err
	}
	keep(s.records.checkpoints, at, r)
	if live := s.live[at]; live != nil && s.records.checkpoint(at) == r {
		live.LearnProbe(r.Physical, r.Logical, 0)
	}
	return nil
}

// checkpoint returns the last checkpoint of a partition of the mirror that is recorded now; nil =
// there is none.
func (r *records) checkpoint(at TimelineAt) *CheckpointRecord {
	c, m := r.checkpoints[at.Topic][at.Partition], r.mirrors[at.Topic]
	if c == nil || m == nil || c.Mirror != m.ID {
		return nil
	}
	return c
}

// Checkpoint returns the last checkpoint of a partition, and whether there is one.
func (s *Store) Checkpoint(topic string, partition int32) (model.Checkpoint, bool) {
	defer s.log.Hold()()
	c := s.records.checkpoint(TimelineAt{topic, partition})
	if c == nil {
		return model.Checkpoint{}, false
	}
	return model.Checkpoint{
		Topic: topic, Partition: partition, Physical: c.Physical, Logical: c.Logical, Epoch: c.Epoch, EpochEnd: c.EpochEnd,
		Straight: c.Straight,
	}, true
}

// TimelineRecords returns the stored timelines of a topic, by partition; nil = there is none. The
// caller must not change them.
func (s *Store) TimelineRecords(topic string, partitions int32) []*TimelineRecord {
	defer s.log.Hold()()
	rs := make([]*TimelineRecord, partitions)
	for p := range rs {
		rs[p] = s.records.timelines[topic][int32(p)]
	}
	return rs
}

func keep[R any](m map[string]map[int32]R, at TimelineAt, r R) {
	if m[at.Topic] == nil {
		m[at.Topic] = map[int32]R{}
	}
	m[at.Topic][at.Partition] = r
}

func forget[R any](m map[string]map[int32]R, at TimelineAt) {
	delete(m[at.Topic], at.Partition)
	if len(m[at.Topic]) == 0 {
		delete(m, at.Topic)
	}
}
