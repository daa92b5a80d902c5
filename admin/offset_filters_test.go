package admin

import (
	"context"
	"sync"
	"testing"
	"time"

	"klink/admin/filter"
	"klink/admin/groups"
	"klink/admin/linkconfig"
	"klink/admin/model"
	"klink/admin/offsets"
	"klink/admin/store"
	"klink/protocol/linkapi"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// twoInstances is an offsetWorld whose service owns everything, and another service, which owns
// nothing.
func twoInstances(t *testing.T, more ...string) (w *world, owner *fakeOwner, other *Service) {
	w = offsetWorld(t, more...)
	owner = &fakeOwner{}
	owner.all.Store(true)
	w.service.SetOwner(owner)
	other = w.startWith(func(s *Service) { s.SetOwner(&fakeOwner{}) })
	other.SetReporter(w.reporter)
	return w, owner, other
}

func migrateAt(s *Service, group string, timeout time.Duration) linkapi.MigratedGroup {
	req := &linkapi.MigrateGroupsRequest{TimeoutMs: int32(timeout.Milliseconds()), Groups: []linkapi.MigrateGroup{{Group: group, Link: "l"}}}
	return s.HandleLink(context.Background(), req).(*linkapi.MigrateGroupsResponse).Results[0]
}

// held makes the destination hold back commits of one offset until the test releases them.
type held struct {
	arrived, release chan struct{}
}

func (w *world) holdCommit(at int64) *held {
	h := &held{make(chan struct{}), make(chan struct{})}
	var once sync.Once
	w.destination.ControlKey(int16(kmsg.OffsetCommit), func(req kmsg.Request) (kmsg.Response, error, bool) {
		w.destination.KeepControl()
		for _, t := range req.(*kmsg.OffsetCommitRequest).Topics {
			for _, p := range t.Partitions {
				if p.Offset == at {
					once.Do(func() { close(h.arrived) })
					w.destination.SleepControl(func() { <-h.release })
				}
			}
		}
		return nil, nil, false
	})
	return h
}

// TestMigrateAtAnotherInstance: a group is moved through one instance while another one runs the
// sync of the link and has a commit of an older offset for the group in flight. The command does
// not answer before that commit has its answer and the command has corrected it. After that klink
// leaves the group to the destination.
func TestMigrateAtAnotherInstance(t *testing.T) {
	for name, at := range map[string]func(w *world, other *Service) *Service{
		"at another one":      func(_ *world, other *Service) *Service { return other },
		"at the one that has": func(w *world, _ *Service) *Service { return w.service },
	} {
		t.Run(name, func(t *testing.T) {
			w, _, other := twoInstances(t)
			s := at(w, other)
			w.atSource("g", "orders", "", 20)
			w.awaitOffset("g", "orders", 0, 20)
			h := w.holdCommit(90)
			release := sync.OnceFunc(func() { close(h.release) })
			defer release()
			w.atSource("g", "orders", "", 90)
			<-h.arrived // the owner has decided
			w.atSource("g", "orders", "", 100)
			answer := make(chan linkapi.MigratedGroup, 1)
			go func() { answer <- migrateAt(s, "g", 20*time.Second) }()
			if s == other {
				w.awaitOffset("g", "orders", 0, 100) // carried over, and still not safe
				awaitState(t, other, "the exclusion", func(st *model.State) bool {
					filters, err := filter.ParseGroups(st.Links["l"].Configs[linkconfig.ConfigGroupFilters])
					return err == nil && excludes(filters, "g")
				})
			}
			select {
			case r := <-answer:
				t.Fatalf("answered while an older commit is on its way: %+v %s", r, text(r.ErrorMessage))
			case <-time.After(300 * time.Millisecond):
			}
			release()
			r := <-answer
			require.Zero(t, r.ErrorCode, text(r.ErrorMessage))
			require.EqualValues(t, 100, w.committed("g", "orders", 0).At)
			require.EqualValues(t, 100, r.Partitions[0].DestinationOffset)

			// The group goes on at the destination, and offsets at the source no longer matter.
			w.commit("g", "orders", "", 30)
			w.atSource("g", "orders", "", 95)
			w.service.offsetTask(t, "l")
			require.EqualValues(t, 30, w.committed("g", "orders", 0).At)
		})
	}
}

// TestMigrateWithoutAnOwner: the command does not report that a group has moved before the owner of
// the link has confirmed that its sync knows of it.
func TestMigrateWithoutAnOwner(t *testing.T) {
	w, owner, other := twoInstances(t)
	w.atSource("g", "orders", "", 20)
	w.awaitOffset("g", "orders", 0, 20)
	owner.all.Store(false)
	w.service.OwnerChanged()
	w.atSource("g", "orders", "", 40)
	r := migrateAt(other, "g", time.Second)
	require.Equal(t, kerr.RequestTimedOut.Code, r.ErrorCode)
	require.Contains(t, text(r.ErrorMessage), "its consumers must not start yet")
	owner.all.Store(true)
	w.service.OwnerChanged()
	r = migrateAt(other, "g", 20*time.Second)
	require.Zero(t, r.ErrorCode, text(r.ErrorMessage))
	require.EqualValues(t, 40, w.committed("g", "orders", 0).At)
}

// TestAnnounceFilters: only the owner announces filters, and only the current ones. Storing the
// memory of offsets does not change the announcement, and only the owner stores that memory.
func TestAnnounceFilters(t *testing.T) {
	w, owner, other := twoInstances(t, "consumer.offset.sync.ms=3600000")
	ctx := t.Context()
	announced := func() string {
		require.NoError(t, w.service.store.Sync(ctx))
		l := w.service.State().Links["l"]
		if r := w.service.store.Offsets("l", l.ID); r != nil {
			return r.Filters
		}
		return ""
	}
	first := w.service.State().Links["l"]
	require.Eventually(t, func() bool { return announced() == syncedFilters(first.Configs) }, 10*time.Second, 10*time.Millisecond)

	a := &aclWorld{t: t, service: w.service}
	a.set("l", `consumer.offset.group.filters={"groupFilters":[{"name":"other","patternType":"LITERAL","filterType":"INCLUDE"}]}`)
	second := w.service.State().Links["l"]
	require.NotEqual(t, syncedFilters(first.Configs), syncedFilters(second.Configs))
	require.ErrorIs(t, w.service.announceFilters(ctx, first), errFiltersChanged)
	require.ErrorIs(t, other.announceFilters(ctx, second), errFiltersChanged)
	require.Eventually(t, func() bool { return announced() == syncedFilters(second.Configs) }, 10*time.Second, 10*time.Millisecond)

	for s, want := range map[*Service]int{w.service: 1, other: 0} {
		m := offsets.NewMemory(nil)
		m.Keep("g", map[offsets.Partition]offsets.Seen{{Topic: "orders", Partition: 0}: {Source: 5, Wrote: 5}}, false)
		require.NoError(t, s.saveOffsets(ctx, second, m))
		require.Equal(t, syncedFilters(second.Configs), announced())
		require.Len(t, w.service.store.Offsets("l", second.ID).Prints(), want)
		require.NoError(t, w.service.update(ctx, func(tx *store.Tx) error {
			r := *tx.Offsets("l", second.ID)
			r.Groups = nil
			return tx.PutOffsets("l", &r)
		}))
	}

	// If the sync is off, there is nothing to wait for. If the owner is gone, there is.
	a.set("l", "consumer.offset.sync.enable=false")
	require.Eventually(t, func() bool { return announced() == "" }, 10*time.Second, 10*time.Millisecond)
	require.NoError(t, other.awaitFilters(ctx, second))
	owner.all.Store(false)
	w.service.OwnerChanged()
	a.set("l", "consumer.offset.sync.enable=true")
	short, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
	defer cancel()
	require.Error(t, w.service.awaitFilters(short, second))
}

// TestCommitToTheEnd: commitToTheEnd returns only when a commit that was sent has its answer, even
// if ctx has ended. A commit is not sent at all if ctx has ended before.
func TestCommitToTheEnd(t *testing.T) {
	w := offsetWorld(t, "consumer.offset.sync.enable=false")
	w.commit("g", "orders", "", 20)
	h := w.holdCommit(90)
	release := sync.OnceFunc(func() { close(h.release) })
	defer release()
	ctx, cancel := context.WithCancel(t.Context())
	one := func() []*groups.Commit {
		return []*groups.Commit{{Group: "g", Topic: "orders", TopicID: w.service.State().Mirrors["orders"].TopicID, End: 90}}
	}
	sent, done := one(), make(chan struct{})
	go func() {
		defer close(done)
		w.service.commitToTheEnd(ctx, "g", sent)
	}()
	<-h.arrived
	cancel()
	select {
	case <-done:
		t.Fatalf("over before the answer: %v", sent[0].Err)
	case <-time.After(100 * time.Millisecond):
	}
	release()
	<-done
	require.NoError(t, sent[0].Err)
	require.EqualValues(t, 90, w.committed("g", "orders", 0).At)
	late := one()
	w.service.commitToTheEnd(ctx, "g", late)
	require.ErrorIs(t, late[0].Err, context.Canceled)
}
