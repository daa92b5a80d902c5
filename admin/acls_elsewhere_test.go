package admin

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestACLRunsOverlap interleaves two runs, one of which has listed the source's ACLs before the
// other, at every step. When both have ended, klink remembers the ACL that it created, and deletes
// it once the source drops it.
func TestACLRunsOverlap(t *testing.T) {
	for name, step := range map[string]func(t *testing.T, ctx context.Context, old, run *aclRun){
		"before the other one decides": func(t *testing.T, ctx context.Context, old, run *aclRun) {
			require.NoError(t, old.sync(ctx))
			require.NoError(t, run.sync(ctx))
		},
		"while the other one decides": func(t *testing.T, ctx context.Context, old, run *aclRun) {
			require.NoError(t, run.decide(ctx, "run"))
			require.NoError(t, old.s.store.Fence(ctx))
			require.ErrorIs(t, old.decide(ctx, "old"), errACLsMoved, "it has seen another memory")
			run.apply(ctx)
			require.NoError(t, run.settle(ctx, "run"))
		},
		"before the other one creates": func(t *testing.T, ctx context.Context, old, run *aclRun) {
			require.NoError(t, run.decide(ctx, "run"))
			require.NoError(t, old.s.store.Fence(ctx))
			require.NoError(t, old.propose(ctx))
			require.NoError(t, old.decide(ctx, "old"))
			old.apply(ctx)
			require.NoError(t, old.settle(ctx, "old"))
			run.apply(ctx)
			require.NoError(t, run.settle(ctx, "run"))
		},
		"while the other one creates": func(t *testing.T, ctx context.Context, old, run *aclRun) {
			require.NoError(t, run.decide(ctx, "run"))
			require.NoError(t, old.s.store.Fence(ctx))
			require.NoError(t, old.propose(ctx))
			require.NoError(t, old.decide(ctx, "old"))
			old.apply(ctx)
			run.apply(ctx)
			require.NoError(t, old.settle(ctx, "old"))
			require.NoError(t, run.settle(ctx, "run"))
		},
		"when the other one has created": func(t *testing.T, ctx context.Context, old, run *aclRun) {
			require.NoError(t, run.decide(ctx, "run"))
			require.NoError(t, old.s.store.Fence(ctx))
			require.NoError(t, old.propose(ctx))
			require.NoError(t, old.decide(ctx, "old"))
			old.apply(ctx)
			run.apply(ctx)
			require.NoError(t, run.settle(ctx, "run"))
			require.NoError(t, old.settle(ctx, "old"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			w, a := newACLWorld(t)
			ctx, began := context.Background(), time.Now()
			require.Zero(t, w.link("l", aclsOn, seldom, everyACL).ErrorCode)
			a.taskSince("l", began)
			old := a.run(w.startWith(func(s *Service) { s.SetOwner(&fakeOwner{}) }), "l") // the source has none
			a.create(a.src, aliceReads)
			run := a.run(a.service, "l")
			step(t, ctx, old, run)
			a.has(aliceReads)
			a.remembers("l", aliceReads)
			// So klink deletes it once the source drops it.
			a.delete(a.src, aliceReads)
			require.NoError(t, a.run(a.service, "l").sync(ctx))
			a.has()
			a.remembers("l")
		})
	}
}

// TestSyncACLsAtAnotherInstance: people have a link synced by instances that do not own it, while
// the owner's task runs and the source changes all the time. In the end the destination has what
// the source has, plus one ACL that was there before. klink remembers all but that one.
func TestSyncACLsAtAnotherInstance(t *testing.T) {
	w, a := newACLWorld(t)
	owner := &fakeOwner{}
	owner.all.Store(true)
	w.service.SetOwner(owner)
	a.create(a.dst, localsGroup)
	a.create(a.src, localsGroup)
	require.Zero(t, w.link("l", aclsOn, often, everyACL).ErrorCode)
	others := []*aclWorld{}
	for range 2 {
		s := w.startWith(func(s *Service) { s.SetOwner(&fakeOwner{}) })
		others = append(others, &aclWorld{t: t, service: s, src: a.src, dst: a.dst})
	}
	var creations sync.Map
	w.destination.ControlKey(int16(kmsg.CreateACLs), func(req kmsg.Request) (kmsg.Response, error, bool) {
		w.destination.KeepControl()
		for _, c := range req.(*kmsg.CreateACLsRequest).Creations {
			creations.Store(c.Principal, true)
		}
		return nil, nil, false
	})
	name := func(i int) string { return fmt.Sprintf("TOPIC LITERAL t%d User:u%d * READ ALLOW", i, i) }
	ctx, stop := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for _, o := range others {
		all.Go(func() {
			for ctx.Err() == nil {
				if resp := o.sync("l", false); resp.ErrorCode != 0 && text(resp.ErrorMessage) != errACLsMoved.Message {
					t.Error(text(resp.ErrorMessage))
				}
			}
		})
	}
	for round := range 6 {
		for i := range 8 {
			a.create(a.src, name(i))
		}
		time.Sleep(60 * time.Millisecond)
		for i := range 8 {
			if i%2 == round%2 {
				a.delete(a.src, name(i))
			}
		}
		time.Sleep(60 * time.Millisecond)
	}
	stop()
	all.Wait()
	var want []string
	for i := range 8 {
		if i%2 == 0 { // the last round was an odd one
			want = append(want, name(i))
		}
	}
	a.has(append(want, localsGroup)...)
	a.remembers("l", want...)
	if _, ok := creations.Load("User:local"); ok {
		t.Error("what was there before was created again")
	}
	for i := range 8 {
		a.delete(a.src, name(i))
	}
	a.has(localsGroup)
	a.remembers("l")
}
