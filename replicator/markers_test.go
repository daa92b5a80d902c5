package replicator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"klink/internal/kafkatest"
	"klink/protocol/batch"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
	"pgregory.net/rapid"
)

func newTestFilling(l markerLog) *filling {
	return &filling{log: l, grace: testGrace, wait: backoff{low: 10 * time.Millisecond, high: 200 * time.Millisecond}}
}

// TestMarkerOutcomes: one line for each end that filling a hole of 2,500 offsets, in three requests, can have.
func TestMarkerOutcomes(t *testing.T) {
	for name, test := range map[string]struct {
		script  []fate
		want    string // in the error; "" = filled
		written int64
		end     int64
	}{
		"all goes well":                    {nil, "", 2500, 2500},
		"an answer is lost":                {[]fate{done, lostAnswer}, "", 2500, 2500},
		"a request is lost":                {[]fate{done, lostRequest}, "", 2500, 2500},
		"a request is late":                {[]fate{done, late}, "", 2500, 2500},
		"half of a request":                {[]fate{done, torn, torn}, "", 2500, 2500},
		"appended, not replicated at once": {[]fate{afterAppend}, "", 2500, 2500},
		"outages do not wear patience out": {slices.Repeat([]fate{refusedOnce}, 20), "", 2500, 2500},
		"a strange code, again and again":  {[]fate{done, unknownCode, unknownCode, unknownCode}, "REFUSED: t-0", 1000, 1000},
		"one in the middle is missing":     {[]fate{done, gap}, "MARKER_LOST: t-0", 1999, 1999},
		"given up too early":               {[]fate{tooLate, done, lostRequest}, "t-0: offsets 1000 to 1999", 1000, 2000},
		"believed lost, comes in time":     {[]fate{tooLate, lostRequest}, "", 2500, 2500},
		"somebody else's batch":            {[]fate{done, foreignBefore}, "t-0: offsets 1000 to 2001", 1000, 2002},
	} {
		t.Run(name, func(t *testing.T) {
			batch.Filler(nil, 1, 0)
			synctest.Test(t, func(t *testing.T) {
				l := &scriptedLog{next: scripted(test.script...), ctx: t.Context()}
				n, err := newTestFilling(l).fill(t.Context(), markerRun{topic: "t", logical: 50, count: 2500})
				switch {
				case test.want == "" && err != nil:
					t.Error(err)
				case test.want != "" && err == nil:
					t.Errorf("no error, want %s", test.want)
				case test.want != "":
					wantIn(t, err.Error(), test.want)
				}
				if n != test.written || l.end() != test.end {
					t.Errorf("%d markers are told and the log ends at %d, want %d and %d", n, l.end(), test.written, test.end)
				}
			})
		})
	}
}

// TestMarkersAreExact: whatever happens to requests, as long as those without an answer arrive within the grace, and however
// often the process is killed and goes on from the last stamp, the hole is filled with one marker for each of its offsets.
func TestMarkersAreExact(t *testing.T) {
	checkProperty(t, func(ctx context.Context, t *rapid.T) {
		l := &scriptedLog{next: fates(t, harmless), ctx: ctx}
		l.put(batch.Filler(nil, 7, 0)) // stands for records
		run := markerRun{topic: "t", logical: 7, physical: 7, count: int64(rapid.IntRange(1, 2500).Draw(t, "count"))}
		for cuts := 0; ; cuts++ {
			limited, cancel := ctx, context.CancelFunc(func() {})
			if cuts < 6 {
				limited, cancel = cutOff(t, ctx)
			}
			n, err := newTestFilling(l).fill(limited, run)
			cancel()
			if err == nil {
				if n != run.count {
					t.Fatalf("%d of %d markers, and no error", n, run.count)
				}
				break
			}
			if errors.Is(err, kerr.UnknownServerError) {
				return
			}
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("after %d cuts: %v", cuts, err)
			}
			// As a worker resumes: the log is quiet, and its last stamp says what comes next.
			time.Sleep(2 * testGrace)
			l.arrive()
			next, _, _, _ := batch.ReadStamp(l.batches[len(l.batches)-1])
			next = max(next+1, 7)
			if next != l.end() {
				t.Fatalf("the log ends at %d, its last stamp says that %d comes next", l.end(), next)
			}
			run = markerRun{topic: "t", logical: next, physical: next, count: run.logical + run.count - next}
		}
		for i, b := range l.batches[1:] {
			logical, _, _, ok := batch.ReadStamp(b)
			if want := int64(7 + i); !ok || !b.Control() || logical != want || b.BaseOffset() != want {
				t.Fatalf("marker %d is stamped %d and stands at %d", want, logical, b.BaseOffset())
			}
		}
		if want := run.logical + run.count; l.end() != want {
			t.Fatalf("the log ends at %d, want %d", l.end(), want)
		}
	})
}

// TestMarkersNoticeEverything: markers that are missing, doubled, or among somebody else's batches, are never taken for a
// success, and the physical range that does not belong is told.
func TestMarkersNoticeEverything(t *testing.T) {
	checkProperty(t, func(ctx context.Context, t *rapid.T) {
		l := &scriptedLog{next: fates(t, allFates), ctx: ctx}
		run := markerRun{topic: "t", logical: 50, physical: 0, count: int64(rapid.IntRange(1, 2500).Draw(t, "count"))}
		n, err := newTestFilling(l).fill(ctx, run)
		var more *surplus
		var not *notAligned
		exact := int64(0) // how many batches are the run's own, from its beginning
		for _, b := range l.batches {
			logical, _, _, ok := batch.ReadStamp(b)
			if !ok || !b.Control() || logical != run.logical+exact || exact == run.count {
				break
			}
			exact++
		}
		switch {
		case err == nil:
			// A request beyond the grace may still come between the last look at the log and the return, as it may after it:
			// the base offset of the next append tells.
			if exact != run.count || l.told != run.count || n != run.count || (l.end() != run.count && l.doubted == 0) {
				t.Fatalf("%d markers told, %d exact, the log ends at %d (told %d), want %d", n, exact, l.end(), l.told, run.count)
			}
		case errors.As(err, &more):
			if l.doubted+l.foreign == 0 || more.from > l.told || more.to != l.told || more.from != n {
				t.Fatalf("surplus [%d, %d) behind %d markers, %d exact, of a log told to end at %d: %v", more.from, more.to, n, exact, l.told, err)
			}
		case errors.As(err, &not) && not.reason == alignMarkerLost:
			if l.gaps == 0 || n != l.told {
				t.Fatalf("%d gaps, %d markers told, the log ends at %d: %v", l.gaps, n, l.told, err)
			}
		case errors.Is(err, kerr.UnknownServerError):
			if n != exact || n != l.told {
				t.Fatalf("%d markers told, %d exact, the log ends at %d", n, exact, l.told)
			}
		default:
			t.Fatal(err)
		}
	})
}

// TestMarkersEmbedded: the embedded cluster writes markers; one that does not list the request says so, and writes nothing.
func TestMarkersEmbedded(t *testing.T) {
	for _, lists := range []bool{true, false} {
		versions := kversion.Stable()
		if !lists {
			versions.SetMaxKeyVersion(int16(kmsg.WriteTxnMarkers), -1)
		}
		c := kafkatest.Embedded(t, 1, kfake.MaxVersions(versions))
		seeds := kgo.SeedBrokers(c.ListenAddrs()...)
		a := newAlignable(t, kafkatest.NewClient(t, seeds, kgo.MetadataMinAge(20*time.Millisecond)), "t", nil, seeds)
		n, err := a.fill(0, 3)
		if lists {
			if n != 3 || err != nil {
				t.Errorf("%d markers: %v", n, err)
			}
			a.wantEnds(0, 3)
			continue
		}
		wantNotAligned(t, err, alignUnsupported, "t-0", "WriteTxnMarkers")
		if n != 0 {
			t.Errorf("%d markers were counted", n)
		}
		a.wantEnds(0, 0)
	}
}

// TestMarkersRequest: partitions whose markers have the same id share an entry, and the answer is found by id and partition.
// TestMarkersOfOverlappingRuns: a broker writes the entries of a request one after the other, and partitions share entries;
// each of them gets its markers in the order of its offsets all the same.
func TestMarkersOfOverlappingRuns(t *testing.T) {
	runs := []markerRun{
		{topic: "a", partition: 1, logical: 95, count: 3},
		{topic: "a", partition: 2, logical: 94, count: 2},
		{topic: "b", partition: 1, logical: 93, count: 9},
		{topic: "a", partition: 0, logical: 0, count: 1},
	}
	written := map[string][]int64{}
	for _, m := range markersRequest(runs).Markers {
		for _, mt := range m.Topics {
			for _, p := range mt.Partitions {
				name := fmt.Sprintf("%s-%d", mt.Topic, p)
				written[name] = append(written[name], markerFirstID-m.ProducerID)
			}
		}
	}
	for _, r := range runs {
		got := written[r.name()]
		if len(got) != int(r.count) {
			t.Fatalf("%s gets the markers %v", r.name(), got)
		}
		for i, logical := range got {
			if logical != r.logical+int64(i) {
				t.Errorf("%s gets the markers %v, want %d from %d on", r.name(), got, r.count, r.logical)
				break
			}
		}
	}
}

func TestMarkersRequest(t *testing.T) {
	runs := []markerRun{
		{topic: "a", partition: 0, logical: 10, count: 3},
		{topic: "a", partition: 1, logical: 12, count: 1},
		{topic: "b", partition: 0, logical: 12, count: 1},
		{topic: "b", partition: 1, logical: 90, count: 1},
	}
	req := markersRequest(runs)
	var got []string
	resp := kmsg.NewPtrWriteTxnMarkersResponse()
	for _, m := range req.Markers {
		if m.ProducerEpoch != 0 || m.CoordinatorEpoch != 0 || !m.Committed {
			t.Errorf("marker %+v", m)
		}
		rm := kmsg.NewWriteTxnMarkersResponseMarker()
		rm.ProducerID = m.ProducerID
		for _, mt := range m.Topics {
			got = append(got, fmt.Sprintf("%d %s %v", m.ProducerID, mt.Topic, mt.Partitions))
			rt := kmsg.NewWriteTxnMarkersResponseMarkerTopic()
			rt.Topic = mt.Topic
			for _, p := range mt.Partitions {
				rp := kmsg.NewWriteTxnMarkersResponseMarkerTopicPartition()
				rp.Partition = p
				if m.ProducerID == -14 && mt.Topic == "a" && p == 0 {
					rp.ErrorCode = kerr.NotEnoughReplicas.Code // the last of the first run
				}
				rt.Partitions = append(rt.Partitions, rp)
			}
			rm.Topics = append(rm.Topics, rt)
		}
		if m.ProducerID != -92 {
			resp.Markers = append(resp.Markers, rm) // the last run is left out
		}
	}
	want := "[-12 a [0] -13 a [0] -14 a [0 1] -14 b [0] -92 b [1]]"
	if fmt.Sprint(got) != want {
		t.Errorf("markers %v, want %s", got, want)
	}
	errs := make([]error, len(runs))
	markersAnswer(resp, runs, errs)
	if !errors.Is(errs[0], kerr.NotEnoughReplicas) || errs[1] != nil || errs[2] != nil || !errors.Is(errs[3], errNotAnswered) {
		t.Errorf("results %v", errs)
	}
}
