package admin

import (
	"errors"
	"fmt"
	"slices"
	"sort"

	"klink/protocol/timeline"
)

// timelineRecord is the value of timeline/TOPIC/PARTITION: physical offset Physical is logical offset Logical, or belongs to
// the first record above it, and nothing below the logical offset Floor is shown. See protocol/timeline.
//
// The runs in between are not kept: stamps in the log tell them. What no stamp can tell is: where the mirror ended, and what
// is not its own.
type timelineRecord struct {
	Physical int64 `json:"physical"`
	Logical  int64 `json:"logical"`
	Floor    int64 `json:"floor"`
	// End is where a stopped mirror ended: from there the shift is constant for good.
	End *position `json:"end,omitempty"`
	// SourceEnd is where the source ended when the mirror was stopped (logical), as far as that was known; null = it was not.
	// What lies between End and it was left behind.
	SourceEnd *int64 `json:"source_end,omitempty"`
	// SourceSeen is when SourceEnd was seen, in milliseconds since the epoch, where that was long before the stop: the source may
	// have gone on since. null = right before it.
	SourceSeen *int64 `json:"source_seen,omitempty"`
	// Hidden are ranges of physical offsets [from, to) that are never shown: in order, neither overlapping nor touching.
	Hidden []hiddenRange `json:"hidden,omitempty"`
	// Alignment is null as long as nobody has found out.
	Alignment *alignment `json:"alignment,omitempty"`

	unknown unknownFields
}

// position is one place in both numberings.
type position struct {
	Physical int64 `json:"physical"`
	Logical  int64 `json:"logical"`
}

// alignment says from which logical offset on the shift was not 0, -1 = it always was, and why.
type alignment struct {
	Began  int64  `json:"began"`
	Reason string `json:"reason,omitempty"`
}

// hiddenRange are the physical offsets from the first one to the second, which is not included.
type hiddenRange [2]int64

// maxHiddenRanges bounds the hidden ranges of a partition: no more than a timeline holds. They cannot be forgotten, as what
// is hidden would be shown.
const maxHiddenRanges = 512

// errTooManyHidden: somebody else keeps writing to the mirror.
var errTooManyHidden = fmt.Errorf("the log has more than %d ranges of batches that klink did not write", maxHiddenRanges)

// maxReasonBytes bounds the reason of an alignment.
const maxReasonBytes = 1000

func decodeTimeline(value []byte) (*timelineRecord, error) {
	// A missing field must not be taken for offset 0.
	r := &timelineRecord{Physical: -1, Logical: -1, Floor: -1}
	unknown, err := decodeRecord(value, r)
	if err != nil {
		return nil, err
	}
	if r.Physical < 0 || r.Logical < 0 || r.Floor < 0 {
		return nil, errors.New("lacks an offset, or has a negative one")
	}
	if r.End != nil && (r.End.Physical < r.Physical || r.End.Logical < 0) {
		return nil, errors.New("ends at an impossible offset")
	}
	if r.SourceEnd != nil && *r.SourceEnd < 0 {
		return nil, errors.New("has a negative end of the source")
	}
	if r.SourceSeen != nil && *r.SourceSeen < 0 {
		return nil, errors.New("has seen the end of the source at a negative time")
	}
	if err := checkHidden(r.Hidden); err != nil {
		return nil, err
	}
	if r.Alignment != nil && (r.Alignment.Began < -1 || len(r.Alignment.Reason) > maxReasonBytes) {
		return nil, errors.New("has an impossible alignment")
	}
	r.unknown = unknown
	return r, nil
}

func checkHidden(hidden []hiddenRange) error {
	if len(hidden) > maxHiddenRanges {
		return fmt.Errorf("has %d hidden ranges; at most %d are possible", len(hidden), maxHiddenRanges)
	}
	last := int64(-1)
	for _, h := range hidden {
		if h[0] <= last || h[1] <= h[0] {
			return errors.New("has hidden ranges that are out of order")
		}
		last = h[1]
	}
	return nil
}

func (r *timelineRecord) encode() ([]byte, error) { return encodeRecord(r, r.unknown) }

// clone is deep enough for everything but End, SourceEnd, SourceSeen and Alignment, which are replaced.
func (r *timelineRecord) clone() *timelineRecord {
	c := *r
	c.Hidden = slices.Clone(r.Hidden)
	return &c
}

func (r *timelineRecord) shift() int64 { return r.Logical - r.Physical }

// hide adds a range and merges it with those that it touches. What lies beyond the end is not the mirror's, and not hidden.
// The error is errTooManyHidden; r is as before then.
func (r *timelineRecord) hide(from, to int64) error {
	if r.End != nil {
		to = min(to, r.End.Physical)
	}
	if to <= from {
		return nil
	}
	i := sort.Search(len(r.Hidden), func(i int) bool { return r.Hidden[i][1] >= from })
	j := i
	for j < len(r.Hidden) && r.Hidden[j][0] <= to {
		from, to = min(from, r.Hidden[j][0]), max(to, r.Hidden[j][1])
		j++
	}
	if i == j && len(r.Hidden) >= maxHiddenRanges {
		return errTooManyHidden
	}
	r.Hidden = slices.Replace(r.Hidden, i, j, hiddenRange{from, to})
	return nil
}

// hiddenOffsets is how many physical offsets are hidden.
func (r *timelineRecord) hiddenOffsets() (n int64) {
	for _, h := range r.Hidden {
		n += h[1] - h[0]
	}
	return n
}

// end sets where the mirror ended, once.
func (r *timelineRecord) end(topic string, partition int32, at position) error {
	switch {
	case at.Physical < r.Physical || at.Logical < 0:
		return fmt.Errorf("partition %d of mirror topic '%s' cannot end at physical offset %d, logical %d: it began at physical offset %d", partition, topic, at.Physical, at.Logical, r.Physical)
	case r.End != nil && *r.End != at:
		return fmt.Errorf("partition %d of mirror topic '%s' has ended at physical offset %d, logical %d, and not at %d, %d", partition, topic, r.End.Physical, r.End.Logical, at.Physical, at.Logical)
	}
	r.End = &at
	return nil
}

// leftBehind is how many offsets of the source a stopped mirror has not got, of those that were seen; -1 = not known.
func (r *timelineRecord) leftBehind() int64 {
	if r.End == nil || r.SourceEnd == nil {
		return -1
	}
	return max(0, *r.SourceEnd-r.End.Logical)
}

// open makes the timeline that the record describes, with the last checkpoint of the partition, nil = none.
//
// Where runs begin and end is not recorded, so it has to be learned from the log: by the owner when it takes over, or by who
// reads before that. Only of a mirror that has ended with the shift it began with is it known that there was one run: a shift
// only grows.
func (r *timelineRecord) open(checkpoint *checkpointRecord) *timeline.Partition {
	t := timeline.Open(r.Physical, r.Logical, r.Floor)
	if r.End != nil && r.End.Logical-r.Logical == r.visible(r.End.Physical)-r.visible(r.Physical) {
		t = timeline.New(r.Physical, r.Logical, r.Floor)
	}
	r.hideIn(t)
	if checkpoint != nil {
		t.LearnProbe(checkpoint.Physical, checkpoint.Logical, 0)
	}
	if r.End != nil {
		t.End(r.End.Physical, r.End.Logical)
	}
	return t
}

// hideIn hides the ranges in a timeline; those that are hidden already change nothing.
func (r *timelineRecord) hideIn(t *timeline.Partition) {
	for _, h := range r.Hidden {
		_ = t.Hide(h[0], h[1]) // a timeline holds as many as a record
	}
}

// visible is how many offsets below a physical one are not hidden.
func (r *timelineRecord) visible(physical int64) int64 {
	n := physical
	for _, h := range r.Hidden {
		if h[0] < physical {
			n -= min(h[1], physical) - h[0]
		}
	}
	return n
}
