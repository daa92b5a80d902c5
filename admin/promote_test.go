package admin

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"klink/admin/model"
	"klink/admin/store"
	"klink/protocol/linkapi"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// promoting is a promote request that is under way.
type promoting struct {
	w      *world
	result chan linkapi.AlteredMirror
}

// promote asks a service to promote a mirror, and returns once State shows the promotion.
func (w *world) promote(ctx context.Context, s *Service, topic string, timeout time.Duration) *promoting {
	p := &promoting{w, make(chan linkapi.AlteredMirror, 1)}
	req := &linkapi.AlterMirrorsRequest{TimeoutMs: int32(timeout.Milliseconds()), Mirrors: []linkapi.AlterMirror{{Topic: topic, Op: linkapi.MirrorPromote}}}
	go func() { p.result <- s.HandleLink(ctx, req).(*linkapi.AlterMirrorsResponse).Results[0] }()
	awaitState(w.t, s, "the promotion to begin", func(s *model.State) bool { return s.Mirrors[topic].Shown() == model.MirrorPendingStopped })
	return p
}

func (p *promoting) await() linkapi.AlteredMirror {
	select {
	case r := <-p.result:
		return r
	case <-time.After(20 * time.Second):
		p.w.t.Fatal("the promote request is not answered")
		return linkapi.AlteredMirror{}
	}
}

// caughtUp reports that a mirror has everything, for the promotion that is under way, and then that
// it is drained.
func (w *world) caughtUp(s *Service, topic string, ends model.Event) {
	w.t.Helper()
	ctx := context.Background()
	require.NoError(w.t, s.Report(ctx, model.Event{Kind: model.EventMirrorCaughtUp, Topic: topic, Promotion: s.State().Mirrors[topic].Promotion}))
	m := s.State().Mirrors[topic]
	require.Equal(w.t, model.MirrorPendingStopped, m.State)
	require.Empty(w.t, m.Promotion)
	ends.Kind, ends.Topic = model.EventMirrorDrained, topic
	require.NoError(w.t, s.Report(ctx, endedSomewhere(s, ends)))
}

// TestPromote: a promoted mirror stays read-only, and mirrors, until the replicator has found that
// it has everything. Then groups' offsets are copied for the last time, those beyond the end are
// set back, and it is STOPPED. A second promotion of it succeeds, too.
func TestPromote(t *testing.T) {
	var synced []string
	w := newWorld(t)
	w.service.Close()
	w.service = w.startWith(func(s *Service) {
		s.finalSync = func(_ context.Context, link string, topics []string) map[string][]string {
			synced = append(synced, fmt.Sprint(link, topics, s.State().Mirrors["orders"].State))
			w.commit("copied", "orders", "", 105)
			return map[string][]string{"orders": {"group g was not copied"}}
		}
	})
	require.Zero(t, w.link("l").ErrorCode)
	w.plainMirror("orders", 1)
	w.plainMirror("other", 1)

	asked := time.Now().UnixMilli()
	p := w.promote(t.Context(), w.service, "orders", 10*time.Second)
	m := w.service.State().Mirrors["orders"]
	require.Equal(t, model.MirrorActive, m.State, "it mirrors on")
	deadline := m.PromotionDeadline.Add(-10 * time.Second).UnixMilli()
	require.GreaterOrEqual(t, deadline, asked, "all the time that the request allows")
	require.LessOrEqual(t, deadline, time.Now().UnixMilli())
	require.True(t, w.snapshot().Mirrors["orders"].ReadOnly)
	require.Equal(t, "PENDING_STOPPED", w.snapshot().Mirrors["orders"].State)
	d := w.describe(w.service, "orders")
	require.Equal(t, "PENDING_STOPPED", d.State)
	require.Contains(t, d.StateMessage, "the promotion is in progress (deadline ")

	w.report(model.Event{Kind: model.EventMirrorCaughtUp, Topic: "orders", Promotion: "an earlier one"})
	require.Equal(t, m.Promotion, w.service.State().Mirrors["orders"].Promotion)
	w.report(model.Event{Kind: model.EventMirrorDrained, Topic: "orders"})
	require.Equal(t, model.MirrorActive, w.service.State().Mirrors["orders"].State, "drained means nothing before it has everything")

	again := w.promote(t.Context(), w.service, "orders", 5*time.Second)
	w.caughtUp(w.service, "orders", model.Event{Ended: endedAt([2]int64{100, 100})})
	for _, p := range []*promoting{p, again} {
		r := p.await()
		require.Zero(t, r.ErrorCode, text(r.ErrorMessage))
	}
	require.Equal(t, []string{"l[orders]PENDING_STOPPED"}, synced)
	require.EqualValues(t, 100, w.committed("copied", "orders", 0).At, "what the last copy has set is clamped")
	d = w.describe(w.service, "orders")
	require.Equal(t, "STOPPED", d.State)
	require.Contains(t, d.StateMessage, "group g was not copied")
	require.False(t, w.snapshot().Mirrors["orders"].ReadOnly)
	r := w.alter("orders", linkapi.MirrorPromote)
	require.Zero(t, r.ErrorCode, text(r.ErrorMessage))

	require.Zero(t, w.failover("other", model.Event{Ended: endedAt([2]int64{0, 0})}).ErrorCode)
	require.Len(t, synced, 1, "a failover copies nothing")
	r = w.alter("other", linkapi.MirrorPromote)
	require.Zero(t, r.ErrorCode, text(r.ErrorMessage))
}

// TestPromoteTimesOut: a promotion that is not done in time is cancelled, and the error says what
// it waited for.
func TestPromoteTimesOut(t *testing.T) {
	w := newWorld(t)
	require.Zero(t, w.link("l").ErrorCode)
	w.plainMirror("orders", 2)
	w.reporter = &fakeReplicator{status: map[string][]model.PartitionStatus{}}
	w.service.SetReporter(w.reporter)
	w.reporter.set("orders", model.PartitionStatus{SourceEnd: 10, MirrorEnd: 3, SourceLastStable: 8, ShiftBegan: -1}, model.PartitionStatus{SourceEnd: 2, MirrorEnd: 2, SourceLastStable: 2, ShiftBegan: -1})
	req := &linkapi.AlterMirrorsRequest{TimeoutMs: 300, Mirrors: []linkapi.AlterMirror{{Topic: "orders", Op: linkapi.MirrorPromote}}}
	r := w.service.HandleLink(t.Context(), req).(*linkapi.AlterMirrorsResponse).Results[0]
	require.Equal(t, kerr.RequestTimedOut.Code, r.ErrorCode)
	for _, part := range []string{
		"is ACTIVE again", "7 offsets behind in 1 of 2 partitions, most in partition 0: 7", "a transaction is open at the source in partition 0", "stop the topic's producers", "fail it over",
	} {
		require.Contains(t, text(r.ErrorMessage), part)
	}
	m := w.service.State().Mirrors["orders"]
	require.Equal(t, model.MirrorActive, m.Shown())
	w.report(model.Event{Kind: model.EventMirrorDrained, Topic: "orders"})
	require.Equal(t, model.MirrorActive, w.service.State().Mirrors["orders"].State)
}

// TestPromoteJoined: if two requests join in one promotion, the later deadline counts, and the
// request with the earlier one cancels nothing.
func TestPromoteJoined(t *testing.T) {
	w := newWorld(t)
	require.Zero(t, w.link("l").ErrorCode)
	w.plainMirror("orders", 1)
	long := w.promote(t.Context(), w.service, "orders", 20*time.Second)
	r := w.promote(t.Context(), w.start(), "orders", 200*time.Millisecond).await()
	require.Equal(t, kerr.RequestTimedOut.Code, r.ErrorCode)
	require.Contains(t, text(r.ErrorMessage), "is still being promoted")
	require.NotEmpty(t, w.service.State().Mirrors["orders"].Promotion)
	w.caughtUp(w.service, "orders", model.Event{Ended: endedAt([2]int64{0, 0})})
	r = long.await()
	require.Zero(t, r.ErrorCode, text(r.ErrorMessage))
}

// TestPromoteOutlivesKlink: a promotion goes on when the client and the klink that began it are
// gone. The next klink finishes it, or cancels it when its time is over.
func TestPromoteOutlivesKlink(t *testing.T) {
	w := newWorld(t)
	require.Zero(t, w.link("l").ErrorCode)
	w.plainMirror("done", 1)
	w.plainMirror("late", 1)
	ctx, cancel := context.WithCancel(t.Context())
	a := w.promote(ctx, w.service, "done", time.Minute)
	b := w.promote(ctx, w.service, "late", 1500*time.Millisecond)
	cancel()
	a.await()
	b.await()
	for _, topic := range []string{"done", "late"} {
		require.NotEmpty(t, w.service.State().Mirrors[topic].Promotion, "a client that is gone takes nothing back")
	}
	w.service.Close()

	w.service = w.start()
	require.Equal(t, model.MirrorPendingStopped, w.service.State().Mirrors["done"].Shown())
	w.caughtUp(w.service, "done", model.Event{Ended: endedAt([2]int64{0, 0})})
	r := w.alter("done", linkapi.MirrorPromote)
	require.Zero(t, r.ErrorCode, text(r.ErrorMessage))
	awaitState(t, w.service, "taken back", func(s *model.State) bool { return s.Mirrors["late"].Shown() == model.MirrorActive })
}

// TestPromoteEnds: the other ways in which a promotion ends, and the answers that the request gets.
func TestPromoteEnds(t *testing.T) {
	w := newWorld(t)
	require.Zero(t, w.link("l").ErrorCode)
	begin := func(topic string) *promoting {
		w.plainMirror(topic, 1)
		return w.promote(t.Context(), w.service, topic, 20*time.Second)
	}

	p := begin("resumed")
	require.Zero(t, w.alter("resumed", linkapi.MirrorResume).ErrorCode)
	r := p.await()
	require.Equal(t, kerr.InvalidRequest.Code, r.ErrorCode)
	require.Contains(t, text(r.ErrorMessage), "the promotion was cancelled, and the mirror is now ACTIVE")

	p = begin("failed")
	w.report(model.Event{Kind: model.EventMirrorFailed, Topic: "failed", Error: model.ErrUnexpectedTruncation, Message: "the source lost records"})
	r = p.await()
	require.Equal(t, kerr.InvalidRequest.Code, r.ErrorCode)
	require.Contains(t, text(r.ErrorMessage), "the source lost records")

	p = begin("failover")
	r = w.failover("failover", model.Event{Ended: endedAt([2]int64{0, 0})})
	require.Zero(t, r.ErrorCode, text(r.ErrorMessage))
	r = p.await()
	require.Zero(t, r.ErrorCode, text(r.ErrorMessage))

	p = begin("unavailable")
	w.report(model.Event{Kind: model.EventMirrorUnavailable, Topic: "unavailable", Error: model.ErrSourceTopicMayBeDeleted, Message: "the source has no such topic"})
	d := w.describe(w.service, "unavailable")
	require.Equal(t, "PENDING_STOPPED", d.State)
	require.Equal(t, string(model.ErrSourceTopicMayBeDeleted), d.Error)
	require.Contains(t, d.StateMessage, "the source has no such topic")
	again := w.promote(t.Context(), w.service, "unavailable", time.Second)
	w.report(model.Event{Kind: model.EventMirrorCaughtUp, Topic: "unavailable", Promotion: w.service.State().Mirrors["unavailable"].Promotion})
	require.Equal(t, model.MirrorSourceUnavailable, w.service.State().Mirrors["unavailable"].State)
	w.report(model.Event{Kind: model.EventMirrorRecovered, Topic: "unavailable"})
	w.caughtUp(w.service, "unavailable", model.Event{Ended: endedAt([2]int64{0, 0})})
	for _, p := range []*promoting{p, again} {
		r = p.await()
		require.Zero(t, r.ErrorCode, text(r.ErrorMessage))
	}

	p = begin("deleted")
	require.NoError(t, w.service.TopicsDeleted(t.Context(), deletedNow(w.service, "deleted")))
	r = p.await()
	require.Equal(t, kerr.UnknownTopicOrPartition.Code, r.ErrorCode)
	require.Contains(t, text(r.ErrorMessage), "was deleted before")
}

// TestFailoverTellsWhatIsLeftBehind: a failover keeps the last known end of the source, by
// partition, and when it was seen if that is not recent.
func TestFailoverTellsWhatIsLeftBehind(t *testing.T) {
	w := newWorld(t)
	require.Zero(t, w.link("l").ErrorCode)
	w.plainMirror("orders", 4)
	w.reporter = &fakeReplicator{status: map[string][]model.PartitionStatus{}}
	w.service.SetReporter(w.reporter)
	w.reporter.set("orders",
		model.PartitionStatus{SourceEnd: 120, MirrorEnd: 100, LastFetch: time.Now()},
		model.PartitionStatus{SourceEnd: 50, MirrorEnd: 50, LastFetch: time.Now()},
		model.PartitionStatus{SourceEnd: 70, MirrorEnd: 50, LastFetch: time.UnixMilli(1_700_000_000_000)},
		model.PartitionStatus{SourceEnd: 70, MirrorEnd: 50}) // never fetched, so its source end is unknown
	r := w.failover("orders", model.Event{Ended: endedAt([2]int64{103, 103}, [2]int64{50, 50}, [2]int64{50, 50}, [2]int64{50, 50})})
	require.Zero(t, r.ErrorCode, text(r.ErrorMessage))
	for name, s := range map[string]*Service{"same": w.service, "restarted": w.start()} {
		ps := w.describe(s, "orders").Partitions
		for i, want := range [][3]int64{{120, 17, -1}, {50, 0, -1}, {70, 20, 1_700_000_000_000}, {-1, -1, -1}} {
			require.Equal(t, want, [3]int64{ps[i].SourceEndOffset, ps[i].Lag, ps[i].LastFetchTimeMs}, "%s, partition %d", name, i)
		}
	}
}

// TestFailoverOfManyIsOne: a failover of 1,000 mirrors needs about as many requests to the
// destination as one of 10. klink changes all of them, compares them with groups' offsets, ends
// them and sets their configs together.
func TestFailoverOfManyIsOne(t *testing.T) {
	requests := map[int]int64{}
	for _, n := range []int{10, 1000} {
		w := newWorld(t, func(c *Config) { c.ReconcileInterval = time.Hour })
		w.reporter = startFakeReplicator(t, w.service, func(r *fakeReplicator) { r.empty = true })
		require.Zero(t, w.link("l").ErrorCode)
		alter := w.manyMirrors(n)
		w.commit("g", "m0", "", 10)
		counts := map[kmsg.Key]*atomic.Int64{}
		for _, key := range []kmsg.Key{
			kmsg.Produce, kmsg.InitProducerID, kmsg.EndTxn, kmsg.OffsetFetch, kmsg.ListGroups, kmsg.OffsetCommit, kmsg.ListOffsets, kmsg.Metadata,
			kmsg.IncrementalAlterConfigs, kmsg.DescribeConfigs, kmsg.FindCoordinator, kmsg.AddPartitionsToTxn,
		} {
			counts[key] = &atomic.Int64{}
			w.destination.Fault(kfake.Fault{Keys: []kmsg.Key{key}, Observe: true, Count: -1, TopLevel: true, When: func(kmsg.Request) bool { counts[key].Add(1); return false }})
		}
		began := time.Now()
		var errs int
		for _, r := range w.service.HandleLink(t.Context(), &linkapi.AlterMirrorsRequest{TimeoutMs: 60_000, Mirrors: alter}).(*linkapi.AlterMirrorsResponse).Results {
			if r.ErrorCode != 0 {
				errs++
				t.Error(r.Name, text(r.ErrorMessage))
			}
		}
		took := time.Since(began)
		require.Zero(t, errs)
		for key, c := range counts {
			if c := c.Load(); c > 0 {
				t.Logf("%d mirrors: %s %d", n, kmsg.NameForKey(int16(key)), c)
			}
			requests[n] += c.Load()
		}
		t.Logf("%d mirrors: %v, %d requests", n, took, requests[n])
		for _, m := range w.service.State().Mirrors {
			require.Equal(t, model.MirrorStopped, m.State)
		}
		require.Equal(t, "producer", w.configsOf("m0")["compression.type"])
		require.Positive(t, counts[kmsg.EndTxn].Load())
		require.LessOrEqual(t, counts[kmsg.EndTxn].Load(), int64(8), "transactions of the state topic")
		require.LessOrEqual(t, counts[kmsg.IncrementalAlterConfigs].Load(), int64(4))
		w.service.Close()
	}
	require.LessOrEqual(t, requests[1000], 2*requests[10]+20)
}

// manyMirrors makes ACTIVE mirrors m0, m1, and so on that have configs to be set at the stop, and
// returns a function that fails them over.
func (w *world) manyMirrors(n int) (alter []linkapi.AlterMirror) {
	ctx := context.Background()
	var topics []string
	for i := range n {
		topics = append(topics, fmt.Sprintf("m%d", i))
		alter = append(alter, linkapi.AlterMirror{Topic: topics[i], Op: linkapi.MirrorFailover})
	}
	lz4 := "lz4"
	_, err := w.destAdmin.CreateTopics(ctx, 1, 1, map[string]*string{"compression.type": &lz4}, topics...)
	require.NoError(w.t, err)
	var details kadm.TopicDetails
	require.Eventually(w.t, func() bool {
		details, err = w.destAdmin.ListTopics(ctx, topics...)
		return err == nil && details.Error() == nil
	}, 20*time.Second, 10*time.Millisecond)
	producer := "producer"
	require.NoError(w.t, w.service.update(ctx, func(tx *store.Tx) error {
		for _, topic := range topics {
			if err := tx.PutTimeline(topic, 0, &store.TimelineRecord{}); err != nil {
				return err
			}
			if err := tx.PutMirror(topic, &store.MirrorRecord{
				Stamp: store.StampFormat,
				ID:    store.NewID(), Link: "l", SourceTopic: topic, TopicID: store.TopicID(details[topic].ID), State: model.MirrorActive, Started: true,
				Partitions: 1, Created: true, SourceConfigs: map[string]*string{"compression.type": &producer},
			}); err != nil {
				return err
			}
		}
		return nil
	}))
	return alter
}
