package replicator

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"klink/admin/linkconfig"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestFetchesNameWhatHasMoved: in a session a fetch names the partitions whose position has
// changed, however many are mirrored. Nothing is lost when the broker drops the session.
func TestFetchesNameWhatHasMoved(t *testing.T) {
	const partitions = 60
	w, src, _ := embedded(t)
	w.topics("orders", partitions)
	for p := range int32(partitions) {
		w.produce("orders", p, 2, 20)
	}
	requests, named, all := 0, 0, 0
	src.ControlKey(int16(kmsg.Fetch), func(kreq kmsg.Request) (kmsg.Response, error, bool) { // one at a time
		src.KeepControl()
		req := kreq.(*kmsg.FetchRequest)
		if req.SessionEpoch < 0 {
			return nil, nil, false // not ours
		}
		n := 0
		for _, rt := range req.Topics {
			n += len(rt.Partitions)
		}
		if req.SessionEpoch == 0 {
			all++
		} else {
			requests, named = requests+1, named+n
			if n > partitions/2 && requests > 20 {
				t.Errorf("fetch %d of a session names %d partitions", requests, n)
			}
		}
		return nil, nil, false
	})
	w.mirror("orders")
	w.run()
	w.awaitCaughtUp("orders")
	lost := src.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Err: kerr.FetchSessionIDNotFound, Count: 1, When: func(r kmsg.Request) bool {
		return r.(*kmsg.FetchRequest).SessionEpoch > 5
	}})
	for round := range int32(40) {
		w.produce("orders", round*7%partitions, 2, 20)
		w.awaitCaughtUp("orders")
	}
	w.same("orders")
	if n := w.r.Stats().Sessions; n != 1 {
		t.Errorf("%d sessions at one broker", n)
	}
	w.stop()
	if n := w.r.Stats().Sessions; n != 0 {
		t.Errorf("%d sessions after the end", n)
	}
	t.Logf("%d fetches in sessions named %d partitions, %d began one; the broker dropped %d", requests, named, all, lost.Hits())
	if all == 0 || requests == 0 || named > 4*requests+3*partitions {
		t.Errorf("%d fetches in sessions named %d partitions, %d began one", requests, named, all)
	}
}

// TestStatusWithoutNews: a partition without news in a session counts as caught up now, not as of
// when a response last named it.
func TestStatusWithoutNews(t *testing.T) {
	w, _, _ := embedded(t)
	w.topics("orders", 2)
	w.produce("orders", 0, 2, 20)
	w.mirror("orders")
	w.run()
	w.awaitCaughtUp("orders")
	before := w.r.Status("orders")
	w.await("another answer", func() (bool, string) {
		for p, s := range w.r.Status("orders") {
			if !s.LastFetch.After(before[p].LastFetch) || !s.CaughtUp.After(before[p].CaughtUp) {
				return false, ""
			}
		}
		return true, ""
	})
}

// TestAFullPartitionIsSoonAskedForAgain: while the queue of a partition is full, a fetch of others
// without data waits only a few milliseconds. Otherwise the queue would run dry.
func TestAFullPartitionIsSoonAskedForAgain(t *testing.T) {
	w, src, dst := embedded(t)
	w.cfg.MemoryBytes = 1 << 20
	w.topics("idle", 1)
	w.topics("orders", 1)
	w.produce("idle", 0, 1, 20)
	for range 60 {
		w.produce("orders", 0, 1, 20_000)
	}
	let := make(chan struct{})
	var once sync.Once
	release := func() { once.Do(func() { close(let) }) }
	defer release()
	w.mirror("idle")
	w.run()
	w.awaitCaughtUp("idle")
	dst.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		dst.SleepControl(func() { <-let })
		return nil, nil, false
	})
	var short atomic.Int32 // fetches while orders is held up
	src.ControlKey(int16(kmsg.Fetch), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		src.KeepControl()
		if kreq.(*kmsg.FetchRequest).MaxWaitMillis <= 3 {
			short.Add(1)
		}
		return nil, nil, false
	})
	w.mirror("orders")
	w.await("short fetches", func() (bool, string) { return short.Load() >= 2, fmt.Sprint(short.Load()) })
	release()
	w.awaitCaughtUp("idle")
	w.awaitCaughtUp("orders")
	w.same("orders")
}

// TestPartitionsThatAreLeftOutKeepNobodyBusy: the longer partitions are left out and no data comes,
// the longer a fetch of the others waits, up to the usual wait. With data, or without such
// partitions, the wait starts again from its beginning.
func TestPartitionsThatAreLeftOutKeepNobodyBusy(t *testing.T) {
	f := &fetcher{s: &source{cfg: linkconfig.Replication{MaxWait: 500 * time.Millisecond}}}
	began := time.Now()
	for _, c := range []struct {
		after, wait, want time.Duration
	}{
		{0, 500 * time.Millisecond, 500 * time.Millisecond},
		{time.Second, maxWaitFull, maxWaitFull},
		{time.Second + 4*time.Millisecond, maxWaitFull, maxWaitFull},
		{time.Second + 40*time.Millisecond, maxWaitFull, 10 * time.Millisecond},
		{time.Second + 40*time.Millisecond, maxWaitBusy, maxWaitBusy},
		{2 * time.Second, maxWaitBusy, 250 * time.Millisecond},
		{time.Minute, maxWaitBusy, 500 * time.Millisecond},
		{time.Minute, 500 * time.Millisecond, 500 * time.Millisecond},
		{2 * time.Minute, maxWaitBusy, maxWaitBusy},
	} {
		if got := f.nextWait(c.wait, began.Add(c.after)); got != c.want {
			t.Errorf("after %v: %v, want %v", c.after, got, c.want)
		}
	}
}
