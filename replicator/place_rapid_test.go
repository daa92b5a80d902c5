package replicator

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"testing"

	"klink/protocol/batch"
	"klink/replicator/core"
	"klink/replicator/memory"

	"github.com/twmb/franz-go/pkg/kgo"
	"pgregory.net/rapid"
)

// places is a broker's log of one mirror partition, its source, and several owners, each of which
// believes that it is the only one. The log does what brokers do: it appends whatever comes, as
// often as it comes, answers once a batch is replicated, and loses at a change of leader what is
// not replicated.
type places struct {
	offsets []int64  // of the source's records
	source  [][]byte // its batches
	next    int64    // the source's end
	log     []landing
	high    int64 // high watermark: physical offsets below are replicated
	owners  []*placeOwner
	strays  []*parcel // requests of connections that are gone, which may still reach the broker
	leader  int       // identifies the connections of the present leader
	epoch   int       // its leader epoch; a leader that comes back has its old connections
}

type landing struct {
	base, count int64
	bytes       []byte
	of          *parcel // nil = foreign
}

// read returns the batches in the log from an offset on.
func (s *places) readFrom(from int64) (records []byte, err error) {
	for _, l := range s.log {
		if l.base+l.count > from {
			records = append(records, l.bytes...)
		}
	}
	return records, nil
}

// parcel is a request to append one batch.
type parcel struct {
	bytes   []byte
	count   int64
	place   int64
	base    int64 // where it landed first, -1 = nowhere
	refused bool
	times   int // how often it reached the broker
}

// placeOwner is one instance with its core.
type placeOwner struct {
	p       core.Partition
	waits   []*parcel // appends whose answers the core awaits
	wire    []*parcel // those of waits that are on their way, in order
	leader  int       // that it sends to
	epoch   int       // under which it has read the log
	resumes bool
	recoder batch.Recoder
}

func (s *places) end() int64 {
	if len(s.log) == 0 {
		return 0
	}
	l := s.log[len(s.log)-1]
	return l.base + l.count
}

func (s *places) apply(o *placeOwner, e core.Effects) {
	o.resumes = o.resumes || e.Resume
	if e.Anchor != nil {
		s.apply(o, o.p.Anchored())
	}
}

// produce appends a batch at the source, perhaps behind a hole.
func (s *places) produce(t *rapid.T) {
	if len(s.source) > 0 {
		s.next += rapid.Int64Range(0, 2).Draw(t, "hole")
	}
	var records []*kgo.Record
	for range rapid.IntRange(1, 4).Draw(t, "records") {
		records = append(records, &kgo.Record{Value: placeValue(s.next + int64(len(records)))})
	}
	b := recordBatch(records)
	binary.BigEndian.PutUint64(b, uint64(s.next))
	s.source = append(s.source, b)
	for range records {
		s.offsets = append(s.offsets, s.next)
		s.next++
	}
}

func placeValue(offset int64) []byte { return fmt.Appendf(nil, "<record %d>", offset) }

// fetch gives an owner some of the source's batches.
func (s *places) fetch(t *rapid.T, o *placeOwner) {
	offset, ok := o.p.WantsFetch(1 << 20)
	if !ok {
		return
	}
	gen, n := o.p.BeginFetch(), rapid.IntRange(0, 5).Draw(t, "batches")
	var records []byte
	for _, b := range s.source {
		if batch.Header(b).NextOffset() > offset && n > 0 {
			records = append(records, b...)
			n--
		}
	}
	s.apply(o, o.p.Fetched(gen, core.Fetched{
		Records: records, HighWater: s.next, Stable: -1, LogStart: 0, Epoch: -1,
		Tools: &core.FetchTools{Keep: func([]byte, bool) *memory.Frame { return nil }},
	}))
}

// send has an owner append what it has next, as the lanes of a stream do: one batch, or a window.
func (s *places) send(t *rapid.T, o *placeOwner) {
	rule := core.JoinRule{Below: rapid.SampledFrom([]int{0, 1 << 20}).Draw(t, "below"), Most: 1 << 20}
	items := o.p.Take(rule)
	for most := rapid.IntRange(1, 4).Draw(t, "window"); len(items) > 0; items = o.p.More(rule) {
		p := &parcel{place: o.p.Place(), base: -1}
		var parts [][]byte
		for _, i := range items {
			parts, p.count = append(parts, i.Bytes), p.count+int64(i.Records)
		}
		p.bytes = bytes.Clone(parts[0])
		if len(parts) > 1 {
			joined, err := o.recoder.Join(nil, parts, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			p.bytes = bytes.Clone(joined)
		}
		if len(o.waits) == 0 {
			batch.SetPlace(p.bytes, p.place)
		} else {
			batch.SetPlaceAfter(p.bytes, p.place)
		}
		if o.waits = append(o.waits, p); o.leader == s.leader {
			o.wire = append(o.wire, p)
		}
		if len(o.waits) == most {
			return
		}
	}
}

// land appends a batch at the end of the log.
func (s *places) land(b []byte, count int64, of *parcel) {
	b = bytes.Clone(b)
	batch.Header(b).SetBaseOffset(s.end())
	s.log = append(s.log, landing{base: s.end(), count: count, bytes: b, of: of})
}

// foreign appends a batch that klink did not write.
func (s *places) foreign(t *rapid.T) {
	n := rapid.IntRange(1, 4).Draw(t, "foreign records")
	var records []*kgo.Record
	for range n {
		records = append(records, &kgo.Record{Value: []byte("foreign")})
	}
	s.land(recordBatch(records), int64(n), nil)
}

// arrive has the next request of an owner reach the broker, which may refuse it.
func (s *places) arrive(t *rapid.T, o *placeOwner) {
	if len(o.wire) == 0 {
		return
	}
	p := o.wire[0]
	o.wire = o.wire[1:]
	if rapid.IntRange(0, 7).Draw(t, "refused") == 0 {
		p.refused = true
		return
	}
	p.base = s.end()
	s.land(p.bytes, p.count, p)
	p.times++
}

// stray makes a request of a closed connection reach the broker, perhaps not for the first time.
func (s *places) stray(t *rapid.T) {
	if len(s.strays) == 0 {
		return
	}
	at := rapid.IntRange(0, len(s.strays)-1).Draw(t, "which")
	p := s.strays[at]
	s.land(p.bytes, p.count, p)
	if p.times++; p.times > 1 || rapid.IntRange(0, 3).Draw(t, "again") > 0 {
		s.strays = slices.Delete(s.strays, at, at+1)
	}
}

// replicated reports whether a request with acks=all has been answered.
func (s *places) replicated(p *parcel) bool {
	return slices.ContainsFunc(s.log, func(l landing) bool { return l.of == p && l.base+l.count <= s.high })
}

// answer gives an owner the results of its appends, once the last of them is answered.
func (s *places) answer(t *rapid.T, o *placeOwner) {
	if len(o.waits) == 0 || len(o.wire) > 0 {
		return
	}
	last := o.waits[len(o.waits)-1]
	if !last.refused && !s.replicated(last) {
		return
	}
	window := o.waits
	o.waits = nil
	if len(window) == 1 && !last.refused {
		s.apply(o, o.p.Appended(last.base))
		return
	}
	for _, p := range window {
		if p.refused || p.base != p.place {
			s.apply(o, o.p.Uncertain(false))
			return
		}
	}
	if s.epoch != o.epoch { // the owner asks for it when all answers are there
		s.apply(o, o.p.Uncertain(false))
		return
	}
	s.apply(o, o.p.Confirmed())
}

// drop loses a request.
func (s *places) drop(t *rapid.T) {
	if len(s.strays) > 0 {
		at := rapid.IntRange(0, len(s.strays)-1).Draw(t, "which")
		s.strays = slices.Delete(s.strays, at, at+1)
	}
}

// lose has an owner give up waiting; the requests may still arrive.
func (s *places) lose(t *rapid.T, o *placeOwner) {
	if len(o.waits) > 0 {
		s.strays = append(s.strays, o.waits...)
		o.waits, o.wire = nil, nil
		s.apply(o, o.p.Uncertain(rapid.Bool().Draw(t, "lingering")))
	}
}

// replicate moves the high watermark.
func (s *places) replicate(t *rapid.T) {
	for _, l := range s.log {
		if to := l.base + l.count; to > s.high && rapid.Bool().Draw(t, "replicated") {
			s.high = to
		} else if to > s.high {
			return
		}
	}
}

// truncate is a change of leader: some of what is not replicated is lost, and the new leader gets
// none of the requests to the old one. Or the leader changes twice, and the old one comes back.
func (s *places) truncate(t *rapid.T) {
	s.epoch++
	if !rapid.Bool().Draw(t, "comes back") {
		s.leader++
		s.strays = nil
		for _, o := range s.owners {
			o.wire = nil
		}
	}
	for len(s.log) > 0 && s.end() > s.high && rapid.Bool().Draw(t, "lost") {
		s.log = s.log[:len(s.log)-1]
	}
}

// read returns what a reader sees of the log: the batches that count, by the code with which owners
// read it. Readers that begin in the middle of the log have only headers, and must see the same.
func (s *places) read(t *rapid.T) (tl tail, seen []int64) {
	tl.last = core.UnknownEpoch
	for _, l := range s.log {
		before := tl.span
		if err := tl.see(batch.Header(l.bytes)); err != nil {
			t.Fatal(err)
		}
		shown := tl.span != before
		var chain batch.Chain // of a reader that begins here
		counts := chain.See(l.bytes)
		if counts == batch.VerdictUnsure {
			ok, err := batch.LookBack(l.bytes, 0, s.readFrom)
			if err != nil {
				t.Fatal(err)
			}
			if counts = batch.VerdictVoid; ok {
				counts = batch.VerdictCounts
			}
		}
		if (counts == batch.VerdictCounts) != shown {
			t.Fatalf("who begins at the batch at %d believes that it counts: %v; who has read what is before it: %v", l.base, !shown, shown)
		}
		if !shown {
			continue
		}
		for n := range tl.span.records {
			offset := tl.span.logical + n
			if !bytes.Contains(l.bytes, placeValue(offset)) {
				t.Fatalf("the batch at %d is shown at offset %d, and has another record", l.base, offset)
			}
			seen = append(seen, offset)
		}
	}
	return tl, seen
}

// resume has an owner read where the log ends, once all of it is replicated.
func (s *places) resume(t *rapid.T, o *placeOwner) {
	if !o.resumes || s.high < s.end() {
		return
	}
	o.resumes, o.leader, o.epoch = false, s.leader, s.epoch
	tl, _ := s.read(t)
	s.apply(o, o.p.Resumed(core.LogEnd{
		Start: 0, End: s.end(), Next: tl.next, Tail: tl.next, Last: tl.last, Fresh: len(s.log) == 0,
		NoAlign: "off", Stored: -1, Knocked: tl.void > 0,
	}))
}

func (s *places) check(t *rapid.T) {
	_, seen := s.read(t)
	if len(seen) > len(s.offsets) || !slices.Equal(seen, s.offsets[:len(seen)]) {
		t.Fatalf("the mirror shows %v of the source's %v", seen, s.offsets)
	}
}

// TestPlacesDecide checks the rule of the stamp: a batch counts if and only if it landed at its
// place. Whatever happens to the requests of any number of owners, and whatever is lost in a change
// of leader before it was replicated, every reader of the log sees a prefix of the source: nothing
// is lost, doubled or out of order. Without further faults any owner completes it.
func TestPlacesDecide(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := &places{}
		for range rapid.IntRange(1, 3).Draw(t, "owners") {
			o := &placeOwner{p: core.NewPartition("t-0", func(core.Item) {}), resumes: true}
			s.owners = append(s.owners, o)
		}
		s.produce(t)
		owner := func(t *rapid.T) *placeOwner { return s.owners[rapid.IntRange(0, len(s.owners)-1).Draw(t, "owner")] }
		rarely := func(t *rapid.T) bool { return rapid.IntRange(0, 3).Draw(t, "rarely") == 0 }
		t.Repeat(map[string]func(*rapid.T){
			"produce":   s.produce,
			"fetch":     func(t *rapid.T) { s.fetch(t, owner(t)) },
			"send":      func(t *rapid.T) { s.send(t, owner(t)) },
			"arrive":    func(t *rapid.T) { s.arrive(t, owner(t)) },
			"stray":     s.stray,
			"answer":    func(t *rapid.T) { s.answer(t, owner(t)) },
			"resume":    func(t *rapid.T) { s.resume(t, owner(t)) },
			"replicate": s.replicate,
			"drop": func(t *rapid.T) {
				if rarely(t) {
					s.drop(t)
				}
			},
			"lose": func(t *rapid.T) {
				if rarely(t) {
					s.lose(t, owner(t))
				}
			},
			"truncate": func(t *rapid.T) {
				if rarely(t) {
					s.truncate(t)
				}
			},
			"foreign": func(t *rapid.T) {
				if rarely(t) {
					s.foreign(t)
				}
			},
			"": s.check,
		})
		last := owner(t)
		s.strays = nil
		for range 1000 {
			s.high = s.end()
			s.resume(t, last)
			s.answer(t, last)
			if len(last.waits) > 0 && len(last.wire) == 0 {
				s.lose(t, last) // it was lost with a leader
				s.strays = nil
			}
			s.fetch(t, last)
			s.send(t, last)
			s.arrive(t, last)
		}
		s.check(t)
		if _, seen := s.read(t); len(seen) != len(s.offsets) {
			t.Fatalf("left alone, the mirror has %d of %d records; state %v", len(seen), len(s.offsets), last.p.State)
		}
	})
}

// TestWindowsNeedMoreThanPlaces shows why a batch of a window must prove what is in front of it:
// its predecessor may be lost, and another batch of as many offsets take that place. DESIGN.md,
// section 3.
func TestWindowsNeedMoreThanPlaces(t *testing.T) {
	s := &places{}
	for offset := range int64(2) {
		b := recordBatch([]*kgo.Record{{Value: placeValue(offset)}})
		if err := batch.Stamp(b, offset, -1); err != nil {
			t.Fatal(err)
		}
		batch.SetPlaceAfter(b, offset)
		s.source = append(s.source, b)
	}
	s.land(recordBatch([]*kgo.Record{{Value: []byte("foreign")}}), 1, nil) // takes its place
	s.land(s.source[1], 1, nil)
	if !batch.Counts(s.log[1].bytes) {
		t.Error("the batch does not stand at its place")
	}
	if counts, err := batch.LookBack(s.log[1].bytes, 0, s.readFrom); err != nil || counts {
		t.Errorf("it counts, behind a gap: %v, %v", counts, err)
	}
}
