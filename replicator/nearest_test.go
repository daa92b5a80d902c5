package replicator

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"klink/admin/model"
	"klink/internal/kafkatest"
	"klink/protocol/batch"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// follower is broker 1 of a source, whose partition 0 of "orders" broker 0 leads. An embedded
// cluster has no followers, so this one answers fetches with a log that the test makes. Any field
// may be changed under mu.
type follower struct {
	src *kfake.Cluster

	mu        sync.Mutex
	preferred bool           // the leader prefers it
	stranger  bool           // the leader prefers a broker that is not in the cluster
	log       []batch.Header // what it has
	highWater int64
	logStart  int64
	code      int16               // it answers every fetch with this error
	err       error               // it closes the connection
	garble    func([]byte) []byte // of what it answers
	silent    <-chan struct{}     // it answers no fetch until this is closed
	leaderHas int64               // the leader shows no records from this offset on; 0 = all
	racks     map[string]int      // questions by rack
	fetches   int                 // that it got
	served    int                 // that it answered with records
	named     map[int32]bool      // leader epochs that these fetches named
}

// withFollower returns a world whose source has a follower. The leader of "orders" answers
// questions for the preferred replica as the follower says.
func withFollower(t *testing.T) (*world, *follower) {
	t.Helper()
	src := kafkatest.Embedded(t, 2, kfake.ClusterID("source"))
	dst := kafkatest.Embedded(t, 1, kfake.ClusterID("destination"))
	w := newWorld(t, src.ListenAddrs(), dst.ListenAddrs())
	w.configs["client.rack"] = "b"
	w.topics("orders", 1)
	f := &follower{src: src, racks: map[string]int{}, named: map[int32]bool{}}
	if err := src.MoveTopicPartition("orders", 0, 0); err != nil {
		t.Fatal(err)
	}
	src.ControlKey(int16(kmsg.Fetch), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		src.KeepControl()
		return f.answer(kreq.(*kmsg.FetchRequest), src.CurrentNode())
	})
	return w, f
}

// with changes the follower.
func (f *follower) with(change func(*follower)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

// count returns how many fetches the follower got, and how many it answered with records.
func (f *follower) count() (fetches, served int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.fetches, f.served
}

func (f *follower) answer(req *kmsg.FetchRequest, node int32) (kmsg.Response, error, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(req.Topics) != 1 || len(req.Topics[0].Partitions) != 1 {
		return nil, nil, false
	}
	asked := req.Topics[0].Partitions[0]
	resp := req.ResponseKind().(*kmsg.FetchResponse)
	rt, rp := kmsg.NewFetchResponseTopic(), kmsg.NewFetchResponseTopicPartition()
	rt.Topic, rt.TopicID = req.Topics[0].Topic, req.Topics[0].TopicID
	rp.LogStartOffset, rp.HighWatermark, rp.LastStableOffset = f.logStart, f.highWater, f.highWater
	done := func() (kmsg.Response, error, bool) {
		rt.Partitions = append(rt.Partitions, rp)
		resp.Topics = append(resp.Topics, rt)
		return resp, nil, true
	}
	switch {
	case node == 0 && req.Rack != "":
		f.racks[req.Rack]++
		if req.SessionEpoch != -1 {
			return nil, errors.New("a question that would begin a session"), true
		}
		info := f.src.PartitionInfo("orders", 0)
		rp.LogStartOffset, rp.HighWatermark, rp.LastStableOffset = info.LogStartOffset, info.HighWatermark, info.LastStableOffset
		if f.preferred {
			rp.PreferredReadReplica = 1
		}
		if f.stranger {
			rp.PreferredReadReplica = 7
		}
		return done()
	case node == 0 && f.leaderHas > 0 && asked.FetchOffset >= f.leaderHas && req.MaxBytes < 8<<20: // not a client of the test
		rp.LogStartOffset, rp.HighWatermark, rp.LastStableOffset = 0, f.leaderHas, f.leaderHas
		return done()
	case node == 0:
		return nil, nil, false
	}
	f.fetches++
	f.named[asked.CurrentLeaderEpoch] = true
	if silent := f.silent; silent != nil {
		f.mu.Unlock()
		f.src.SleepControl(func() { <-silent })
		f.mu.Lock()
	}
	if f.err != nil {
		return nil, f.err, true
	}
	if rp.ErrorCode = f.code; rp.ErrorCode != 0 {
		return done()
	}
	for _, b := range f.log {
		if b.NextOffset() > asked.FetchOffset && b.NextOffset() <= f.highWater {
			rp.RecordBatches = append(rp.RecordBatches, b...)
		}
	}
	if f.served += min(1, len(rp.RecordBatches)); f.garble != nil {
		rp.RecordBatches = f.garble(rp.RecordBatches)
	}
	return done()
}

// replicate gives the follower the leader's log.
func (f *follower) replicate(w *world) {
	log := rawBatches(w.t, w.src, "orders", 0, 0)
	f.with(func(f *follower) { f.log, f.highWater = log, log[len(log)-1].NextOffset() })
}

// begin mirrors "orders", and waits until the follower is fetched from.
func (f *follower) begin(w *world) {
	w.t.Helper()
	w.mirror("orders")
	w.run()
	w.awaitCaughtUp("orders")
	f.with(func(f *follower) { f.preferred = true })
	f.awaitFetch(w)
}

// awaitFetch waits until the follower gets another fetch.
func (f *follower) awaitFetch(w *world) {
	w.t.Helper()
	before, _ := f.count()
	w.await("a fetch from the follower", func() (bool, string) { n, _ := f.count(); return n > before, "" })
}

// TestFetchesFromTheNearestReplica: the follower that the leader prefers for the link's rack is
// fetched from, and what it has is mirrored, also of former leader epochs, after one question about
// them.
func TestFetchesFromTheNearestReplica(t *testing.T) {
	w, f := withFollower(t)
	w.produce("orders", 0, 5, 20)
	f.replicate(w)
	f.with(func(f *follower) { f.leaderHas = 5 })
	w.mirror("orders")
	w.run()
	w.awaitCaughtUp("orders")
	if n, _ := f.count(); n > 0 {
		t.Error("the follower was fetched from before its leader had preferred it")
	}
	for range 2 { // three leader epochs
		w.produce("orders", 0, 5, 20)
		if err := f.src.MoveTopicPartition("orders", 0, 0); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		w.produce("orders", 0, 5, 20)
	}
	epoch := f.src.PartitionInfo("orders", 0).Epoch
	var questions []kmsg.OffsetForLeaderEpochRequestTopicPartition
	asked(f.src, func(_ string, p kmsg.OffsetForLeaderEpochRequestTopicPartition) (r kmsg.OffsetForLeaderEpochResponseTopicPartition, ok bool) {
		f.with(func(*follower) { questions = append(questions, p) })
		return r, false
	})
	log := rawBatches(t, w.src, "orders", 0, 0)
	f.with(func(f *follower) { f.preferred, f.log, f.highWater = true, log, 30 })
	w.awaitCaughtUp("orders")
	w.same("orders")
	bytes := 0
	for _, b := range log[1:] {
		bytes += len(b)
	}
	if got := w.r.Stats().Links[linkName].FollowerBytes.Load(); got != int64(bytes) {
		t.Errorf("%d bytes from followers, want %d", got, bytes)
	}
	f.with(func(f *follower) {
		if f.racks["b"] == 0 || len(f.racks) != 1 {
			t.Errorf("questions by rack: %v", f.racks)
		}
		proofs := map[int32]int{}
		for _, q := range questions {
			if q.CurrentLeaderEpoch == epoch {
				proofs[q.LeaderEpoch]++
			}
		}
		if proofs[epoch-1] != 1 || proofs[epoch-2] == 0 || proofs[epoch-2] > 2 || len(proofs) != 2 { // one of epoch-2 may be about the last batch mirrored
			t.Errorf("under leader epoch %d the leader was asked about epochs %v", epoch, proofs)
		}
	})
}

// TestFollowerThatHasNotTruncated: after an unclean election the follower knows the new leader
// epoch, but still has, and returns, the records that the leader lost. None of them is mirrored.
// Once it has truncated its log it is fetched from again.
func TestFollowerThatHasNotTruncated(t *testing.T) {
	w, f := withFollower(t)
	w.produce("orders", 0, 5, 20)
	kafkatest.CreateTopic(t, w.src.cl, "lost", 1, -1, nil)
	if err := f.src.MoveTopicPartition("lost", 0, 0); err != nil { // the same leader epoch as orders
		t.Fatal(err)
	}
	w.produce("lost", 0, 5, 20)
	w.produce("lost", 0, 5, 33)
	lost := rawBatches(t, w.src, "lost", 0, 0)
	f.replicate(w)
	if err := f.src.MoveTopicPartition("orders", 0, 0); err != nil {
		t.Fatal(err)
	}
	epoch := f.src.PartitionInfo("orders", 0).Epoch
	if had := f.log[0].LeaderEpoch(); lost[1].LeaderEpoch() != had || epoch != had+1 || lost[1].BaseOffset() != 5 {
		t.Fatalf("the lost records begin at %d and are of leader epoch %d, the source's of %d, now %d", lost[1].BaseOffset(), lost[1].LeaderEpoch(), had, epoch)
	}
	f.begin(w)
	f.with(func(f *follower) { f.log, f.highWater = append(slices.Clone(f.log), lost[1]), 10 })
	w.await("the follower to return what the leader lost", func() (bool, string) { _, n := f.count(); return n > 0, "" })
	w.produce("orders", 0, 4, 20)
	w.produce("orders", 0, 3, 20)
	w.awaitCaughtUp("orders")
	w.same("orders")
	if st := w.r.Status("orders")[0]; st.SourceEnd != 12 {
		t.Errorf("the source ends at %d, want 12", st.SourceEnd)
	}
	f.with(func(f *follower) {
		if len(f.named) != 1 || !f.named[epoch] {
			t.Errorf("fetches from the follower named the leader epochs %v, want %d", f.named, epoch)
		}
		f.leaderHas = 12
	})

	f.replicate(w) // it has truncated its log, and caught up
	w.produce("orders", 0, 2, 20)
	f.replicate(w)
	w.awaitCaughtUp("orders")
	w.same("orders")
	w.awaitState("orders", model.MirrorActive)
}

// TestErrorsOfAFollower: whatever a follower does, the leader takes over, nothing is lost, the
// mirror does not fail, and what the follower says of where the log begins does not count.
func TestErrorsOfAFollower(t *testing.T) {
	cases := map[string]func(*follower){
		"closes the connection": func(f *follower) { f.err = errors.New("closed") },
		"garbage":               func(f *follower) { f.garble = func(b []byte) []byte { return bytes.Repeat([]byte{7}, 100) } },
		"damaged batches": func(f *follower) {
			f.garble = func(b []byte) []byte {
				b = slices.Clone(b)
				if len(b) > 0 {
					b[len(b)-1] ^= 1
				}
				return b
			}
		},
		"batches without a leader epoch": func(f *follower) {
			f.garble = func(b []byte) []byte {
				b = slices.Clone(b)
				for w := batch.Walk(b); w.Next(); {
					copy(w.Batch()[12:], []byte{255, 255, 255, 255})
				}
				return b
			}
		},
		"batches of a later leader epoch": func(f *follower) {
			f.garble = func(b []byte) []byte {
				b = slices.Clone(b)
				for w := batch.Walk(b); w.Next(); {
					w.Batch()[14] = 1
				}
				return b
			}
		},
		"a batch across the end": func(f *follower) { // as if the source were truncated and rewritten
			f.garble = func(b []byte) []byte {
				b = slices.Clone(b)
				if w := batch.Walk(b); w.Next() {
					w.Batch()[7]--
				}
				return b
			}
		},
		"nothing more": func(f *follower) { f.highWater, f.logStart, f.preferred = 3, 5, false },
	}
	for _, err := range []*kerr.Error{
		kerr.NotLeaderForPartition, kerr.OffsetOutOfRange, kerr.OffsetNotAvailable, kerr.UnknownTopicOrPartition, kerr.UnknownTopicID,
		kerr.FencedLeaderEpoch, kerr.UnknownLeaderEpoch, kerr.TopicAuthorizationFailed, kerr.KafkaStorageError, kerr.UnknownServerError,
	} {
		cases[err.Message] = func(f *follower) { f.code = err.Code }
	}
	for name, fault := range cases {
		t.Run(name, func(t *testing.T) {
			w, f := withFollower(t)
			w.produce("orders", 0, 5, 20)
			f.replicate(w)
			f.begin(w)
			f.with(fault)
			high := f.highWater
			w.produce("orders", 0, 5, 20)
			if f.replicate(w); name == "nothing more" {
				f.with(func(f *follower) { f.highWater = high })
			}
			w.awaitCaughtUp("orders")
			w.same("orders")
			m := w.awaitState("orders", model.MirrorActive)
			if st := w.r.Status("orders")[0]; st.SourceEnd != 10 || st.SourceStart != 0 || m.Error != "" {
				t.Errorf("error %q, status %+v", m.Error, st)
			}
		})
	}
}

// TestPreferredStranger: a leader that prefers a broker that metadata does not show is fetched from
// itself.
func TestPreferredStranger(t *testing.T) {
	w, f := withFollower(t)
	w.produce("orders", 0, 5, 20)
	f.with(func(f *follower) { f.stranger = true })
	w.mirror("orders")
	w.run()
	w.awaitCaughtUp("orders")
	w.await("the leader to be asked", func() (asked bool, _ string) {
		f.with(func(f *follower) { asked = f.racks["b"] >= 2 })
		return asked, ""
	})
	for range 3 {
		w.produce("orders", 0, 5, 20)
		w.awaitCaughtUp("orders")
	}
	w.same("orders")
	w.awaitState("orders", model.MirrorActive)
	if n := w.r.Stats().Links[linkName].FollowerBytes.Load(); n > 0 {
		t.Errorf("%d bytes from followers", n)
	}
}

// TestLogStartIsTheLeaders: while a follower is fetched from, the mirror follows the log start that
// the leader tells, not the follower's.
func TestLogStartIsTheLeaders(t *testing.T) {
	w, f := withFollower(t)
	w.produce("orders", 0, 5, 20)
	w.produce("orders", 0, 5, 20)
	f.replicate(w)
	f.begin(w)
	f.with(func(f *follower) { f.logStart = 9 })
	var to kadm.Offsets
	to.AddOffset("orders", 0, 4, -1)
	if rs, err := kadm.NewClient(w.src.cl).DeleteRecords(t.Context(), to); err != nil || rs.Error() != nil {
		t.Fatal(err, rs.Error())
	}
	w.await("the mirror's log start", func() (bool, string) {
		st := w.r.Status("orders")[0]
		if st.SourceStart > 4 {
			t.Fatalf("the log start of the source is said to be %d", st.SourceStart)
		}
		return st.SourceStart == 4 && st.MirrorStart == 4, fmt.Sprintf("%+v", st)
	})
	f.awaitFetch(w)
}

// TestSilentFollower: a follower that does not answer holds a partition up for a few seconds, not
// until the connection times out.
func TestSilentFollower(t *testing.T) {
	w, f := withFollower(t)
	w.configs["request.timeout.ms"] = "900000"
	w.produce("orders", 0, 5, 20)
	f.replicate(w)
	f.begin(w)
	answer := make(chan struct{})
	defer close(answer)
	f.with(func(f *follower) { f.silent = answer })
	f.awaitFetch(w)
	w.produce("orders", 0, 5, 20)
	w.awaitCaughtUp("orders")
	w.same("orders")
}

// TestRackChangesWhileAMirrorRuns: the rack is taken away, and set again, without a gap.
func TestRackChangesWhileAMirrorRuns(t *testing.T) {
	w, f := withFollower(t)
	w.produce("orders", 0, 5, 20)
	f.replicate(w)
	f.begin(w)
	set := func(rack string) {
		w.control.change(func(s *model.State) {
			l := *s.Links[linkName]
			l.Configs = map[string]string{"client.rack": rack}
			for k, v := range w.configs {
				if k != "client.rack" {
					l.Configs[k] = v
				}
			}
			s.Links[linkName] = &l
		})
	}
	set("")
	w.produce("orders", 0, 5, 20) // the follower does not get them
	w.awaitCaughtUp("orders")
	before, _ := f.count()
	for range 5 {
		w.produce("orders", 0, 2, 20)
		w.awaitCaughtUp("orders")
	}
	if after, _ := f.count(); after != before {
		t.Errorf("%d fetches from the follower without a rack", after-before)
	}
	f.replicate(w)
	set("c")
	f.awaitFetch(w)
	f.with(func(f *follower) {
		if f.racks["c"] == 0 {
			t.Errorf("questions by rack: %v", f.racks)
		}
		f.leaderHas = 20
	})
	w.produce("orders", 0, 2, 20)
	f.replicate(w)
	w.awaitCaughtUp("orders")
	w.same("orders")
}
