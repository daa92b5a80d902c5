package admin

import (
	"fmt"
	"maps"
	"math"
	"slices"

	"klink/protocol/timeline"
)

// stateCache keeps the immutable views that pictures of the state are made of, so that a change costs a new view of what
// changed and not of everything.
type stateCache struct {
	links     map[string]*Link
	mirrors   map[string]*Mirror
	timelines map[string][]*timeline.Partition
}

func newStateCache() stateCache {
	return stateCache{links: map[string]*Link{}, mirrors: map[string]*Mirror{}, timelines: map[string][]*timeline.Partition{}}
}

// forget drops what was made of the records of a topic.
func (c *stateCache) forget(topic string) {
	delete(c.mirrors, topic)
	delete(c.timelines, topic)
}

// outOfRange is the floor of a partition that must not be read: every offset is below it.
const outOfRange = math.MaxInt64 / 2

// State is a picture of all links and mirrors.
func (s *Store) State() *State {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	state := &State{
		Links: maps.Clone(s.state.links), Mirrors: map[string]*Mirror{},
		Timelines: map[string][]*timeline.Partition{}, uncreated: map[string][]*timeline.Partition{},
	}
	for topic, r := range s.records.mirrors {
		if s.state.mirrors[topic] == nil {
			s.state.mirrors[topic] = r.view(topic)
			s.state.timelines[topic] = s.timelines(topic, r)
		}
		state.Mirrors[topic] = s.state.mirrors[topic]
		switch ts := s.state.timelines[topic]; {
		case ts == nil:
		case r.Created:
			state.Timelines[topic] = ts
		default:
			state.uncreated[topic] = ts
		}
	}
	for _, key := range slices.Sorted(maps.Keys(s.records.broken)) { // link/, mirror/, timeline/
		s.addBroken(state, key, s.records.broken[key])
	}
	return state
}

// timelines are the timelines of a mirror, one per partition. A partition whose timeline is missing or broken gets one in
// which every offset is out of range: offsets that cannot be translated must not be told. A topic that is not the mirror
// any more has none.
func (s *Store) timelines(topic string, r *mirrorRecord) []*timeline.Partition {
	if r.TopicGone {
		return nil
	}
	ts := make([]*timeline.Partition, r.Partitions)
	for p := range ts {
		ts[p] = s.liveTimeline(timelineAt{topic, int32(p)})
		if ts[p] == nil {
			ts[p] = timeline.New(0, 0, outOfRange)
		}
	}
	return ts
}

// addBroken shows what cannot be read as FAILED. A mirror stays read-only, and is translated as far as its timelines can be
// read; so does one of which a timeline cannot be read.
func (s *Store) addBroken(state *State, key string, err error) {
	k, parseErr := parseRecordKey([]byte(key))
	if parseErr != nil {
		return
	}
	const advice = "the record in " + StateTopic + " cannot be read: "
	switch k.Kind {
	case kindLink:
		state.Links[k.Name] = &Link{
			Name: k.Name, Configs: map[string]string{}, State: LinkFailed, Error: ErrInternal,
			ErrorMessage: advice + err.Error(),
		}
	case kindMirror:
		state.Mirrors[k.Name] = &Mirror{
			Topic: k.Name, SourceTopic: k.Name, State: MirrorFailed, Error: ErrInternal, ErrorMessage: advice + err.Error(), Created: true,
		}
		highest := int32(-1)
		for p := range s.records.timelines[k.Name] {
			highest = max(highest, p)
		}
		state.Timelines[k.Name] = s.timelines(k.Name, &mirrorRecord{Partitions: highest + 1})
	case kindTimeline:
		m := state.Mirrors[k.Name]
		if m == nil || m.State == MirrorStopped || m.State == MirrorPendingStopped || m.Error != ErrNone {
			return
		}
		failed := *m
		failed.State, failed.Error = MirrorFailed, ErrInternal
		failed.ErrorMessage = fmt.Sprintf("the timeline of partition %d in %s cannot be read, so its offsets are out of range: %s", k.Partition, StateTopic, err)
		state.Mirrors[k.Name] = &failed
	}
}
