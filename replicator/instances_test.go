package replicator

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"klink/admin/model"
	"klink/protocol/timeline"
	"klink/replicator/group"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// view is the control plane of one of several instances: the state is shared, the timelines are its
// own.
type view struct {
	*fakeControl
	r *Replicator

	mu    sync.Mutex
	lines map[string][]*timeline.Partition
	fence atomic.Int64 // how often Fence was called

	drained atomic.Value // func(admin.Event, model.Mirror): sees EventMirrorDrained
}

func (v *view) State() *model.State {
	s := v.fakeControl.State()
	v.mu.Lock()
	defer v.mu.Unlock()
	own := &model.State{Links: s.Links, Mirrors: s.Mirrors, Timelines: map[string][]*timeline.Partition{}}
	for topic, lines := range s.Timelines {
		for n := len(v.lines[topic]); n < len(lines); n++ {
			v.lines[topic] = append(v.lines[topic], timeline.Open(0, lines[n].Floor(), lines[n].Floor()))
		}
	}
	maps.Copy(own.Timelines, v.lines)
	return own
}

func (v *view) Fence(context.Context) error { v.fence.Add(1); return nil }

func (v *view) owns(topic string) error {
	if !v.r.OwnsTopic(topic) {
		return model.ErrNotOwner
	}
	return nil
}

func (v *view) SetTimeline(ctx context.Context, topic string, partition int32, physical, logical, floor int64) error {
	if !v.r.OwnsPartition(topic, partition) {
		return model.ErrNotOwner
	}
	v.State().Timelines[topic][partition].Move(physical, logical, floor)
	return v.fakeControl.SetTimeline(ctx, topic, partition, physical, logical, floor)
}

func (v *view) Report(ctx context.Context, ev model.Event) error {
	switch {
	case ev.Topic == "":
	case ev.Kind == model.EventPartitionsEnded, ev.Kind == model.EventMirrorFailed && ev.Partition >= 0:
		if !v.r.OwnsPartition(ev.Topic, ev.Partition) {
			return model.ErrNotOwner
		}
	default:
		if err := v.owns(ev.Topic); err != nil {
			return err
		}
	}
	if see, ok := v.drained.Load().(func(model.Event, model.Mirror)); ok && ev.Kind == model.EventMirrorDrained {
		see(ev, v.mirror(ev.Topic))
	}
	return v.fakeControl.Report(ctx, ev)
}

// instance is one of several replicators on a destination.
type instance struct {
	name string
	r    *Replicator
	view *view
	stop func()
}

func (w *world) instance(name string, session time.Duration, change ...func(*Group)) *instance {
	w.t.Helper()
	i := &instance{name: name, view: &view{fakeControl: w.control, lines: map[string][]*timeline.Partition{}}}
	cfg := w.cfg
	cfg.Control = i.view
	cfg.Logger = cfg.Logger.With("instance", name)
	cfg.Group = &Group{SessionTimeout: session, Instance: func() string { return name }}
	for _, c := range change {
		c(cfg.Group)
	}
	r, err := New(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	r.grace = w.grace
	i.r, i.view.r = r, r
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	i.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Error(err)
		}
	})
	w.t.Cleanup(i.stop)
	return i
}

// awaitShared waits until the slots are shared evenly by all of these.
func (w *world) awaitShared(all ...*instance) {
	w.t.Helper()
	w.await("the slots to be shared", func() (bool, string) {
		var sum group.SlotSet
		detail, even := "", true
		for _, i := range all {
			working, leaving := i.r.owner.holding()
			even = even && leaving == 0 && sum&working == 0 && working.Len() >= group.Slots/len(all)
			sum |= working
			detail += fmt.Sprintf("%s %b %b; ", i.name, working, leaving)
		}
		return even && sum == group.AllSlots, detail
	})
}

// awaitMirrored waits until somebody has mirrored all of a topic.
func (w *world) awaitMirrored(topic string, all ...*instance) {
	w.t.Helper()
	ends, err := kadm.NewClient(w.src.cl).ListEndOffsets(w.t.Context(), topic)
	if err != nil {
		w.t.Fatal(err)
	}
	w.await(topic+" to catch up", func() (bool, string) {
		for _, i := range all {
			if !i.r.OwnsTopic(topic) {
				continue
			}
			st := i.r.Status(topic)
			ok := len(st) > 0
			ends.Each(func(o kadm.ListedOffset) {
				ok = ok && int(o.Partition) < len(st) && st[o.Partition].MirrorEnd == o.Offset
			})
			return ok, fmt.Sprintf("%s: %+v", i.name, st)
		}
		return false, "nobody owns it"
	})
}

// groupCut cuts an instance off from the group at a destination, while its appends still come
// through.
type groupCut struct {
	mu   sync.Mutex
	name string
	left []string // the members that have left by themselves
}

func (c *groupCut) set(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.name = name
}

func (c *groupCut) install(t *testing.T, dst *kfake.Cluster) {
	for _, key := range []kmsg.Key{kmsg.Heartbeat, kmsg.JoinGroup, kmsg.SyncGroup} {
		dst.ControlKey(int16(key), func(req kmsg.Request) (kmsg.Response, error, bool) {
			dst.KeepControl()
			id := ""
			switch r := req.(type) {
			case *kmsg.HeartbeatRequest:
				id = r.MemberID
			case *kmsg.JoinGroupRequest:
				id = r.MemberID
			case *kmsg.SyncGroupRequest:
				id = r.MemberID
			}
			c.mu.Lock()
			defer c.mu.Unlock()
			if c.name != "" && len(id) > len(clientPrefix+c.name) && id[:len(clientPrefix+c.name)] == clientPrefix+c.name {
				return nil, fmt.Errorf("cut off"), true
			}
			return nil, nil, false
		})
	}
	dst.ControlKey(int16(kmsg.LeaveGroup), func(req kmsg.Request) (kmsg.Response, error, bool) {
		dst.KeepControl()
		r := req.(*kmsg.LeaveGroupRequest)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.left = append(c.left, r.MemberID)
		for _, m := range r.Members {
			c.left = append(c.left, m.MemberID)
		}
		return nil, nil, false
	})
	t.Cleanup(func() { c.set("") })
}

// hasLeft reports whether an instance has left the group, which then need not wait for its
// time-out.
func (c *groupCut) hasLeft(name string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.ContainsFunc(c.left, func(id string) bool { return strings.HasPrefix(id, clientPrefix+name) })
}

// TestOneWriterOfSeveralInstances: instances come and go, and one that the group no longer hears
// from can still append. At most one of them appends to a partition at a time, one batch at a time,
// and nothing is lost or doubled.
func TestOneWriterOfSeveralInstances(t *testing.T) {
	w, _, dst := embedded(t, kfake.GroupMinSessionTimeout(100*time.Millisecond))
	topics := []string{"orders", "payments", "clicks", "stock"}
	for _, topic := range topics {
		w.topics(topic, 2)
		w.mirror(topic)
	}
	o := &onTheirWay{now: map[string]int{}}
	dst.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		dst.KeepControl()
		if pr := req.(*kmsg.ProduceRequest); len(pr.Topics) > 0 && pr.Topics[0].Topic != group.TasksTopic {
			o.move(pr, 1)
			dst.SleepControl(func() { time.Sleep(30 * time.Millisecond) })
			o.move(pr, -1)
		}
		return nil, nil, false
	})
	cut := &groupCut{}
	cut.install(t, dst)
	const session = 2400 * time.Millisecond
	feed := func(n int) {
		for range n {
			for _, topic := range topics {
				for p := range int32(2) {
					w.produce(topic, p, 3, 20)
				}
			}
		}
	}
	one := w.instance("one", session)
	w.awaitShared(one)
	feed(3)
	two := w.instance("two", session)
	feed(3)
	w.awaitShared(one, two)
	three := w.instance("three", session)
	feed(3)
	w.awaitShared(one, two, three)
	for _, i := range []*instance{one, two, three} {
		if i.view.fence.Load() == 0 {
			t.Errorf("%s works on slots that were not fenced", i.name)
		}
	}
	feed(3)
	two.stop() // an instance that is stopped leaves at once
	w.awaitShared(one, three)
	if !cut.hasLeft("two") {
		t.Error("an instance that was stopped has not left the group")
	}
	feed(3)
	cut.set("one")
	w.await("the instance that is cut off to stop", func() (bool, string) {
		feed(1)
		working, _ := one.r.owner.holding()
		return working == 0, fmt.Sprintf("%b", working)
	})
	if working, _ := three.r.owner.holding(); working == group.AllSlots {
		t.Error("the other one has begun before")
	}
	w.awaitShared(three)
	feed(3)
	cut.set("")
	w.awaitShared(one, three)
	feed(3)
	for _, topic := range topics {
		w.awaitMirrored(topic, one, three)
		w.same(topic)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.most != 1 || o.passed < 50 {
		t.Errorf("up to %d of %d appends of one partition were on their way at once, want 1 of 50 or more", o.most, o.passed)
	}
	if void := w.void("orders"); void != "" {
		t.Errorf("appended twice: %s", void)
	}
}
