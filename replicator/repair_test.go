package replicator

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"klink/internal/batchtest"

	"klink/admin/model"
	"klink/internal/kafkatest"
	"klink/protocol/batch"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// keptByCleaner returns what a log cleaner keeps of a log in the end: the last value of each key.
// Like the cleaner, it looks at nothing else.
func keptByCleaner(records []*kgo.Record) map[string]string {
	kept := map[string]string{}
	for _, r := range records {
		if delete(kept, string(r.Key)); r.Value != nil {
			kept[string(r.Key)] = string(r.Value)
		}
	}
	return kept
}

// tables returns a world with an idle compacted mirror on embedded clusters, which clean nothing.
func tables(t *testing.T) (w *world, src, dst *kfake.Cluster) {
	w, src, dst = embedded(t)
	w.topics("table", 2)
	w.mirror("table")
	w.control.setMirror("table", func(m *model.Mirror) { m.CleanupPolicy, m.Created = "compact", true })
	w.run()
	w.awaitState("table", model.MirrorActive)
	return w, src, dst
}

// someKeys returns up to n records of few keys; some are tombstones.
func someKeys(rnd *rand.Rand, who string, n int) (records []*kgo.Record) {
	for i := range 1 + rnd.IntN(n) {
		r := &kgo.Record{Key: fmt.Appendf(nil, "k%d", rnd.IntN(12)), Value: fmt.Appendf(nil, "%s %d %d", who, rnd.Uint32(), i)}
		if rnd.IntN(5) == 0 {
			r.Value = nil
		}
		records = append(records, r)
	}
	return records
}

// stop stops the mirror, and returns the report of its end.
func (w *world) stopMirror(topic string) model.Event {
	w.t.Helper()
	w.control.setState(topic, model.MirrorPendingStopped)
	w.awaitState(topic, model.MirrorStopped)
	w.control.mu.Lock()
	defer w.control.mu.Unlock()
	for _, ev := range slices.Backward(w.control.events) {
		if ev.Kind == model.EventMirrorDrained && ev.Topic == topic {
			return ev
		}
	}
	w.t.Fatal("no report of the end")
	return model.Event{}
}

// checkTables checks, for each partition, what a cleaner keeps once mirroring has stopped against
// what it keeps at the source.
func (w *world) checkTables() {
	w.t.Helper()
	for p := range int32(2) {
		want := keptByCleaner(w.read(w.src, "table", p))
		got := keptByCleaner(w.read(w.dst, "table", p))
		if !maps.Equal(got, want) {
			w.t.Errorf("partition %d: the destination's cleaner keeps %v, the source's %v", p, got, want)
		}
	}
}

func (w *world) read(c cluster, topic string, partition int32) (records []*kgo.Record) {
	w.t.Helper()
	for _, r := range kafkatest.ReadAll(w.t, topic, kgo.SeedBrokers(c.seeds...)) {
		if r.Partition == partition && !r.Attrs.IsControl() {
			records = append(records, r)
		}
	}
	return records
}

// TestRepairs: a compacted mirror gets void batches of any kind: foreign or doubled, before or
// after the records that count, with keys that the source has or not. Once mirroring has stopped,
// the destination's cleaner keeps the same record of each key as the source's.
func TestRepairs(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 7))
			w, _, _ := tables(t)
			w.r.voidKeys = []int{maxVoidKeys, 3}[seed%2]
			codecs := []kgo.CompressionCodec{kgo.NoCompression(), kgo.GzipCompression(), kgo.Lz4Compression(), kgo.ZstdCompression(), kgo.SnappyCompression()}
			source := w.src.compressed(t, codecs[int(seed)%len(codecs)])
			for range 25 {
				p := rnd.Int32N(2)
				switch rnd.IntN(4) {
				case 0, 1:
					send(t, source, "table", p, someKeys(rnd, "source", 8)...)
				case 2:
					appendBatch(t, w.dst.cl, "table", p, someKeys(rnd, "a stranger", 4)...)
				case 3: // doubled, now or late
					if b := w.batches("table", p); len(b) > 0 {
						h := batch.Header(b[rnd.IntN(len(b))])
						h.SetBaseOffset(0) // as it was sent
						h.SetLeaderEpoch(-1)
						appendBytes(t, w.dst.cl, "table", p, h)
					}
				}
				if rnd.IntN(3) == 0 {
					w.awaitCaughtUp("table")
				}
			}
			w.awaitCaughtUp("table")
			ev := w.stopMirror("table")
			if ev.Unrepaired != "" {
				t.Fatal(ev.Unrepaired)
			}
			w.checkTables()
			for p := range int32(2) {
				for _, b := range w.batches("table", p) {
					if h := batch.Header(b); h.BaseOffset() >= ev.PhysicalEnds[p] && batch.Counts(h) {
						t.Errorf("a batch of the mirror stands at %d, behind its end %d", h.BaseOffset(), ev.PhysicalEnds[p])
					}
				}
			}
			if m := w.control.mirror("table"); m.Error != "" {
				t.Errorf("%s: %s", m.Error, m.ErrorMessage)
			}
		})
	}
}

// batches returns the batches of a partition at the destination.
func (w *world) batches(topic string, partition int32) (all [][]byte) {
	w.t.Helper()
	d := w.r.dest
	log := newMirrorLog(d, d.clients[0], topic, w.detail(w.dst, topic).ID, partition)
	start, end, err := log.ends(w.t.Context())
	if err != nil || start == end {
		return nil
	}
	if err := log.walk(w.t.Context(), start, end, func(h batch.Header) error {
		all = append(all, slices.Clone(h))
		return nil
	}); err != nil {
		w.t.Fatal(err)
	}
	return all
}

// TestRepairIsRepeated: a repair that fails is done again, and what it appended before does no
// harm. A repair that is impossible is reported by name, and does not hold up the stop.
func TestRepairIsRepeated(t *testing.T) {
	begin := func(t *testing.T) (w *world, dst *kfake.Cluster) {
		w, _, dst = tables(t)
		appendBatch(t, w.src.cl, "table", 0, &kgo.Record{Key: []byte("a"), Value: []byte("1")}, &kgo.Record{Key: []byte("b"), Value: []byte("2")})
		w.awaitCaughtUp("table")
		appendBatch(t, w.dst.cl, "table", 0, &kgo.Record{Key: []byte("a"), Value: []byte("x")}, &kgo.Record{Key: []byte("c"), Value: []byte("x")})
		return w, dst
	}
	t.Run("refused a few times", func(t *testing.T) {
		w, dst := begin(t)
		dst.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "table", Err: kerr.NotLeaderForPartition, Count: 2})
		if ev := w.stopMirror("table"); ev.Unrepaired != "" || ev.PhysicalEnds[0] != 4 || ev.Ended[0].Logical != 2 {
			t.Errorf("%+v", ev)
		}
		w.checkTables()
	})
	t.Run("the cleaner may have been faster", func(t *testing.T) {
		w, _ := begin(t)
		w.control.setMirror("table", func(m *model.Mirror) { m.Void = []model.VoidBatches{{Partition: 0, From: 2, To: 4, Offsets: 2}} })
		if ev := w.stopMirror("table"); ev.Unrepaired != "" || !strings.HasPrefix(ev.Message, "1 keys of void batches have no record in the mirror") {
			t.Errorf("%+v", ev)
		}
		w.checkTables()
	})
	t.Run("refused for good", func(t *testing.T) {
		w, dst := begin(t)
		dst.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "table", Err: kerr.MessageTooLarge, Count: -1})
		if ev := w.stopMirror("table"); !strings.Contains(ev.Unrepaired, "MESSAGE_TOO_LARGE") || ev.PhysicalEnds[0] != 4 {
			t.Errorf("%+v", ev)
		}
	})
	t.Run("damaged", func(t *testing.T) {
		w, _ := begin(t)
		bad := batchtest.HeaderOnly(0, 3, 0, 40) // its records are none
		appendBytes(t, w.dst.cl, "table", 0, bad)
		if ev := w.stopMirror("table"); !strings.Contains(ev.Unrepaired, "malformed") {
			t.Errorf("%+v", ev)
		}
	})
	t.Run("nothing void", func(t *testing.T) {
		w, _, _ := tables(t)
		w.produce("table", 0, 3, 10)
		w.awaitCaughtUp("table")
		if ev := w.stopMirror("table"); ev.Unrepaired != "" || ev.PhysicalEnds[0] != 3 {
			t.Errorf("%+v", ev)
		}
		if n := len(w.read(w.dst, "table", 0)); n != 3 {
			t.Errorf("%d records", n)
		}
	})
}

// TestIdleLook: klink finds what somebody else appends to an idle mirror.
func TestIdleLook(t *testing.T) {
	w, _, _ := tables(t)
	appendBatch(t, w.src.cl, "table", 0, &kgo.Record{Key: []byte("a"), Value: []byte("1")})
	w.awaitCaughtUp("table")
	w.r.lookAtEnds(t.Context())
	if m := w.control.mirror("table"); len(m.Void) != 0 {
		t.Fatalf("%+v", m.Void)
	}
	appendBatch(t, w.dst.cl, "table", 1, &kgo.Record{Key: []byte("b"), Value: []byte("x")}, &kgo.Record{Key: []byte("c"), Value: []byte("x")})
	w.await("it to be found", func() (bool, string) {
		w.r.lookAtEnds(t.Context())
		m := w.control.mirror("table")
		return len(m.Void) == 1 && m.Void[0].Partition == 1 && m.Void[0].From == 0 && m.Void[0].To == 2 && m.Void[0].Foreign == 2, fmt.Sprintf("%+v", m.Void)
	})
	appendBatch(t, w.src.cl, "table", 1, &kgo.Record{Key: []byte("b"), Value: []byte("2")})
	w.awaitCaughtUp("table")
	w.same("table")
}

// TestCleanerWasFaster: if the cleaner removed records of a mirror before klink saw the void
// batches, a comparison with the source finds that.
func TestCleanerWasFaster(t *testing.T) {
	w, _, _ := tables(t)
	for _, r := range []*kgo.Record{
		{Key: []byte("a"), Value: []byte("1")}, {Key: []byte("b"), Value: []byte("1")}, {Key: []byte("b")}, {Key: []byte("c"), Value: []byte("1")},
	} {
		appendBatch(t, w.src.cl, "table", 0, r)
	}
	w.awaitCaughtUp("table")
	// As if a cleaner had taken the records of a and b: those of b are not lost, as their last one
	// is a tombstone.
	if _, err := kadm.NewClient(w.dst.cl).DeleteRecords(t.Context(), kadm.Offsets{"table": {0: {Topic: "table", At: 3}}}); err != nil {
		t.Fatal(err)
	}
	for what, r := range map[string]*kgo.Record{"b": {Key: []byte("b"), Value: []byte("x")}, "d": {Key: []byte("d"), Value: []byte("x")}, "c": {Key: []byte("c"), Value: []byte("x")}} {
		appendBatch(t, w.dst.cl, "table", 0, r)
		w.r.lookAtEnds(t.Context())
		w.await("nothing to be lost of "+what, func() (bool, string) {
			m := w.control.mirror("table")
			return m.State == model.MirrorActive && len(m.Void) == 1 && m.Void[0].Safe && m.Void[0].To > 4, fmt.Sprintf("%+v", m)
		})
	}
	appendBatch(t, w.dst.cl, "table", 0, &kgo.Record{Key: []byte("a"), Value: []byte("x")})
	w.r.lookAtEnds(t.Context())
	m := w.awaitState("table", model.MirrorFailed)
	if m.Error != model.ErrRecordsCompacted || !strings.Contains(m.ErrorMessage, `1 keys, among them source offset 0 (key "a")`) {
		t.Errorf("%+v", m)
	}
}

// TestUntouched: the cleaner has not been where a record is younger than the lag.
func TestUntouched(t *testing.T) {
	now := time.UnixMilli(1_700_000_000_000)
	const lag = int64(model.MinCompactionLag / time.Millisecond)
	for _, c := range []struct {
		name            string
		passing, newest time.Duration // how long ago
		lag             int64
		want            bool
	}{
		{"a moment ago", time.Hour, time.Second, lag, true},
		{"behind a young record", time.Second, time.Hour, lag, true},
		{"old", time.Hour, time.Hour, lag, false},
		{"nearly old", time.Hour, model.MinCompactionLag - time.Second, lag, false},
		{"a shorter lag", time.Second, time.Second, lag - 1, false},
		{"a longer lag, which may be new", time.Hour, time.Hour, 1 << 40, false},
		{"not compacted", time.Hour, time.Hour, 1<<63 - 1, true},
		{"in the future", time.Hour, -time.Hour, lag, true},
	} {
		v := voidSpan{passing: now.Add(-c.passing).UnixMilli()}
		h := batch.Header(batchtest.HeaderOnly(7, 3, 0, 0))
		putTime(h, now.Add(-c.newest).UnixMilli())
		v.see(h, 7, 10, false)
		if got := v.untouched(now, c.lag); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

// putTime sets the largest timestamp of a batch; its checksum does not matter here.
func putTime(b []byte, at int64) { binary.BigEndian.PutUint64(b[35:], uint64(at)) }
