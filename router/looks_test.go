package router

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"klink/protocol/timeline"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// wide makes a mirror of n partitions, with the log of manyRuns in each.
func wide(w *hotWorld, n int) {
	manyRuns(w)
	sn := w.router.snapshot.Load()
	log := w.logs[at{"mirror", 0}]
	m := &Mirror{Topic: "mirror", TopicID: hotID("mirror"), ReadOnly: true}
	for i := range n {
		m.Timelines = append(m.Timelines, timeline.Open(0, 100, 100))
		w.logs[at{"mirror", int32(i)}] = log
	}
	w.router.Publish(&Snapshot{Complete: true, Mirrors: map[string]*Mirror{"mirror": m, "stopped": sn.Mirrors["stopped"]}})
}

// many is a Fetch of n partitions, or of n offsets in one partition.
func many(version int16, topic string, n int, partition func(i int) int32) *kmsg.FetchRequest {
	req := fetchAt(topic, 0)
	req.Version = version
	rt := &req.Topics[0]
	rt.Partitions = nil
	for i := range n {
		p := kmsg.NewFetchRequestTopicPartition()
		p.Partition, p.FetchOffset = partition(i), 101+int64(i)%3990
		rt.Partitions = append(rt.Partitions, p)
	}
	return req
}

func noRecords(*kmsg.FetchRequest) *kmsg.FetchResponse { return kmsg.NewPtrFetchResponse() }

// One request with a hundred thousand offsets costs a bounded number of looks, and none when it is
// sent again.
func TestLooksOfOneRequestAreBounded(t *testing.T) {
	const n = 100_000
	for name, partition := range map[string]func(int) int32{
		"partitions":               func(i int) int32 { return int32(i) },
		"offsets of one partition": func(int) int32 { return 0 },
	} {
		t.Run(name, func(t *testing.T) {
			w := newHotWorld(t)
			wide(w, n)
			if _, out := send(w, many(12, "mirror", n, partition), noRecords); out.closed != nil {
				t.Fatal(out.closed)
			}
			t.Logf("%d looks", w.looks)
			if w.looks == 0 || w.looks > 512 {
				t.Errorf("%d offsets cost %d looks", n, w.looks)
			}
			w.looks = 0
			for range 3 {
				if _, out := send(w, many(12, "mirror", n, partition), noRecords); out.closed != nil || w.looks > 0 {
					t.Fatalf("the same request again costs %d looks: %v", w.looks, out.closed)
				}
			}
		})
	}
}

// Partitions beyond the share of a connection are hidden, not wrong, and found when the client asks
// again.
func TestBeyondTheShareAPartitionIsHidden(t *testing.T) {
	const n = 300
	w := newHotWorld(t)
	wide(w, n)
	found := map[int32]bool{}
	rounds := 0
	for ; len(found) < n && rounds < 50; rounds++ {
		w.later()
		w.looks = 0
		req := many(12, "mirror", n, func(i int) int32 { return int32(i) })
		resp, out := send(w, req, func(req *kmsg.FetchRequest) *kmsg.FetchResponse {
			resp := kmsg.NewPtrFetchResponse()
			rt := kmsg.NewFetchResponseTopic()
			rt.Topic = "mirror"
			for _, p := range req.Topics[0].Partitions {
				rp := kmsg.NewFetchResponseTopicPartition()
				rp.Partition, rp.HighWatermark = p.Partition, 3000
				if p.FetchOffset < 0 {
					rp.ErrorCode = kerr.OffsetOutOfRange.Code
				} else if i := int64(p.Partition) + 1; p.FetchOffset != 3*(i/4)+min(i%4, 3) {
					t.Errorf("partition %d is asked for at %d", p.Partition, p.FetchOffset)
				}
				rt.Partitions = append(rt.Partitions, rp)
			}
			resp.Topics = append(resp.Topics, rt)
			return resp
		})
		if out.closed != nil || w.looks > sessionLooks {
			t.Fatalf("%d looks: %v", w.looks, out.closed)
		}
		for _, p := range resp.Topics[0].Partitions {
			switch p.ErrorCode {
			case 0:
				found[p.Partition] = true
			case kerr.NotLeaderForPartition.Code:
			default:
				t.Fatalf("partition %d: error %d", p.Partition, p.ErrorCode)
			}
		}
	}
	if len(found) < n || rounds < 2 {
		t.Errorf("%d of %d partitions after %d rounds", len(found), n, rounds)
	}
}

// A client cannot make klink look into a log that the client may not read, and the broker's refusal
// passes unchanged.
func TestNoLookForAClientWithoutRights(t *testing.T) {
	for version := int16(1); version <= 18; version++ {
		w := newHotWorld(t)
		wide(w, 50)
		w.forbidden = map[string]bool{"mirror": true}
		for range 3 {
			resp, out := send(w, many(version, "mirror", 50, func(i int) int32 { return int32(i) }), func(req *kmsg.FetchRequest) *kmsg.FetchResponse {
				resp := kmsg.NewPtrFetchResponse()
				rt := kmsg.NewFetchResponseTopic()
				rt.Topic, rt.TopicID = "mirror", hotID("mirror")
				for _, p := range req.Topics[0].Partitions {
					rp := kmsg.NewFetchResponseTopicPartition()
					rp.Partition, rp.ErrorCode, rp.HighWatermark = p.Partition, kerr.TopicAuthorizationFailed.Code, -1
					rt.Partitions = append(rt.Partitions, rp)
				}
				resp.Topics = append(resp.Topics, rt)
				return resp
			})
			if out.closed != nil || w.looks > 0 || w.router.Probes() > 0 {
				t.Fatalf("v%d: %d looks: %v", version, w.looks, out.closed)
			}
			for _, p := range resp.Topics[0].Partitions {
				if p.ErrorCode != kerr.TopicAuthorizationFailed.Code {
					t.Fatalf("v%d: error %d", version, p.ErrorCode)
				}
			}
		}
		if w.asked != 1 {
			t.Errorf("v%d: the broker was asked for the rights on %d topics", version, w.asked)
		}
	}

	w := newHotWorld(t)
	manyRuns(w)
	w.forbidden = map[string]bool{"stopped": true}
	remove := kmsg.NewPtrDeleteRecordsRequest()
	remove.Version = 2
	remove.Topics = []kmsg.DeleteRecordsRequestTopic{{Topic: "stopped", Partitions: []kmsg.DeleteRecordsRequestTopicPartition{{Offset: 2000}}}}
	_, out := send(w, remove, func(*kmsg.DeleteRecordsRequest) *kmsg.DeleteRecordsResponse {
		return kmsg.NewPtrDeleteRecordsResponse()
	})
	if out.closed != nil || w.looks > 0 || w.asked != 1 {
		t.Errorf("DeleteRecords: %d looks, %d topics asked for: %v", w.looks, w.asked, out.closed)
	}

	// An error of the broker, with an arbitrary offset.
	for version := int16(0); version <= 11; version++ {
		list := kmsg.NewPtrListOffsetsRequest()
		list.Version = version
		p := kmsg.NewListOffsetsRequestTopicPartition()
		p.Timestamp = 7
		list.Topics = []kmsg.ListOffsetsRequestTopic{{Topic: "mirror", Partitions: []kmsg.ListOffsetsRequestTopicPartition{p}}}
		_, out := send(w, list, func(*kmsg.ListOffsetsRequest) *kmsg.ListOffsetsResponse {
			resp := kmsg.NewPtrListOffsetsResponse()
			p := kmsg.NewListOffsetsResponseTopicPartition()
			p.ErrorCode, p.Offset, p.Timestamp, p.OldStyleOffsets = kerr.TopicAuthorizationFailed.Code, 1500, 7, []int64{1500}
			resp.Topics = []kmsg.ListOffsetsResponseTopic{{Topic: "mirror", Partitions: []kmsg.ListOffsetsResponseTopicPartition{p}}}
			return resp
		})
		if out.closed != nil || w.looks > 0 || w.timeSeeks > 0 {
			t.Errorf("ListOffsets v%d: %d looks, %d by timestamp: %v", version, w.looks, w.timeSeeks, out.closed)
		}
	}
	epoch := kmsg.NewPtrOffsetForLeaderEpochRequest()
	epoch.Version = 4
	_, out = send(w, epoch, func(*kmsg.OffsetForLeaderEpochRequest) *kmsg.OffsetForLeaderEpochResponse {
		resp := kmsg.NewPtrOffsetForLeaderEpochResponse()
		p := kmsg.NewOffsetForLeaderEpochResponseTopicPartition()
		p.ErrorCode, p.EndOffset = kerr.TopicAuthorizationFailed.Code, 1500
		resp.Topics = []kmsg.OffsetForLeaderEpochResponseTopic{{Topic: "mirror", Partitions: []kmsg.OffsetForLeaderEpochResponseTopicPartition{p}}}
		return resp
	})
	if out.closed != nil || w.looks > 0 {
		t.Errorf("OffsetForLeaderEpoch: %d looks: %v", w.looks, out.closed)
	}
}

// A broker that does not report rights still shows who may describe a topic.
func TestLooksWhereTheBrokerTellsNoRights(t *testing.T) {
	for _, forbidden := range []bool{false, true} {
		w := newHotWorld(t)
		manyRuns(w)
		w.cannotTell, w.forbidden = true, map[string]bool{"mirror": forbidden}
		if _, out := send(w, fetchAt("mirror", 2000), noRecords); out.closed != nil || (w.looks == 0) != forbidden {
			t.Errorf("forbidden %v: %d looks: %v", forbidden, w.looks, out.closed)
		}
	}
}

// klink asks for rights rarely, and only when it needs a look.
func TestRightsAreRemembered(t *testing.T) {
	w := newHotWorld(t)
	manyRuns(w)
	for i, c := range []struct {
		offset int64
		asked  int
	}{{100, 0}, {2000, 1}, {1000, 1}, {3000, 1}} {
		if _, out := send(w, fetchAt("mirror", c.offset), noRecords); out.closed != nil || w.asked != c.asked {
			t.Errorf("fetch %d: rights on %d topics were asked for, want %d: %v", i, w.asked, c.asked, out.closed)
		}
	}
	w.later()
	if _, out := send(w, fetchAt("mirror", 500), noRecords); out.closed != nil || w.asked != 2 {
		t.Errorf("later: rights on %d topics were asked for: %v", w.asked, out.closed)
	}
	// A request with more mirrors than fit into one question about rights is still answered.
	sn := &Snapshot{Complete: true, Mirrors: map[string]*Mirror{}}
	req := fetchAt("mirror", 0)
	req.Version, req.Topics = 12, nil
	for i := range 2*maxRights + 10 {
		name := fmt.Sprint("mirror-", i)
		sn.Mirrors[name] = &Mirror{Topic: name, ReadOnly: true, Timelines: []*timeline.Partition{timeline.Open(0, 100, 100)}}
		w.logs[at{name, 0}] = w.logs[at{"mirror", 0}]
		req.Topics = append(req.Topics, fetchAt(name, 200).Topics[0])
	}
	w.router.Publish(sn)
	w.asked = 0
	if _, out := send(w, req, noRecords); out.closed != nil || w.asked != maxAskedRights {
		t.Errorf("rights on %d topics were asked for: %v", w.asked, out.closed)
	}
}

// klink remembers that an offset is beyond the end, but never answers OFFSET_OUT_OF_RANGE by a look
// that began before the client asked.
func TestTheEndIsRemembered(t *testing.T) {
	w := newHotWorld(t)
	manyRuns(w)
	fetch := func() (asked int64, code int16) {
		resp, out := send(w, fetchAt("mirror", 5000), func(req *kmsg.FetchRequest) *kmsg.FetchResponse {
			asked = req.Topics[0].Partitions[0].FetchOffset
			resp := kmsg.NewPtrFetchResponse()
			p := kmsg.NewFetchResponseTopicPartition()
			p.ErrorCode, p.HighWatermark = kerr.OffsetOutOfRange.Code, -1
			resp.Topics = []kmsg.FetchResponseTopic{{TopicID: req.Topics[0].TopicID, Partitions: []kmsg.FetchResponseTopicPartition{p}}}
			return resp
		})
		if out.closed != nil {
			t.Fatal(out.closed)
		}
		return asked, resp.Topics[0].Partitions[0].ErrorCode
	}
	for i, want := range []struct {
		code  int16
		looks int
	}{{kerr.OffsetOutOfRange.Code, 1}, {kerr.NotLeaderForPartition.Code, 0}, {kerr.NotLeaderForPartition.Code, 0}} {
		w.looks = 0
		if asked, code := fetch(); asked != -1 || code != want.code || w.looks != want.looks {
			t.Errorf("fetch %d: asked for %d, error %d, %d looks", i, asked, code, w.looks)
		}
	}
	w.later()
	w.looks = 0
	if _, code := fetch(); code != kerr.OffsetOutOfRange.Code || w.looks != 1 {
		t.Errorf("later: error %d after %d looks", code, w.looks)
	}
}

// The same look is made once, however many clients ask for it meanwhile. If the client that made it
// has gone, the next one makes it again.
func TestTheSameLookIsMadeOnce(t *testing.T) {
	d := newDesk()
	key := lookKey{timeline.Open(0, 0, 0), 7}
	gone, cancel := context.WithCancel(context.Background())
	begun, end := make(chan struct{}), make(chan struct{})
	var made, fresh atomic.Int64
	var work sync.WaitGroup
	work.Go(func() {
		_, err := d.look(gone, &share{}, key, func(ctx context.Context) error {
			close(begun)
			<-ctx.Done()
			return ctx.Err()
		})
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	<-begun
	for range 50 {
		work.Go(func() {
			f, err := d.look(context.Background(), &share{}, key, func(context.Context) error {
				made.Add(1)
				<-end
				return nil
			})
			if err != nil {
				t.Error(err)
			}
			if f {
				fresh.Add(1)
			}
		})
	}
	cancel()
	close(end)
	work.Wait()
	if made.Load() != 1 || fresh.Load() != 1 {
		t.Errorf("made %d times, fresh for %d", made.Load(), fresh.Load())
	}
}

// A connection with many looks takes turns with one that has few: the latter waits for as many
// other looks as there are connections.
func TestLooksTakeTurns(t *testing.T) {
	d := newDesk()
	waits := func(s *share, want int) {
		t.Helper()
		waitUntil(t, func() bool { d.mu.Lock(); defer d.mu.Unlock(); return len(s.turns)+s.active == want })
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ask := func(s *share) { go func() { _ = d.turn(ctx, s) }() }
	greedy := make([]share, maxLooking/maxSessionLooking+3)
	for i := range greedy {
		for range 100 {
			ask(&greedy[i])
		}
		waits(&greedy[i], 100)
	}
	for i := range greedy {
		if greedy[i].active > maxSessionLooking {
			t.Errorf("connection %d makes %d looks at a time", i, greedy[i].active)
		}
	}
	honest := &share{}
	ask(honest)
	waits(honest, 1)
	ended := 0
	for ; honest.active == 0 && ended < 100; ended++ {
		if d.active != maxLooking {
			t.Fatalf("%d looks at a time", d.active)
		}
		for i := range greedy {
			if greedy[(ended+i)%len(greedy)].active > 0 {
				d.leave(&greedy[(ended+i)%len(greedy)])
				break
			}
		}
	}
	if ended > 2*len(greedy) {
		t.Errorf("the look of a connection with one waited for %d others, of %d connections", ended, len(greedy))
	}
}

// All connections together stay within the window.
func TestLooksOfAllAreBounded(t *testing.T) {
	d := newDesk()
	start := time.Unix(1000, 0)
	var ms, made atomic.Int64
	var enough atomic.Bool
	d.now = func() time.Time { return start.Add(time.Duration(ms.Load()) * time.Millisecond) }
	var work sync.WaitGroup
	for range totalLooks/sessionLooks + 3 {
		s := &share{}
		for range 8 {
			work.Go(func() {
				for !enough.Load() {
					if d.spend(context.Background(), s, func(context.Context) error { made.Add(1); return nil }) != nil {
						return
					}
				}
			})
		}
	}
	waitUntil(t, func() bool { d.mu.Lock(); defer d.mu.Unlock(); return made.Load() >= totalLooks && len(d.waiting) > 0 })
	d.mu.Lock()
	if made.Load() > totalLooks || d.count.used != totalLooks || len(d.waiting) == 0 {
		t.Errorf("%d looks in one window, %d connections wait", made.Load(), len(d.waiting))
	}
	ms.Store(lookWindow.Milliseconds())
	d.serve()
	d.mu.Unlock()
	waitUntil(t, func() bool { return made.Load() > totalLooks })
	enough.Store(true)
	done := make(chan struct{})
	go func() { work.Wait(); close(done) }()
	waitUntil(t, func() bool {
		select {
		case <-done:
			return true
		default:
			ms.Add(lookWindow.Milliseconds())
			d.mu.Lock()
			d.serve()
			d.mu.Unlock()
			return false
		}
	})
}

func waitUntil(t *testing.T, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it does not come to pass")
		}
	}
}
