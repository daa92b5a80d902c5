package protocol

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"klink/protocol/batch"
	"klink/protocol/timeline"
)

// voidWorld has topic mirror with one partition, whose log begins with 10 records at logical offset
// 100.
func voidWorld(v View) (*world, *timeline.Partition) {
	w := newWorld()
	if v.Timeline == nil {
		v.Timeline = timeline.Open(0, 100, 100)
	}
	w.mirrors["mirror"] = fakeMirror{v}
	return w, v.Timeline
}

// recordsAt makes a batch of n records at a physical offset, its place, with room for size bytes of
// records. logical < 0: no stamp.
func recordsAt(physical, logical int64, n, size int, flags int16) []byte {
	id := -2 - logical
	if logical < 0 {
		id = -1
	}
	b := v2Batch(physical, id, flags, 0, size)
	binary.BigEndian.PutUint32(b[23:], uint32(n-1))
	binary.BigEndian.PutUint32(b[57:], uint32(n))
	return b
}

// landed is a batch that was to land elsewhere.
func landed(physical int64, b []byte) []byte {
	b = bytes.Clone(b)
	batch.Header(b).SetBaseOffset(physical)
	return b
}

// following is a batch that was sent before the append in front of it was confirmed.
func following(b []byte) []byte {
	b = bytes.Clone(b)
	batch.SetPlaceAfter(b, batch.Header(b).BaseOffset())
	return b
}

// markerAt makes a marker that fills the hole at a logical offset.
func markerAt(physical, logical int64) []byte {
	b := v2Batch(physical, -1, 0, 1<<5, 17)
	binary.BigEndian.PutUint64(b[43:], uint64(-2-logical))
	return b
}

// Batches that do not belong into a mirror, in pieces of any size. wants are the physical offsets
// to which the next request for an offset is sent.
func TestFetchResponseVoids(t *testing.T) {
	show := func(b []byte, logical int64) []byte {
		b = bytes.Clone(b)
		binary.BigEndian.PutUint64(b, uint64(logical))
		return b
	}
	void := func(b []byte, at int64) []byte {
		b = bytes.Clone(b)
		if !batch.Void(b, at) {
			t.Fatalf("%d bytes cannot be voided", len(b))
		}
		return b
	}
	first, second := recordsAt(0, 100, 10, 80, 0), recordsAt(11, 110, 5, 300, 0)
	foreign, small := recordsAt(10, -1, 1, 50, 0), recordsAt(10, -1, 1, 9, 0)
	doubled, filler := landed(16, second), recordsAt(21, 115, 3, 40, batch.FlagFiller)
	producer := recordsAt(10, -1, 1, 50, 0)
	binary.BigEndian.PutUint64(producer[43:], 4000)
	refused := recordsAt(10, 110, 4, 80, 0) // never came; the next one was on its way behind it
	late := landed(10, recordsAt(14, 114, 3, 80, 0))
	again := recordsAt(13, 110, 4, 80, 0)
	secondInWindow, third := following(recordsAt(10, 110, 4, 80, 0)), following(recordsAt(14, 114, 3, 80, 0))
	stranger := recordsAt(10, -1, 4, 50, 0) // as many offsets as the second has
	aligned := func() View { return View{Timeline: timeline.Open(0, 0, 0)} }
	var six []byte
	for i := range int64(600) {
		six = append(six, recordsAt(10+i, -1, 1, 20, 0)...)
	}
	sixVoid := func() (out []byte) {
		for w := batch.Walk(bytes.Clone(six)); w.Next(); {
			out = append(out, void(w.Batch(), 109)...)
		}
		return out
	}()
	type asks map[int64]int64
	for _, c := range []struct {
		name      string
		got, want [][]byte
		view      func() View // nil = that of voidWorld
		voided    int
		next      asks
		err       string
		long      bool
	}{
		{
			name: "nothing", got: [][]byte{first, second}, want: [][]byte{show(first, 100), show(second, 110)}, next: asks{115: 16},
		},
		{
			name: "a foreign batch between two", got: [][]byte{first, foreign, second},
			want: [][]byte{show(first, 100), void(foreign, 109), show(second, 110)}, voided: 1, next: asks{109: 9, 110: 11, 115: 16},
		},
		{
			name: "one of an idempotent producer, at the end", got: [][]byte{first, producer},
			want: [][]byte{show(first, 100), void(producer, 109)}, voided: 1, next: asks{110: 11},
		},
		{
			name: "it comes first, at the begin of the log", got: [][]byte{landed(0, foreign), recordsAt(1, 100, 5, 300, 0)},
			want: [][]byte{void(landed(0, foreign), 99), show(recordsAt(1, 100, 5, 300, 0), 100)}, voided: 1, next: asks{100: 1, 105: 6},
		},
		{
			name: "where nothing is known", got: [][]byte{foreign, second},
			want: [][]byte{void(foreign, 99), show(second, 110)}, voided: 1, next: asks{110: 11},
		},
		{
			name: "cut in its records", got: [][]byte{first, foreign[:80]},
			want: [][]byte{show(first, 100), void(foreign, 109)[:80]}, voided: 1, next: asks{110: 11},
		},
		{
			name: "cut behind its header, and in one", got: [][]byte{first, foreign[:61]},
			want: [][]byte{show(first, 100), void(foreign, 109)[:61]}, voided: 1, next: asks{110: 11},
		},
		{
			name: "followed by less than a header", got: [][]byte{first, foreign, second[:13]},
			want: [][]byte{show(first, 100), void(foreign, 109), second[:13]}, voided: 1, next: asks{110: 11},
		},
		{
			name: "a doubled append, and a filler", got: [][]byte{first, foreign, second, doubled, filler},
			want:   [][]byte{show(first, 100), void(foreign, 109), show(second, 110), void(doubled, 114), void(filler, 114)},
			voided: 3, next: asks{115: 21},
		},
		{
			name: "a doubled append alone", got: [][]byte{doubled}, want: [][]byte{void(doubled, 99)}, voided: 1,
		},
		{
			name: "one behind a refused one, and both again", got: [][]byte{first, late, again, recordsAt(17, 114, 3, 80, 0)},
			want:   [][]byte{show(first, 100), void(late, 109), show(again, 110), show(recordsAt(17, 114, 3, 80, 0), 114)},
			voided: 1, next: asks{110: 13, 117: 20},
		},
		{
			name: "one that came when the log had moved on", got: [][]byte{first, foreign, landed(11, refused)},
			want: [][]byte{show(first, 100), void(foreign, 109), void(landed(11, refused), 109)}, voided: 2, next: asks{110: 15},
		},
		{
			name: "one that is off by what a place cannot tell", got: [][]byte{first, foreign, second, landed(11+1<<24, second)},
			want:   [][]byte{show(first, 100), void(foreign, 109), show(second, 110), void(landed(11+1<<24, second), 114)},
			voided: 2, next: asks{110: 11},
		},
		{
			name: "one whose offset falls, in part", got: [][]byte{recordsAt(10, 110, 5, 80, 0), recordsAt(15, 113, 5, 80, 0)},
			want: [][]byte{show(recordsAt(10, 110, 5, 80, 0), 110), void(recordsAt(15, 113, 5, 80, 0), 114)}, voided: 1, next: asks{115: 20},
		},
		{
			name: "a window", got: [][]byte{first, secondInWindow, third},
			want: [][]byte{show(first, 100), show(secondInWindow, 110), show(third, 114)}, next: asks{114: 14, 117: 17},
		},
		{
			name: "a window with a stranger's batch in the place of the second one", got: [][]byte{first, stranger, third, recordsAt(17, 110, 4, 80, 0), following(recordsAt(21, 114, 3, 80, 0))},
			want: [][]byte{
				show(first, 100), void(stranger, 109), void(third, 109), show(recordsAt(17, 110, 4, 80, 0), 110),
				show(following(recordsAt(21, 114, 3, 80, 0)), 114),
			}, voided: 2, next: asks{110: 17, 114: 21, 117: 24},
		},
		{
			name: "from where the window is known to count", got: [][]byte{secondInWindow, third}, view: func() View {
				line := timeline.Open(0, 100, 100)
				line.Learn(0, 100, 10)
				return View{Timeline: line}
			},
			want: [][]byte{show(secondInWindow, 110), show(third, 114)}, next: asks{110: 10, 117: 17},
		},
		{
			name: "from where it is known not to count", got: [][]byte{third, recordsAt(17, 110, 4, 80, 0)}, view: func() View {
				line := timeline.Open(0, 100, 100)
				line.Learn(0, 100, 10)
				line.LearnVoid(10, 14)
				return View{Timeline: line}
			},
			want: [][]byte{void(third, 109), show(recordsAt(17, 110, 4, 80, 0), 110)}, voided: 1, next: asks{110: 17, 114: 21},
		},
		{ // a shown batch teaches nothing, not even that a batch which goes back is void
			name: "from the middle of a window", got: [][]byte{third, recordsAt(17, 110, 4, 80, 0)},
			want: [][]byte{show(third, 114), void(recordsAt(17, 110, 4, 80, 0), 116)}, voided: 1, next: asks{114: 0, 117: 0},
		},
		{
			name: "a marker in its place", view: aligned, got: [][]byte{recordsAt(0, 0, 10, 80, 0), markerAt(10, 10), recordsAt(11, 11, 5, 80, 0)},
			want: [][]byte{recordsAt(0, 0, 10, 80, 0), markerAt(10, 10), recordsAt(11, 11, 5, 80, 0)}, next: asks{16: 16},
		},
		{
			name: "a marker elsewhere", view: aligned, got: [][]byte{recordsAt(0, 0, 10, 80, 0), markerAt(10, 11)},
			want: [][]byte{recordsAt(0, 0, 10, 80, 0), void(markerAt(10, 11), 9)}, voided: 1, next: asks{10: 11},
		},
		{
			name: "one without room for a marker", got: [][]byte{first, small, second},
			want: [][]byte{show(first, 100), void(small, 109), show(second, 110)}, voided: 1, next: asks{115: 16},
		},
		{
			name: "six hundred", got: [][]byte{first, six, recordsAt(610, 110, 5, 20, 0)}, long: true,
			want: [][]byte{show(first, 100), sixVoid, show(recordsAt(610, 110, 5, 20, 0), 110)}, voided: 600, next: asks{110: 610, 115: 615},
		},
		{
			name: "no records", got: [][]byte{recordsAt(10, 110, 0, 50, 0)}, err: "batch of 0 records",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			resp := kmsg.NewPtrFetchResponse()
			resp.Version = 11
			p := kmsg.NewFetchResponseTopicPartition()
			p.RecordBatches, p.HighWatermark, p.LastStableOffset = concat(c.got...), 10, 10
			q := kmsg.NewFetchResponseTopicPartition()
			q.Partition, q.RecordBatches = 5, []byte("of a partition that the mirror does not have")
			resp.Topics = []kmsg.FetchResponseTopic{{Topic: "mirror", Partitions: []kmsg.FetchResponseTopicPartition{p, q}}}
			h, frame := responseFrame(resp)
			check := func(what string, cuts ...int) {
				v := View{}
				if c.view != nil {
					v = c.view()
				}
				v.Stamped = true
				w, line := voidWorld(v)
				voided := 0
				f := FetchResponse{Voided: func(View, int64) { voided++ }}
				f.Reset(11, w)
				got, err := stream(t, &f, frame, cuts...)
				if c.err != "" {
					if err == nil || !strings.Contains(err.Error(), c.err) {
						t.Fatalf("%s: %v", what, err)
					}
				} else if err != nil || !f.Finished() {
					t.Fatalf("%s: %v", what, err)
				} else if got := readResponse[*kmsg.FetchResponse](t, h, got).Topics[0].Partitions[0].RecordBatches; !bytes.Equal(got, concat(c.want...)) {
					t.Fatalf("%s: got and want\n%x\n%x", what, got, concat(c.want...))
				}
				if voided != c.voided {
					t.Fatalf("%s: voided %d", what, voided)
				}
				for logical, want := range c.next {
					if got := line.ToPhysical(logical); got != want {
						t.Fatalf("%s: %d is read from %d, want %d", what, logical, got, want)
					}
				}
			}
			check("whole")
			if c.long {
				return
			}
			for at := range frame {
				check(fmt.Sprintf("cut at %d", at), at)
			}
			rng := rand.New(rand.NewPCG(1, 2))
			for range 50 {
				var cuts []int
				for at := 0; at < len(frame); at += 1 + rng.IntN(100) {
					cuts = append(cuts, at)
				}
				check(fmt.Sprint("cuts ", cuts), cuts...)
			}
		})
	}
}

// Behind the end of a stopped mirror every batch without a stamp is the topic's own, and one with a
// stamp came too late, even at its place. Below that end only batches that count are shown.
func TestFetchResponseOfStoppedMirror(t *testing.T) {
	line := timeline.Open(0, 100, 100)
	line.Own(0, 100, 100, true)
	line.Extend(0, 100, 10)
	line.Extend(10, 120, 5)
	line.SetPhysicalEnd(15)
	line.Own(20, 125, 125, false)
	line.End(20, 130, false)
	w, _ := voidWorld(View{Timeline: line})
	records := concat(recordsAt(0, 100, 10, 50, 0), recordsAt(10, 120, 5, 50, 0), landed(15, recordsAt(10, 120, 5, 50, 0)),
		recordsAt(20, -1, 3, 50, 0), recordsAt(23, 125, 5, 50, 0), recordsAt(28, -1, 2, 50, 0))
	resp := kmsg.NewPtrFetchResponse()
	resp.Version = 11
	p := kmsg.NewFetchResponseTopicPartition()
	p.RecordBatches, p.HighWatermark, p.LastStableOffset, p.LogStartOffset = records, 30, 20, 0
	resp.Topics = []kmsg.FetchResponseTopic{{Topic: "mirror", Partitions: []kmsg.FetchResponseTopicPartition{p}}}
	h, frame := responseFrame(resp)
	var f FetchResponse
	f.Reset(11, w)
	got, err := stream(t, &f, frame)
	if err != nil {
		t.Fatal(err)
	}
	q := readResponse[*kmsg.FetchResponse](t, h, got).Topics[0].Partitions[0]
	var seen []string
	for walk := batch.Walk(q.RecordBatches); walk.Next(); {
		b := walk.Batch()
		seen = append(seen, fmt.Sprint(b.BaseOffset(), "+", b.Count(), " ", b.Control()))
	}
	if got, want := strings.Join(seen, ", "), "100+10 false, 120+5 false, 124+1 true, 130+3 false, 137+1 true, 138+2 false"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if q.HighWatermark != 140 || q.LastStableOffset != 130 || q.LogStartOffset != 100 {
		t.Errorf("high watermark %d, last stable offset %d, log start %d", q.HighWatermark, q.LastStableOffset, q.LogStartOffset)
	}
}

// Batches that pass teach the timeline, so that a sequential reader never waits for a probe.
func TestFetchResponseTeaches(t *testing.T) {
	line := timeline.Open(0, 100, 100)
	w, _ := voidWorld(View{Timeline: line, Stamped: true})
	resp := kmsg.NewPtrFetchResponse()
	resp.Version = 11
	p := kmsg.NewFetchResponseTopicPartition()
	p.RecordBatches, p.HighWatermark = concat(recordsAt(40, 200, 5, 50, 0), recordsAt(45, 210, 5, 50, 0), recordsAt(50, 220, 5, 500, 0)[:300]), 90
	resp.Topics = []kmsg.FetchResponseTopic{{Topic: "mirror", Partitions: []kmsg.FetchResponseTopicPartition{p}}}
	_, frame := responseFrame(resp)
	var f FetchResponse
	f.Reset(11, w)
	if _, err := stream(t, &f, frame); err != nil {
		t.Fatal(err)
	}
	for logical, want := range map[int64]int64{220: 50, 222: 52, 225: 55} {
		if got, _, ok := line.FindPhysical(logical, 0); !ok || got != want {
			t.Errorf("logical %d is physical %d (%v), want %d", logical, got, ok, want)
		}
	}
}
