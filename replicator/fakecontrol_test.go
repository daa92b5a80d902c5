package replicator

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"klink/admin"
	"klink/protocol/timeline"
)

// fakeControl is a control plane in memory with the transitions that the replicator relies on.
type fakeControl struct {
	mu          sync.Mutex
	state       *admin.State
	subs        map[chan struct{}]bool
	events      []admin.Event
	sets        []string // SetTimeline calls
	shifts      []string // SetAlignment calls
	checkpoints map[string]admin.Checkpoint
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
		state:       &admin.State{Links: map[string]*admin.Link{}, Mirrors: map[string]*admin.Mirror{}, Timelines: map[string][]*timeline.Partition{}},
		subs:        map[chan struct{}]bool{},
		checkpoints: map[string]admin.Checkpoint{},
	}
}

func (c *fakeControl) State() *admin.State {
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
func (c *fakeControl) change(f func(*admin.State)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.changeLocked(f)
}

func (c *fakeControl) changeLocked(f func(*admin.State)) {
	next := &admin.State{Links: maps.Clone(c.state.Links), Mirrors: maps.Clone(c.state.Mirrors), Timelines: maps.Clone(c.state.Timelines)}
	f(next)
	c.state = next
	for ch := range c.subs {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}

func (c *fakeControl) setMirror(topic string, f func(*admin.Mirror)) {
	c.change(func(s *admin.State) {
		m := *s.Mirrors[topic]
		f(&m)
		m.StateTime = time.Now()
		s.Mirrors[topic] = &m
	})
}

func (c *fakeControl) setState(topic string, state admin.MirrorState) {
	c.setMirror(topic, func(m *admin.Mirror) { m.State, m.Error, m.ErrorMessage = state, "", "" })
}

// promote begins a promotion.
func (c *fakeControl) promote(topic, id string) {
	c.setMirror(topic, func(m *admin.Mirror) { m.Promotion, m.PromotionDeadline = id, time.Now().Add(time.Hour) })
}

func (c *fakeControl) mirror(topic string) admin.Mirror {
	if m := c.State().Mirrors[topic]; m != nil {
		return *m
	}
	return admin.Mirror{}
}

func (c *fakeControl) Report(_ context.Context, ev admin.Event) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.events = append(c.events, ev)
	c.changeLocked(func(s *admin.State) {
		switch ev.Kind {
		case admin.EventLinkUp, admin.EventLinkDown:
			l := *s.Links[ev.Link]
			l.State, l.Error, l.ErrorMessage = admin.LinkActive, "", ""
			if ev.Kind == admin.EventLinkDown {
				l.State, l.Error, l.ErrorMessage = admin.LinkUnavailable, ev.Error, ev.Message
			} else if l.SourceClusterID == "" {
				l.SourceClusterID = ev.SourceClusterID
			} else if l.SourceClusterID != ev.SourceClusterID {
				l.State = admin.LinkFailed
			}
			s.Links[ev.Link] = &l
			return
		}
		m := *s.Mirrors[ev.Topic]
		if ev.Kind == admin.EventMirrorVoid {
			v := ev.Void
			m.Void = slices.DeleteFunc(slices.Clone(m.Void), func(known admin.VoidBatches) bool {
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
		case admin.EventMirrorStarted, admin.EventMirrorRecovered, admin.EventMirrorUnavailable:
			if m.State != admin.MirrorPending && m.State != admin.MirrorActive && m.State != admin.MirrorSourceUnavailable {
				return // late: it was paused or stopped since
			}
		}
		if ev.Kind == admin.EventMirrorCaughtUp && (m.State != admin.MirrorActive || m.Promotion != ev.Promotion) {
			return
		}
		if ev.Kind == admin.EventPartitionsEnded {
			if m.State != admin.MirrorPendingStopped {
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
		case admin.EventMirrorCaughtUp:
			m.State, m.Promotion = admin.MirrorPendingStopped, ""
		case admin.EventMirrorStarted, admin.EventMirrorRecovered:
			m.State = admin.MirrorActive
		case admin.EventMirrorUnavailable:
			m.State = admin.MirrorSourceUnavailable
		case admin.EventMirrorFailed:
			m.State = admin.MirrorFailed
		case admin.EventMirrorDrained:
			m.State = admin.MirrorStopped
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

func (c *fakeControl) Checkpoint(ctx context.Context, cs []admin.Checkpoint) error {
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

func (c *fakeControl) LastCheckpoint(topic string, partition int32) (admin.Checkpoint, bool) {
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

func (c *fakeControl) GrowMirror(_ context.Context, topic string, starts []admin.Start) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	have := len(c.state.Timelines[topic])
	if starts[0].Partition != int32(have) {
		return fmt.Errorf("partition %d cannot follow %d partitions", starts[0].Partition, have)
	}
	if err := c.create(topic, int32(have+len(starts))); err != nil {
		return err
	}
	c.changeLocked(func(s *admin.State) {
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
func (c *fakeControl) count(kind admin.EventKind, topic string) (n int) {
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
func (c *fakeControl) seen(kind admin.EventKind, name string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, ev := range c.events {
		if ev.Kind == kind && (ev.Topic == name || ev.Topic == "" && ev.Link == name) {
			return true
		}
	}
	return false
}
