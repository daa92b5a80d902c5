package admin

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"klink/admin/model"
	"klink/protocol/linkapi"

	"github.com/stretchr/testify/require"
)

// fakeOwner owns everything or nothing.
type fakeOwner struct{ all atomic.Bool }

func (o *fakeOwner) OwnsTopic(string) bool { return o.all.Load() }
func (o *fakeOwner) OwnsLink(string) bool  { return o.all.Load() }

func (o *fakeOwner) OwnsPartition(string, int32) bool { return o.all.Load() }

// TestOnlyAnOwnerTells: klink refuses from any other instance what only the owner of a mirror or
// link may say, and nothing changes. It does accept the checkpoint of a former owner.
func TestOnlyAnOwnerTells(t *testing.T) {
	w := newWorld(t)
	owner := &fakeOwner{}
	owner.all.Store(true)
	w.service.SetOwner(owner)
	w.sourceTopic("orders", 1, nil)
	require.Zero(t, w.link("east").ErrorCode)
	require.Zero(t, w.mirror("orders", "east").ErrorCode)
	ctx := context.Background()
	stop := w.alterAsync("orders", linkapi.MirrorFailover)
	awaitState(t, w.service, "PENDING_STOPPED", func(s *model.State) bool { return s.Mirrors["orders"].State == model.MirrorPendingStopped })
	owner.all.Store(false)
	s := w.service
	for what, err := range map[string]error{
		"link down": s.Report(ctx, model.Event{Kind: model.EventLinkDown, Link: "east", Error: model.ErrTimeout}),
		"failed":    s.Report(ctx, model.Event{Kind: model.EventMirrorFailed, Topic: "orders", Error: model.ErrForeignWrite}),
		"drained":   s.Report(ctx, endedSomewhere(s, model.Event{Kind: model.EventMirrorDrained, Topic: "orders"})),
		"start":     s.SetTimeline(ctx, "orders", 0, 0, 7, 7),
		"alignment": s.SetAlignment(ctx, "orders", 0, 5, "because"),
	} {
		require.ErrorIs(t, err, model.ErrNotOwner, what)
	}
	require.NoError(t, s.Checkpoint(ctx, []model.Checkpoint{{Topic: "orders", Physical: 4, Logical: 4}}))
	c, ok := s.LastCheckpoint("orders", 0)
	require.True(t, ok && c.Physical == 4)
	state := s.State()
	require.Equal(t, model.LinkActive, state.Links["east"].State)
	require.Equal(t, model.MirrorPendingStopped, state.Mirrors["orders"].State)
	require.Zero(t, state.Timelines["orders"][0].Floor())
	owner.all.Store(true)
	require.NoError(t, s.Report(ctx, endedSomewhere(s, model.Event{Kind: model.EventMirrorDrained, Topic: "orders"})))
	require.Zero(t, (<-stop).ErrorCode)
}

// alterAsync is alter in a goroutine.
func (w *world) alterAsync(topic string, op int8) <-chan linkapi.AlteredMirror {
	done := make(chan linkapi.AlteredMirror, 1)
	go func() { done <- w.alter(topic, op) }()
	return done
}

// TestServicesCreateTogether: while one service creates mirrors, the reconciler of another one
// finds them recorded but not created, and creates them too. Each mirror is created once, and none
// fails.
func TestServicesCreateTogether(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.ReconcileInterval = 5 * time.Millisecond })
	other := w.start(func(c *Config) { c.ReconcileInterval = 5 * time.Millisecond })
	require.Zero(t, w.link("east").ErrorCode)
	awaitState(t, other, "the link", func(s *model.State) bool { return s.Links["east"] != nil })
	var work sync.WaitGroup
	for i := range 20 {
		topic := fmt.Sprint("orders-", i)
		w.sourceTopic(topic, 2, nil)
		for _, s := range []*Service{w.service, other} {
			if i%2 == 0 && s == other { // for odd i both instances are asked
				continue
			}
			work.Go(func() {
				req := &linkapi.CreateMirrorsRequest{Mirrors: []linkapi.CreateMirror{{Topic: topic, Link: "east", NumPartitions: -1, ReplicationFactor: -1}}}
				r := s.HandleLink(context.Background(), req).(*linkapi.CreateMirrorsResponse).Results[0]
				if r.ErrorCode != 0 && i%2 == 0 {
					t.Errorf("%s: %s", topic, text(r.ErrorMessage))
				}
			})
		}
	}
	work.Wait()
	for _, s := range []*Service{w.service, other} {
		awaitState(t, s, "all mirrors", func(st *model.State) bool {
			n := 0
			for _, m := range st.Mirrors {
				if m.Created && m.State == model.MirrorPending {
					n++
				}
			}
			return n == 20
		})
	}
}

// linkOwner owns one link, and may own everything.
type linkOwner struct {
	fakeOwner
	link string
}

func (o *linkOwner) OwnsLink(link string) bool { return link == o.link || o.all.Load() }

// TestTasksRunAtTheOwner: the tasks of a link run where it is owned, and only there.
func TestTasksRunAtTheOwner(t *testing.T) {
	w := newWorld(t)
	owner := &linkOwner{link: "beside"}
	w.service.SetOwner(owner)
	require.Zero(t, w.link("east", "topic.config.sync.ms=100").ErrorCode)
	ran := func() bool { return !w.service.TasksOf("east")[0].LastRun.IsZero() }
	more := w.besides()
	more()
	w.service.tasks.mu.Lock() // TasksOf shows nothing of a link that is owned elsewhere
	status := w.service.tasks.status[w.service.State().Links["east"].ID]
	w.service.tasks.mu.Unlock()
	require.Empty(t, status, "a task has run without an owner")
	owner.all.Store(true)
	w.service.OwnerChanged()
	for deadline := time.Now().Add(20 * time.Second); !ran(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("no task has run")
		}
	}
	owner.all.Store(false)
	w.service.OwnerChanged()
	if errors.Is(w.service.CatchUp(context.Background()), context.Canceled) || ran() {
		t.Fatal("what a task did is shown as if it were known")
	}
}
