package load

import (
	"fmt"
	"sync"
	"sync/atomic"
)

// Damage is a way in which the records read can differ from those written.
type Damage string

// The kinds of damage.
const (
	Missing   Damage = "missing"   // a record was acknowledged and not read
	Doubled   Damage = "doubled"   // a record was read twice
	Reordered Damage = "reordered" // a record was read after later ones of its producer
	Changed   Damage = "changed"   // the checksum or the timestamp is not the record's
	Misplaced Damage = "misplaced" // a record was read from another partition than it was sent to
	Moved     Damage = "moved"     // records are not at the offsets that were acknowledged
	Holes     Damage = "holes"     // offsets without a record
	Unknown   Damage = "unknown"   // not written by this run, in a topic that it created
)

// Damages returns all kinds, in the order in which they are shown.
func Damages() []Damage {
	return []Damage{Missing, Doubled, Reordered, Changed, Misplaced, Moved, Holes, Unknown}
}

// Finding is one case of damage. Offset is where it was noticed, -1 if it has no offset.
type Finding struct {
	Damage    Damage `json:"damage"`
	Partition int32  `json:"partition"`
	Offset    int64  `json:"offset"`
	Text      string `json:"text"`
}

// maxFindings is the number of cases of each kind that are listed; further cases are only counted.
const maxFindings = 5

// Verification is the result of a verification.
type Verification struct {
	// Records counts the records of this run that were read. Foreign counts records of others,
	// which are allowed if the topic existed before.
	Records int64            `json:"records"`
	Foreign int64            `json:"foreign"`
	Damage  map[Damage]int64 `json:"damage"` // counts of records or offsets; none = nothing is wrong
	First   []Finding        `json:"first"`
	// Unacknowledged counts records that the log may or may not have. They count as no damage.
	Unacknowledged int64 `json:"unacknowledged"`
}

// verifier checks what consumers read. One consumer reads a partition; all goroutines may read the
// counters.
//
// Invariants: every offset from the start on is seen once and in order, because nothing that this
// package writes leaves a hole. For each producer in a partition, every sequence from 0 on is seen
// once and in order.
type verifier struct {
	run        uint64
	fresh      bool // this run has created the topic, so every record in it is this run's
	partitions []*reading

	mu    sync.Mutex
	found Verification
	named map[Damage]int
}

// reading is the progress in one partition.
type reading struct {
	next     atomic.Int64 // offset
	distinct atomic.Int64 // records of this run, each counted once
	records  int64
	foreign  int64
	sum      uint64 // of places: see ledger
	producer []sequences
	damaged  bool
}

// sequences records which sequences of one producer were seen in a partition.
type sequences struct {
	next uint64
	gaps ranges // sequences below next that were not seen
}

// newVerifier begins at the given offset of each partition.
func newVerifier(run uint64, producers int, starts []int64, fresh bool) *verifier {
	v := &verifier{run: run, fresh: fresh, named: map[Damage]int{}, found: Verification{Damage: map[Damage]int64{}, First: []Finding{}}}
	for _, at := range starts {
		r := &reading{producer: make([]sequences, producers)}
		r.next.Store(at)
		v.partitions = append(v.partitions, r)
	}
	return v
}

func (v *verifier) damage(r *reading, d Damage, n uint64, partition int32, offset int64, format string, args ...any) {
	r.damaged = true
	v.mu.Lock()
	defer v.mu.Unlock()
	v.found.Damage[d] += int64(n)
	if v.named[d]++; v.named[d] <= maxFindings {
		v.found.First = append(v.found.First, Finding{d, partition, offset, fmt.Sprintf(format, args...)})
	}
}

// read checks the next record of a partition. timestamp is the record's own in Unix milliseconds,
// -1 if the log has replaced it. read returns when the record was due; mine is false if it cannot
// tell.
func (v *verifier) read(partition int32, offset, timestamp int64, value []byte) (intended int64, mine bool) {
	r := v.partitions[partition]
	v.offset(r, partition, offset)
	h, ok, intact := parse(value)
	switch {
	case !ok || h.run != v.run:
		r.foreign++
		if v.fresh {
			v.damage(r, Unknown, 1, partition, offset, "the record is not one that this run has written")
		}
		return 0, false
	case !intact:
		r.records++
		v.damage(r, Changed, 1, partition, offset, "the checksum does not match the record (%d bytes)", len(value))
		// The header may be damaged too. If it is the next one expected, read believes it, so that
		// the record does not also count as missing.
		if int(h.producer) < len(r.producer) && int32(h.partition) == partition && h.sequence == r.producer[h.producer].next {
			v.sequence(r, partition, offset, h)
		}
		return 0, false
	}
	r.records++
	if int32(h.partition) != partition {
		v.damage(r, Misplaced, 1, partition, offset, "the record was sent to partition %d", h.partition)
		return 0, false
	}
	if int(h.producer) >= len(r.producer) {
		v.damage(r, Unknown, 1, partition, offset, "unknown producer %d", h.producer)
		return 0, false
	}
	if at := h.intended / 1e6; timestamp >= 0 && timestamp != at {
		v.damage(r, Changed, 1, partition, offset, "the timestamp is %d, but was sent as %d", timestamp, at)
	}
	v.sequence(r, partition, offset, h)
	return h.intended, true
}

// control handles a record that belongs to Kafka: the marker of somebody's transaction.
func (v *verifier) control(partition int32, offset int64) {
	v.offset(v.partitions[partition], partition, offset)
}

func (v *verifier) offset(r *reading, partition int32, offset int64) {
	next := r.next.Load()
	switch {
	case offset > next:
		v.damage(r, Holes, uint64(offset-next), partition, next, "%s no record", numbers("offset", uint64(next), uint64(offset-1), "has", "have"))
	case offset < next:
		v.damage(r, Reordered, 1, partition, offset, "the record came after offset %d", next-1)
		return
	}
	r.next.Store(offset + 1)
}

func (v *verifier) sequence(r *reading, partition int32, offset int64, h header) {
	s := &r.producer[h.producer]
	switch {
	case h.sequence >= s.next:
		if h.sequence > s.next {
			s.gaps.add(s.next, h.sequence-1, offset)
		}
		s.next = h.sequence + 1
	case s.gaps.remove(h.sequence):
		v.damage(r, Reordered, 1, partition, offset, "record %d of producer %d came after record %d", h.sequence, h.producer, s.next-1)
	default:
		v.damage(r, Doubled, 1, partition, offset, "record %d of producer %d came again", h.sequence, h.producer)
		return
	}
	r.distinct.Add(1)
	r.sum += place(offset, h.producer, h.sequence)
}

// finish compares with what was written, when nobody writes or reads any more. offsets: the
// acknowledged offsets are known.
func (v *verifier) finish(ledgers []*ledger, offsets bool) Verification {
	for i, r := range v.partitions {
		l, partition := ledgers[i], int32(i)
		failures := false
		for producer := range l.perProducer {
			w, s := &l.perProducer[producer], &r.producer[producer]
			lost := s.gaps.without(&w.failed)
			if s.next < w.next {
				tail := ranges{spans: []span{{s.next, w.next - 1, -1}}}
				lost = append(lost, tail.without(&w.failed)...)
			}
			failures = failures || !w.failed.empty()
			for _, gap := range lost {
				text := numbers("record", gap.first, gap.last, "was", "were")
				if gap.at >= 0 {
					v.damage(r, Missing, gap.last-gap.first+1, partition, gap.at, "%s missing before this offset, of producer %d", text, producer)
				} else {
					v.damage(r, Missing, gap.last-gap.first+1, partition, -1, "%s acknowledged but not read, of producer %d", text, producer)
				}
			}
			if more := s.gaps.counted; more > w.failed.counted {
				v.damage(r, Missing, more-w.failed.counted, partition, -1, "%d more records of producer %d are missing", more-w.failed.counted, producer)
			}
			v.found.Unacknowledged += int64(count(w.failed.spans) + w.failed.counted)
		}
		if offsets && !r.damaged && !failures && l.sum.Load() != r.sum {
			v.damage(r, Moved, 1, partition, -1, "some of its records were read at other offsets than those acknowledged")
		}
		v.found.Records += r.records
		v.found.Foreign += r.foreign
	}
	return v.found
}

// numbers returns "offset 3 has" or "offsets 3 to 5 have".
func numbers(what string, first, last uint64, one, many string) string {
	if first == last {
		return fmt.Sprintf("%s %d %s", what, first, one)
	}
	return fmt.Sprintf("%ss %d to %d %s", what, first, last, many)
}
