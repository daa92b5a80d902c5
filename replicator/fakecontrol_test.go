package replicator

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"klink/admin/model"
	"klink/protocol/timeline"
)

// fakeControl is a control plane in memory with the transitions that the replicator relies on.
type fakeControl struct {
	mu          sync.Mutex
	state       *model.State
	subs        map[chan struct{}]bool
	events      []model.Event
	sets        []string // SetTimeline calls
	shifts      []string // SetAlignment calls
	checkpoints map[string]model.Checkpoint
	// hold blocks SetTimeline while it is not nil.
	hold chan struct{}
	// holdCheckpoints blocks Checkpoint while it is not nil, after it has taken a value from it.
	holdCheckpoints chan chan struct{}
	// follow implements FollowConfigs; nil = the configs are right.
	follow func(topic string) (right bool, err error)
	looks  atomic.Int64 // FollowConfigs calls
	// create makes the partitions that GrowMirror adds.
	create func(topic string, partitions int32) error
}

func newFakeControl() *fakeControl {
	return &fakeControl{
		state:       &model.State{Links: map[string]*model.Link{}, Mirrors: map[string]*model.Mirror{}, Timelines: map[string][]*timeline.Partition{}},
		subs:        map[chan struct{}]bool{},
		checkpoints: map[string]model.Checkpoint{},
	}
}

func (c *fakeControl) State() *model.State {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state
}

func (c *fakeControl) Subscribe() (<-chan struct{}, func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ch := make(chan struct{}, 1)
	c.subs[ch] = true
	return ch, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.subs, ch)
	}
}

// change publishes a changed copy of the state.
func (c *fakeControl) change(f func(*model.State)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.changeLocked(f)
}

func (c *fakeControl) changeLocked(f func(*model.State)) {
	next := &model.State{Links: maps.Clone(c.state.Links), Mirrors: maps.Clone(c.state.Mirrors), Timelines: maps.Clone(c.state.Timelines)}
	f(next)
	c.state = next
	for ch := range c.subs {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}

func (c *fakeControl) setMirror(topic string, f func(*model.Mirror)) {
	c.change(func(s *model.State) {
		m := *s.Mirrors[topic]
		f(&m)
		m.StateTime = time.Now()
		s.Mirrors[topic] = &m
	})
}

func (c *fakeControl) setState(topic string, state model.MirrorState) {
	c.setMirror(topic, func(m *model.Mirror) { m.State, m.Error, m.ErrorMessage = state, "", "" })
}

// promote begins a promotion.
func (c *fakeControl) promote(topic, id string) {
	c.setMirror(topic, func(m *model.Mirror) { m.Promotion, m.PromotionDeadline = id, time.Now().Add(time.Hour) })
}

func (c *fakeControl) mirror(topic string) model.Mirror {
	if m := c.State().Mirrors[topic]; m != nil {
		return *m
	}
	return model.Mirror{}
}

func (c *fakeControl) Report(_ context.Context, ev model.Event) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.events = append(c.events, ev)
	c.changeLocked(func(s *model.State) {
		switch ev.Kind {
		case model.EventLinkUp, model.EventLinkDown:
			l := *s.Links[ev.Link]
			l.State, l.Error, l.ErrorMessage = model.LinkActive, "", ""
			if ev.Kind == model.EventLinkDown {
				l.State, l.Error, l.ErrorMessage = model.LinkUnavailable, ev.Error, ev.Message
			} else if l.SourceClusterID == "" {
				l.SourceClusterID = ev.SourceClusterID
			} else if l.SourceClusterID != ev.SourceClusterID {
				l.State = model.LinkFailed
			}
			s.Links[ev.Link] = &l
			return
		}
		m := *s.Mirrors[ev.Topic]
		if ev.Kind == model.EventMirrorVoid {
			v := ev.Void
			m.Void = slices.DeleteFunc(slices.Clone(m.Void), func(known model.VoidBatches) bool {
				if known.Partition == v.Partition {
					v.From, v.To = min(v.From, known.From), max(v.To, known.To)
				}
				return known.Partition == v.Partition
			})
			m.Void = append(m.Void, v)
			s.Mirrors[ev.Topic] = &m
			return
		}
		switch ev.Kind {
		case model.EventMirrorStarted, model.EventMirrorRecovered, model.EventMirrorUnavailable:
			if m.State != model.MirrorPending && m.State != model.MirrorActive && m.State != model.MirrorSourceUnavailable {
				return // late: it was paused or stopped since
			}
		}
		if ev.Kind == model.EventMirrorCaughtUp && (m.State != model.MirrorActive || m.Promotion != ev.Promotion) {
			return
		}
		if ev.Kind == model.EventPartitionsEnded {
			if m.State != model.MirrorPendingStopped {
				return
			}
			ended := make([]bool, m.Partitions)
			copy(ended, m.Ended)
			for _, e := range ev.Ended {
				ended[e.Partition] = true
			}
			m.Ended = ended
			s.Mirrors[ev.Topic] = &m
			return
		}
		m.Error, m.ErrorMessage = ev.Error, ev.Message
		switch ev.Kind {
		case model.EventMirrorCaughtUp:
			m.State, m.Promotion = model.MirrorPendingStopped, ""
		case model.EventMirrorStarted, model.EventMirrorRecovered:
			m.State = model.MirrorActive
		case model.EventMirrorUnavailable:
			m.State = model.MirrorSourceUnavailable
		case model.EventMirrorFailed:
			m.State = model.MirrorFailed
		case model.EventMirrorDrained:
			m.State = model.MirrorStopped
		}
		s.Mirrors[ev.Topic] = &m
	})
	return nil
}

// Fence has nothing to do: nothing else writes.
func (c *fakeControl) Fence(ctx context.Context) error { return ctx.Err() }

// GroupKey is the same for all instances of a test.
func (c *fakeControl) GroupKey(ctx context.Context) ([]byte, error) {
	return []byte("the key of all instances"), ctx.Err()
}

func (c *fakeControl) SetTimeline(ctx context.Context, topic string, partition int32, physical, logical, floor int64) error {
	c.mu.Lock()
	hold := c.hold
	c.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sets = append(c.sets, fmt.Sprintf("%s-%d %d=%d floor %d", topic, partition, physical, logical, floor))
	c.state.Timelines[topic][partition].Move(physical, logical, floor)
	return nil
}

func (c *fakeControl) SetAlignment(_ context.Context, topic string, partition int32, began int64, reason string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.shifts = append(c.shifts, fmt.Sprintf("%s-%d from %d: %s", topic, partition, began, reason))
	return nil
}

func (c *fakeControl) Checkpoint(ctx context.Context, cs []model.Checkpoint) error {
	c.mu.Lock()
	hold := c.holdCheckpoints
	c.mu.Unlock()
	if hold != nil {
		goOn := make(chan struct{})
		select {
		case hold <- goOn:
		case <-ctx.Done():
			return ctx.Err()
		}
		select {
		case <-goOn:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, k := range cs {
		c.checkpoints[fmt.Sprintf("%s-%d", k.Topic, k.Partition)] = k
	}
	return nil
}

func (c *fakeControl) LastCheckpoint(topic string, partition int32) (model.Checkpoint, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k, ok := c.checkpoints[fmt.Sprintf("%s-%d", topic, partition)]
	return k, ok
}

func (c *fakeControl) FollowConfigs(_ context.Context, topic string) (bool, error) {
	c.looks.Add(1)
	if c.follow == nil {
		return true, nil
	}
	return c.follow(topic)
}

func (c *fakeControl) GrowMirror(_ context.Context, topic string, starts []model.Start) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	have := len(c.state.Timelines[topic])
	if starts[0].Partition != int32(have) {
		return fmt.Errorf("partition %d cannot follow %d partitions", starts[0].Partition, have)
	}
	if err := c.create(topic, int32(have+len(starts))); err != nil {
		return err
	}
	c.changeLocked(func(s *model.State) {
		tls := append([]*timeline.Partition(nil), s.Timelines[topic]...)
		for _, st := range starts {
			tls = append(tls, timeline.New(0, st.Logical, st.Floor))
		}
		s.Timelines[topic] = tls
		m := *s.Mirrors[topic]
		m.Partitions = int32(len(tls))
		s.Mirrors[topic] = &m
	})
	return nil
}

// count returns how many events of this kind were reported for a topic.
func (c *fakeControl) count(kind model.EventKind, topic string) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, ev := range c.events {
		if ev.Kind == kind && ev.Topic == topic {
			n++
		}
	}
	return n
}

// seen reports whether an event of this kind was reported for a topic or link.
func (c *fakeControl) seen(kind model.EventKind, name string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, ev := range c.events {
		if ev.Kind == kind && (ev.Topic == name || ev.Topic == "" && ev.Link == name) {
			return true
		}
	}
	return false
}
