package store

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"

	"klink/admin/model"
	"klink/protocol/timeline"
)

// stateCache keeps the immutable parts that snapshots of the state are made of, so that after a
// change only what has changed is made anew.
type stateCache struct {
	links     map[string]*model.Link
	mirrors   map[string]*model.Mirror
	timelines map[string][]*timeline.Partition
}

func newStateCache() stateCache {
	return stateCache{links: map[string]*model.Link{}, mirrors: map[string]*model.Mirror{}, timelines: map[string][]*timeline.Partition{}}
}

// forget drops what was made of the records of a topic.
func (c *stateCache) forget(topic string) {
	delete(c.mirrors, topic)
	delete(c.timelines, topic)
}

// OutOfRange is the floor of a partition that must not be read: every offset is below it.
const OutOfRange = math.MaxInt64 / 2

// State returns a snapshot of all links and mirrors.
func (s *Store) State() *model.State {
	defer s.log.Hold()()
	state := &model.State{
		Links: maps.Clone(s.state.links), Mirrors: map[string]*model.Mirror{},
		Timelines: map[string][]*timeline.Partition{}, Uncreated: map[string][]*timeline.Partition{},
		Recorded: map[string]int64{},
	}
	for topic, r := range s.records.mirrors {
		if s.state.mirrors[topic] == nil {
			view := r.View(topic)
			if view.State == model.MirrorPendingStopped {
				view.Ended, view.EndedAt = s.endedPartitions(topic, r.Partitions)
			}
			s.state.mirrors[topic] = view
			s.state.timelines[topic] = s.timelines(topic, r)
		}
		state.Mirrors[topic] = s.state.mirrors[topic]
		if !r.Created {
			state.Recorded[topic] = s.log.OffsetOf(mirrorKey(topic))
		}
		switch ts := s.state.timelines[topic]; {
		case ts == nil:
		case r.Created:
			state.Timelines[topic] = ts
		default:
			state.Uncreated[topic] = ts
		}
	}
	for _, key := range slices.Sorted(maps.Keys(s.records.broken)) { // link/, mirror/, timeline/
		s.addBroken(state, key, s.records.broken[key])
	}
	return state
}

// endedPartitions returns Mirror.Ended and Mirror.EndedAt. A partition without a timeline that can
// be read counts as ended: no instance copies it.
func (s *Store) endedPartitions(topic string, partitions int32) (ended []bool, at []int64) {
	for p := range partitions {
		if r := s.records.timelines[topic][p]; r == nil || r.Ended != nil {
			if ended == nil {
				ended, at = make([]bool, partitions), slices.Repeat([]int64{-1}, int(partitions))
			}
			if ended[p] = true; r != nil {
				at[p] = r.Ended.Physical
			}
		}
	}
	return ended, at
}

// timelines returns the timelines of a mirror, one per partition. A partition whose timeline is
// missing or broken gets one in which every offset is out of range: klink must not tell an offset
// that it cannot translate. If the topic is not the mirror's any more, there are none.
func (s *Store) timelines(topic string, r *MirrorRecord) []*timeline.Partition {
	if r.TopicGone {
		return nil
	}
	ts := make([]*timeline.Partition, r.Partitions)
	var none *timeline.Partition // shared: a record that klink did not write may have very many
	for p := range ts {
		ts[p] = s.liveTimeline(TimelineAt{topic, int32(p)})
		if ts[p] == nil {
			if none == nil {
				none = timeline.New(0, 0, OutOfRange)
			}
			ts[p] = none
		}
	}
	return ts
}

// addBroken shows a record that cannot be read as FAILED. A mirror stays read-only, and is
// translated as far as its timelines can be read. The same holds for a mirror with a timeline that
// cannot be read.
func (s *Store) addBroken(state *model.State, key string, err error) {
	k, parseErr := parseRecordKey([]byte(key))
	if parseErr != nil {
		return
	}
	const advice = "cannot read a record in " + StateTopic + "; delete the link or topic through klink, or write a valid record to its key: "
	switch k.Kind {
	case kindLink:
		state.Links[k.Name] = &model.Link{
			Name: k.Name, Configs: map[string]string{}, State: model.LinkFailed, Error: model.ErrInternal,
			ErrorMessage: advice + err.Error(),
		}
	case kindMirror:
		m := &model.Mirror{
			Topic: k.Name, SourceTopic: k.Name, State: model.MirrorFailed, Error: model.ErrInternal, ErrorMessage: advice + err.Error(), Created: true,
		}
		state.Mirrors[k.Name] = m
		highest := int32(-1)
		for p := range s.records.timelines[k.Name] {
			highest = max(highest, p)
		}
		if errors.Is(err, errStampFormat) {
			m.Error, m.ErrorMessage = model.ErrStampFormat, errStampFormat.Error()
			state.Timelines[k.Name] = slices.Repeat([]*timeline.Partition{timeline.New(0, 0, OutOfRange)}, int(highest)+1)
			return
		}
		state.Timelines[k.Name] = s.timelines(k.Name, &MirrorRecord{Partitions: highest + 1})
	case kindTimeline, kindCheckpoint:
		m := state.Mirrors[k.Name]
		if m == nil || m.State == model.MirrorStopped || m.State == model.MirrorPendingStopped || m.Error != model.ErrNone {
			return
		}
		failed := *m
		failed.State, failed.Error = model.MirrorFailed, model.ErrInternal
		what := "timeline of partition %d in %s cannot be read, so its offsets are out of range: %s"
		if k.Kind == kindCheckpoint {
			what = "checkpoint of partition %d in %s cannot be read, so klink may not know where to continue; if the partition has records, write a tombstone to the key: %s"
		}
		failed.ErrorMessage = fmt.Sprintf("the "+what, k.Partition, StateTopic, err)
		state.Mirrors[k.Name] = &failed
	}
}
