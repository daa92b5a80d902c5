package store

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"klink/admin/model"
	"klink/internal/kafkatest"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
)

// storeCluster is an embedded cluster with an empty state topic.
func storeCluster(t testing.TB) []kgo.Opt {
	c := kafkatest.Embedded(t, 1)
	opts := clientOptions(t, c.ListenAddrs()...)
	kafkatest.CreateTopic(t, kafkatest.NewClient(t, opts...), StateTopic, 1, 1, map[string]string{"cleanup.policy": "compact"})
	return opts
}

func openStore(t testing.TB, opts []kgo.Opt, key *SecretsKey) *Store {
	s, err := Open(opts, key, testLogger(t), func() {})
	require.NoError(t, err)
	t.Cleanup(s.Close)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	require.NoError(t, s.Sync(ctx))
	return s
}

// increment adds one to a number in the record of a link.
func increment(link string) func(tx *Tx) error {
	return func(tx *Tx) error {
		r, err := tx.Link(link)
		if err != nil {
			return err
		}
		if r == nil {
			r = &LinkRecord{ID: link, State: model.LinkActive}
		}
		r = r.Clone()
		n, _ := strconv.Atoi(r.SourceClusterID)
		r.SourceClusterID = strconv.Itoa(n + 1)
		return tx.PutLink(link, r)
	}
}

// TestStoresNeverLoseAChange has two stores increment the same numbers, in turns and at the same
// time.
func TestStoresNeverLoseAChange(t *testing.T) { testStoresNeverLoseAChange(t, storeCluster(t)) }

func testStoresNeverLoseAChange(t *testing.T, opts []kgo.Opt) {
	stores := []*Store{openStore(t, opts, nil), openStore(t, opts, nil)}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()

	for i := range 20 { // in turns: each takes the id from the other
		require.NoError(t, stores[i%2].Update(ctx, increment("turns")), i)
	}
	var all sync.WaitGroup
	errs := make([]error, 180)
	for i := range errs { // at once
		all.Go(func() { errs[i] = stores[i%2].Update(ctx, increment("race")) })
	}
	all.Wait()
	require.NoError(t, errors.Join(errs...))

	stores = append(stores, openStore(t, opts, nil)) // one that only reads
	for i, s := range stores {
		require.NoError(t, s.Sync(ctx))
		links := s.State().Links
		require.Equal(t, "20", links["turns"].SourceClusterID, "store %d", i)
		require.Equal(t, strconv.Itoa(len(errs)), links["race"].SourceClusterID, "store %d", i)
	}
}

// TestStoreSeesOthersChanges: a store that does nothing follows what another one writes.
func TestStoreSeesOthersChanges(t *testing.T) {
	opts := storeCluster(t)
	changed := make(chan struct{}, 1)
	follower, err := Open(opts, nil, testLogger(t), func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	})
	require.NoError(t, err)
	t.Cleanup(follower.Close)
	writer := openStore(t, opts, nil)
	require.NoError(t, writer.Update(context.Background(), increment("a")))
	for follower.State().Links["a"] == nil {
		select {
		case <-changed:
		case <-time.After(20 * time.Second):
			t.Fatal("the change was not seen")
		}
	}
	require.NoError(t, writer.Update(context.Background(), func(tx *Tx) error {
		tx.DeleteLink("a")
		return nil
	}))
	for follower.State().Links["a"] != nil {
		select {
		case <-changed:
		case <-time.After(20 * time.Second):
			t.Fatal("the deletion was not seen")
		}
	}
}

// TestUpdatesOfOneBatchSeeEachOther: changes that share a transaction are evaluated one after the
// other, and if one fails the others do not.
func TestUpdatesOfOneBatchSeeEachOther(t *testing.T) {
	s := openStore(t, storeCluster(t), nil)
	release, entered := make(chan struct{}), make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() { // holds the leader, so that the others gather
		once := sync.OnceFunc(func() { close(entered); <-release })
		_ = s.Update(context.Background(), func(*Tx) error { once(); return nil })
	})
	<-entered
	failed := errors.New("refused")
	var created, refused sync.Map
	for i := range 50 {
		all.Go(func() {
			err := s.Update(context.Background(), func(tx *Tx) error {
				if r, err := tx.Link("one"); err != nil || r != nil {
					return failed
				}
				return tx.PutLink("one", &LinkRecord{ID: strconv.Itoa(i), State: model.LinkActive})
			})
			if err == nil {
				created.Store(i, true)
			} else if errors.Is(err, failed) {
				refused.Store(i, true)
			}
		})
	}
	close(release)
	all.Wait()
	count := func(m *sync.Map) (n int) { m.Range(func(any, any) bool { n++; return true }); return n }
	require.Equal(t, 1, count(&created))
	require.Equal(t, 49, count(&refused))
}

// TestStampFormat: a mirror whose batches have stamps of another version is FAILED with
// STAMP_FORMAT. It is not read, and can be deleted.
func TestStampFormat(t *testing.T) {
	opts := storeCluster(t)
	start, err := (&TimelineRecord{Physical: 0, Logical: 70, Floor: 70}).encode()
	require.NoError(t, err)
	produceState(t, opts,
		"mirror/old", `{"version":1,"id":"x","link":"l","source_topic":"old","state":"ACTIVE","partitions":2,"created":true}`,
		"timeline/old/0", string(start),
		"timeline/old/1", string(start),
	)
	s := openStore(t, opts, nil)
	state := s.State()
	m := state.Mirrors["old"]
	require.Equal(t, model.MirrorFailed, m.State)
	require.Equal(t, model.ErrStampFormat, m.Error)
	require.Equal(t, "was created by a development version whose stamps this version cannot read; delete the topic and re-create the mirror", m.ErrorMessage)
	seen := Snapshot(state).Mirrors["old"]
	require.True(t, seen.ReadOnly)
	require.Len(t, seen.Timelines, 2)
	for p := range seen.Timelines {
		require.EqualValues(t, -1, seen.Timelines[p].ToPhysical(75), "no offset can be read")
	}
	require.NoError(t, s.Update(context.Background(), func(tx *Tx) error {
		tx.DeleteMirror("old")
		return nil
	}))
	require.Empty(t, s.State().Mirrors)
}

// TestBrokenRecordsAreLeftAlone: a record that cannot be read is counted and shown, not
// overwritten, and can be deleted.
func TestBrokenRecordsAreLeftAlone(t *testing.T) {
	opts := storeCluster(t)
	good, err := (&MirrorRecord{Stamp: StampFormat, ID: "x", Link: "l", State: model.MirrorActive, Partitions: 2, Created: true}).encode()
	require.NoError(t, err)
	start, err := (&TimelineRecord{Physical: 0, Logical: 70, Floor: 70}).encode()
	require.NoError(t, err)
	produceState(t, opts,
		"link/garbage", "not json",
		"link/later", `{"version":2,"state":"ACTIVE"}`,
		"link/", "{}",
		"mirror/broken", `{"version":1,"state":"DANCING"}`,
		"timeline/broken/0", string(start),
		"mirror/half", string(good),
		"timeline/half/0", string(start),
		"timeline/half/1", `{"version":1,"physical":-4,"logical":1,"floor":1}`,
		"something/else", "of a later version",
	)
	s := openStore(t, opts, nil)
	require.EqualValues(t, 5, s.Broken())
	state := s.State()
	require.Equal(t, model.LinkFailed, state.Links["garbage"].State)
	require.Contains(t, state.Links["later"].ErrorMessage, "upgrade")
	require.Equal(t, model.MirrorFailed, state.Mirrors["broken"].State)
	require.EqualValues(t, 70, state.Timelines["broken"][0].ToLogical(0), "what is known is translated")
	require.Equal(t, model.MirrorFailed, state.Mirrors["half"].State)
	require.Contains(t, state.Mirrors["half"].ErrorMessage, "partition 1")
	require.EqualValues(t, 70, state.Timelines["half"][0].ToLogical(0))
	require.EqualValues(t, -1, state.Timelines["half"][1].ToPhysical(5), "what is not known is out of range")

	require.ErrorContains(t, s.Update(context.Background(), increment("garbage")), "cannot read the record")
	require.NoError(t, s.Update(context.Background(), func(tx *Tx) error {
		tx.DeleteLink("garbage")
		tx.DeleteMirror("half")
		tx.DeleteMirror("broken")
		return nil
	}))
	require.NoError(t, s.Update(context.Background(), increment("garbage")))
	require.Equal(t, model.LinkActive, s.State().Links["garbage"].State)
	require.Empty(t, s.State().Mirrors)
	require.Empty(t, s.State().Timelines)
}

// TestTimelinesMoveInPlace: the published timeline of a partition stays the same object, so that
// the router and the replicator see it move; a mirror that is created anew gets another object.
func TestTimelinesMoveInPlace(t *testing.T) {
	opts := storeCluster(t)
	s, other := openStore(t, opts, nil), openStore(t, opts, nil)
	ctx := context.Background()
	put := func(s *Store, logical int64) {
		require.NoError(t, s.Update(ctx, func(tx *Tx) error {
			if err := tx.PutTimeline("t", 0, &TimelineRecord{Logical: logical, Floor: logical}); err != nil {
				return err
			}
			return tx.PutMirror("t", &MirrorRecord{Stamp: StampFormat, ID: "1", State: model.MirrorActive, Partitions: 1, Created: true})
		}))
	}
	put(s, 10)
	live := s.State().Timelines["t"][0]
	require.EqualValues(t, 10, live.Shift())
	live.Set(10, 15) // the owner moves it, ahead of the store
	put(other, 10)
	require.NoError(t, s.Sync(ctx))
	require.EqualValues(t, 15, live.Floor(), "a record that says nothing new moves nothing")
	put(other, 20)
	require.NoError(t, s.Sync(ctx))
	require.Same(t, live, s.State().Timelines["t"][0])
	require.EqualValues(t, 20, live.Shift())
	require.NoError(t, s.Update(ctx, func(tx *Tx) error { tx.DeleteMirror("t"); return nil }))
	put(s, 30)
	require.NotSame(t, live, s.State().Timelines["t"][0])
	require.EqualValues(t, 20, live.Shift())
}

// TestStoreSurvivesATooLargeRecord: a change that cannot be written fails; the changes beside it do
// not.
func TestStoreSurvivesATooLargeRecord(t *testing.T) {
	s := openStore(t, storeCluster(t), nil)
	noise := make([]byte, 3<<20)
	for i := range noise {
		noise[i] = byte('a' + i*i%23*7%26)
	}
	err := s.Update(context.Background(), func(tx *Tx) error {
		return tx.PutLink("big", &LinkRecord{State: model.LinkActive, Configs: map[string]string{"x": string(noise)}})
	})
	require.Error(t, err)
	require.NoError(t, s.Update(context.Background(), increment("small")))
	require.Nil(t, s.State().Links["big"])
	require.NotNil(t, s.State().Links["small"])
}

func produceState(t testing.TB, opts []kgo.Opt, keysAndValues ...string) {
	var records []*kgo.Record
	for i := 0; i < len(keysAndValues); i += 2 {
		records = append(records, &kgo.Record{Key: []byte(keysAndValues[i]), Value: []byte(keysAndValues[i+1])})
	}
	kafkatest.Produce(t, kafkatest.NewClient(t, opts...), StateTopic, 0, records...)
}

// TestCommitInDoubt: the answer to a commit is lost. The change is made once, whether the commit
// had arrived or not.
func TestCommitInDoubt(t *testing.T) {
	for _, arrived := range []bool{true, false} {
		t.Run(fmt.Sprintf("arrived=%v", arrived), func(t *testing.T) {
			opts := storeCluster(t)
			s := openStore(t, opts, nil)
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			defer cancel()
			require.NoError(t, s.Update(ctx, increment("n")))
			s.log.Intercept = func(commit func() error) error {
				s.log.Intercept = nil
				if arrived {
					if err := commit(); err != nil {
						return err
					}
				}
				return errors.New("connection lost")
			}
			require.NoError(t, s.Update(ctx, increment("n")))
			require.Equal(t, "2", s.State().Links["n"].SourceClusterID)
			require.Equal(t, "2", openStore(t, opts, nil).State().Links["n"].SourceClusterID)
		})
	}
}

// TestCompactedStateTopic: a store reads a topic to its end after the log cleaner has compacted it.
func TestCompactedStateTopic(t *testing.T) {
	c := kafkatest.Embedded(t, 1)
	opts := clientOptions(t, c.ListenAddrs()...)
	kafkatest.CreateTopic(t, kafkatest.NewClient(t, opts...), StateTopic, 1, 1, map[string]string{"cleanup.policy": "compact", "delete.retention.ms": "0"})
	s := openStore(t, opts, nil)
	ctx := context.Background()
	for range 20 {
		require.NoError(t, s.Update(ctx, increment("n")))
	}
	require.NoError(t, s.Update(ctx, increment("deleted")))
	require.NoError(t, s.Update(ctx, func(tx *Tx) error { tx.DeleteLink("deleted"); return nil }))
	c.Compact()
	again := openStore(t, opts, nil)
	require.Equal(t, "20", again.State().Links["n"].SourceClusterID)
	require.Len(t, again.State().Links, 1)
	require.NoError(t, again.Update(ctx, increment("n")))
	require.NoError(t, s.Update(ctx, increment("n")))
	require.Equal(t, "22", s.State().Links["n"].SourceClusterID)
}

// TestUpdateWithoutABroker: a change that cannot be made ends with its context and says why. The
// state stays as it is.
func TestUpdateWithoutABroker(t *testing.T) {
	c := kafkatest.Embedded(t, 1)
	faults := kafkatest.NewFaults(t, c.ListenAddrs()[0])
	direct := []kgo.Opt{kgo.SeedBrokers(c.ListenAddrs()...)}
	kafkatest.CreateTopic(t, kafkatest.NewClient(t, direct...), StateTopic, 1, 1, map[string]string{"cleanup.policy": "compact"})
	// Every connection goes through the fault, whatever address the broker tells.
	opts := []kgo.Opt{kgo.SeedBrokers(faults.Addr()), kgo.Dialer(func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, faults.Addr())
	})}
	s := openStore(t, opts, nil)
	require.NoError(t, s.Update(context.Background(), increment("n")))
	faults.Cut()
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	err := s.Update(ctx, increment("n"))
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, StateTopic)
	require.Equal(t, "1", s.State().Links["n"].SourceClusterID)

	// Another store writes in the meantime; then the broker is reachable again.
	require.NoError(t, openStore(t, direct, nil).Update(context.Background(), increment("n")))
	faults.Resume()
	ctx, cancel = context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	require.NoError(t, s.Update(ctx, increment("n")))
	got := s.State().Links["n"].SourceClusterID
	require.Contains(t, []string{"3", "4"}, got, "the change that was given up may have been made, once")
}

// TestAChangeIsOutWhenItsUpdateReturns: a change is published when its Update returns, even if the
// log's reader was faster and the snapshot that has it is still being handed out.
func TestAChangeIsOutWhenItsUpdateReturns(t *testing.T) {
	opts := storeCluster(t)
	var out atomic.Pointer[model.State]
	var s *Store
	there := make(chan struct{})
	s, err := Open(opts, nil, testLogger(t), func() {
		<-there
		state := s.State()
		time.Sleep(5 * time.Millisecond)
		out.Store(state)
	})
	require.NoError(t, err)
	close(there)
	t.Cleanup(s.Close)
	require.NoError(t, s.Sync(t.Context()))
	for i := range 40 {
		name := fmt.Sprint("link-", i)
		require.NoError(t, s.Update(t.Context(), func(tx *Tx) error { return tx.PutLink(name, &LinkRecord{ID: name, State: model.LinkActive}) }))
		require.NotNil(t, out.Load().Links[name], "%s is stored, but nobody was told", name)
	}
}

// TestDeleteMirror: the timelines and checkpoints of a mirror are deleted with it.
func TestDeleteMirror(t *testing.T) {
	s, ctx := openStore(t, storeCluster(t), nil), context.Background()
	require.NoError(t, s.Update(ctx, func(tx *Tx) error {
		require.NoError(t, tx.PutTimeline("orders", 0, &TimelineRecord{}))
		require.NoError(t, tx.PutCheckpoint(TimelineAt{"orders", 0}, &CheckpointRecord{Version: RecordVersion, Mirror: "m", Physical: 1, Logical: 1}))
		return tx.PutMirror("orders", &MirrorRecord{ID: "m", Stamp: StampFormat, State: model.MirrorActive, Partitions: 1})
	}))
	_, ok := s.Checkpoint("orders", 0)
	require.True(t, ok)
	require.NoError(t, s.Update(ctx, func(tx *Tx) error {
		tx.DeleteMirror("orders")
		return nil
	}))
	require.NoError(t, s.Sync(ctx))
	require.Empty(t, s.records.mirrors)
	require.Empty(t, s.records.timelines)
	require.Empty(t, s.records.checkpoints)
}
