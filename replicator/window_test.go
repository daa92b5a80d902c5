package replicator

import (
	"sync/atomic"
	"testing"

	"klink/admin/model"
	"klink/protocol/batch"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// windowWorld returns a world whose batches are not joined, with a source that has many.
func windowWorld(t *testing.T, partitions int32) (w *world, dst *kfake.Cluster) {
	w, _, dst = embedded(t)
	w.configs["append.join.below"] = "0"
	w.topics("orders", partitions)
	for i := range 300 {
		for p := range partitions {
			w.produce("orders", p, 1+i%3, 20)
		}
	}
	return w, dst
}

func (w *world) windows(t *testing.T, least int64) {
	t.Helper()
	c := w.r.metrics.link(linkName)
	n, batches := c.Windows.Load(), c.WindowBatches.Load()
	if batches < least || batches < 2*n {
		t.Errorf("%d windows with %d batches", n, batches)
	}
	if m := w.control.mirror("orders"); m.State == model.MirrorFailed {
		t.Errorf("failed: %s", m.ErrorMessage)
	}
}

// TestWindows: batches that have queued up are sent without a pause, one per request, with acks=1
// except in the last request.
func TestWindows(t *testing.T) {
	for _, partitions := range []int32{1, 3} {
		w, dst := windowWorld(t, partitions)
		var acks [2]atomic.Int64
		var following atomic.Int64
		dst.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
			dst.KeepControl()
			if req.(*kmsg.ProduceRequest).Acks == 1 {
				acks[0].Add(1)
			} else {
				acks[1].Add(1)
			}
			for _, p := range req.(*kmsg.ProduceRequest).Topics[0].Partitions {
				if _, flags, _, _ := batch.ReadStamp(p.Records); flags&batch.FlagFollows != 0 {
					following.Add(1)
				}
			}
			return nil, nil, false
		})
		w.mirror("orders")
		w.run()
		w.awaitCaughtUp("orders")
		w.same("orders")
		for p := range partitions {
			w.sameBatches("orders", p, 0)
		}
		w.windows(t, 100)
		if void := w.void("orders"); void != "" {
			t.Errorf("void: %s", void)
		}
		// Every append of a window but the first follows on another.
		if c := w.r.metrics.link(linkName); following.Load() != c.WindowBatches.Load()-c.Windows.Load() {
			t.Errorf("%d batches follow; %d windows have %d batches", following.Load(), c.Windows.Load(), c.WindowBatches.Load())
		}
		if one, all := acks[0].Load(), acks[1].Load(); one < 100 || all == 0 || all > one {
			t.Errorf("%d requests with acks=1, %d with acks=all", one, all)
		}
	}
}

// TestWindowsWithFaults: requests in the middle of windows fail, and may have been carried out;
// every record arrives once.
func TestWindowsWithFaults(t *testing.T) {
	for _, err := range []*kerr.Error{kerr.NotLeaderForPartition, kerr.RequestTimedOut, kerr.KafkaStorageError, kerr.InvalidRecord} {
		t.Run(err.Message, func(t *testing.T) {
			w, dst := windowWorld(t, 2)
			var requests atomic.Int64
			dst.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
				dst.KeepControl()
				p := req.(*kmsg.ProduceRequest)
				if n := requests.Add(1); n%23 != 0 || n > 200 {
					return nil, nil, false
				}
				resp := p.ResponseKind().(*kmsg.ProduceResponse)
				for _, asked := range p.Topics {
					rt := kmsg.NewProduceResponseTopic()
					rt.Topic, rt.TopicID = asked.Topic, asked.TopicID
					for _, q := range asked.Partitions {
						rp := kmsg.NewProduceResponseTopicPartition()
						rp.Partition, rp.ErrorCode, rp.BaseOffset = q.Partition, err.Code, -1
						rt.Partitions = append(rt.Partitions, rp)
					}
					resp.Topics = append(resp.Topics, rt)
				}
				return resp, nil, true
			})
			w.mirror("orders")
			w.run()
			if err == kerr.InvalidRecord {
				// The mirror fails if a batch is refused as the first of its window. A batch that
				// was refused later in a window is sent again first.
				w.await("the mirror to fail, or to have all", func() (bool, string) {
					ends := w.r.Status("orders")
					done := len(ends) == 2 && ends[0].MirrorEnd == 600 && ends[1].MirrorEnd == 600
					return w.control.mirror("orders").State == model.MirrorFailed || done, ""
				})
				return
			}
			w.awaitCaughtUp("orders")
			w.same("orders")
			w.windows(t, 20)
		})
	}
}

// TestWindowsNeedTheEpoch: if no leader epoch can be compared, only one append is sent at a time.
func TestWindowsNeedTheEpoch(t *testing.T) {
	w, dst := windowWorld(t, 1)
	var fenced atomic.Int64
	dst.ControlKey(int16(kmsg.ListOffsets), func(req kmsg.Request) (kmsg.Response, error, bool) {
		dst.KeepControl()
		p := req.(*kmsg.ListOffsetsRequest)
		if p.ReplicaID != -1 || p.Topics[0].Partitions[0].Timestamp != timestampLatest || w.r.metrics.link(linkName).AppendedBatches.Load() == 0 || fenced.Load() == 5 {
			return nil, nil, false
		}
		if epoch := p.Topics[0].Partitions[0].CurrentLeaderEpoch; epoch < 0 {
			t.Error("the end of a window is asked for without the leader epoch: a leader that came back would answer, too")
		}
		fenced.Add(1)
		resp := p.ResponseKind().(*kmsg.ListOffsetsResponse)
		rt := kmsg.NewListOffsetsResponseTopic()
		rt.Topic = p.Topics[0].Topic
		rp := kmsg.NewListOffsetsResponseTopicPartition()
		rp.ErrorCode = kerr.FencedLeaderEpoch.Code
		rt.Partitions = append(rt.Partitions, rp)
		resp.Topics = append(resp.Topics, rt)
		return resp, nil, true
	})
	w.mirror("orders")
	w.run()
	w.awaitCaughtUp("orders")
	w.same("orders")
	if void := w.void("orders"); void != "" {
		t.Errorf("void: %s", void)
	}
	if n := w.r.metrics.link(linkName).Settled.Load(); n == 0 || fenced.Load() == 0 {
		t.Errorf("%d windows were settled by reading the log, after %d answers of another epoch", n, fenced.Load())
	}
}

// TestNovelBatchesEndAWindow: a batch that is larger than any that the destination has accepted, or
// of another codec, ends its window. If it is refused, there is no batch behind it that would be
// void.
func TestNovelBatchesEndAWindow(t *testing.T) {
	var a accepted
	small, large := batch.Header(make([]byte, 100)), batch.Header(make([]byte, 200))
	if !a.novel(small) {
		t.Error("the first batch")
	}
	a.add(len(small), kindOf(small))
	zstd, appendTime := batch.Header(make([]byte, 100)), batch.Header(make([]byte, 100))
	zstd[22], appendTime[22] = 4, 8
	for name, c := range map[string]struct {
		b    batch.Header
		want bool
	}{"the same": {small, false}, "larger": {large, true}, "zstd": {zstd, true}, "LogAppendTime": {appendTime, true}} {
		if a.novel(c.b) != c.want {
			t.Errorf("%s: novel %v", name, !c.want)
		}
	}
	a.add(len(large), kindOf(large))
	if a.novel(small) || a.novel(large) {
		t.Error("what was taken is novel")
	}
}

// TestRoundsAreUsedAgain: a lane keeps the memory of its longest window, however long the next ones
// are.
func TestRoundsAreUsedAgain(t *testing.T) {
	l := &lane{byTopic: map[topicIn]int{}}
	m := &mirror{}
	for n := range 1000 {
		l.jobs = l.jobs[:0]
		for p, of := range []int{1 + n%maxWindow, 1 + n%7} {
			w := &worker{m: m, id: int32(p)}
			for nth := range of {
				l.jobs = append(l.jobs, appendJob{w: w, next: -1, of: of, nth: nth})
			}
		}
		l.plan()
		last := len(l.rounds) - 1
		if want := max(1+n%maxWindow, 1+n%7); len(l.rounds) != want {
			t.Fatalf("%d rounds, want %d", len(l.rounds), want)
		}
		for at := range l.jobs { // the last append of each window is in the last request
			j := &l.jobs[at]
			if r := l.rounds[last-(j.of-1-j.nth)]; len(r.topics) != 1 || at < r.topics[0].first || at > r.topics[0].last {
				t.Fatalf("append %d of %d is not in request %d", j.nth, j.of, last-(j.of-1-j.nth))
			}
		}
	}
	if cap(l.rounds) > 2*maxWindow {
		t.Errorf("%d rounds are kept", cap(l.rounds))
	}
}
