package admin

import (
	"errors"
	"fmt"

	"klink/protocol/timeline"
)

// timelineRecord is the value of timeline/TOPIC/PARTITION: physical offset Physical is logical
// offset Logical, or belongs to the first record above it, and nothing below the logical offset
// Floor is shown. See protocol/timeline.
//
// The runs in between are not kept: stamps in the log tell them. What no stamp can tell is where
// the mirror ended.
type timelineRecord struct {
	Physical int64 `json:"physical"`
	Logical  int64 `json:"logical"`
	Floor    int64 `json:"floor"`
	// End is where a stopped mirror ended: from there the shift is constant for good.
	End *timelineEnd `json:"end,omitempty"`
	// Ended: the mirror is being stopped, and nothing is in flight to this partition or will be
	// appended to it. See stop.go. It is dropped when the mirror is STOPPED.
	Ended *endedPartition `json:"ended,omitempty"`
	// SourceEnd is where the source ended when the mirror was stopped (logical), as far as that was
	// known; null = it was not. What lies between End and it was left behind.
	SourceEnd *int64 `json:"source_end,omitempty"`
	// SourceSeen is when SourceEnd was seen, in milliseconds since the epoch, where that was long
	// before the stop: the source may have gone on since. null = right before it.
	SourceSeen *int64 `json:"source_seen,omitempty"`
	// Alignment is null as long as nobody has found out.
	Alignment *alignment `json:"alignment,omitempty"`

	unknown unknownFields
}

// timelineEnd is where a mirror ended, in both numberings. Straight: every physical offset from the
// start of the timeline to there holds exactly the next logical one.
type timelineEnd struct {
	Physical int64 `json:"physical"`
	Logical  int64 `json:"logical"`
	Straight bool  `json:"straight,omitempty"`
}

// endedPartition is where a partition ends of a mirror that is being stopped, and what its owner
// has seen of the source, as in a stopped mirror's timelineRecord; -1 = not known.
type endedPartition struct {
	timelineEnd
	SourceEnd  int64 `json:"source_end"`
	SourceSeen int64 `json:"source_seen"`
}

// alignment says from which logical offset on the shift was not 0, -1 = it always was, and why.
type alignment struct {
	Began  int64  `json:"began"`
	Reason string `json:"reason,omitempty"`
}

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
	if r.Ended != nil && (r.Ended.Physical < -1 || r.Ended.Logical < -1 || r.Ended.SourceEnd < -1 || r.Ended.SourceSeen < -1) {
		return nil, errors.New("has ended at an impossible offset")
	}
	if r.SourceEnd != nil && *r.SourceEnd < 0 {
		return nil, errors.New("has a negative end of the source")
	}
	if r.SourceSeen != nil && *r.SourceSeen < 0 {
		return nil, errors.New("has seen the end of the source at a negative time")
	}
	if r.Alignment != nil && (r.Alignment.Began < -1 || len(r.Alignment.Reason) > maxReasonBytes) {
		return nil, errors.New("has an impossible alignment")
	}
	r.unknown = unknown
	return r, nil
}

func (r *timelineRecord) encode() ([]byte, error) { return encodeRecord(r, r.unknown) }

// clone is deep enough, as what the pointers point to is replaced, not changed.
func (r *timelineRecord) clone() *timelineRecord {
	c := *r
	return &c
}

func (r *timelineRecord) shift() int64 { return r.Logical - r.Physical }

// end sets where the mirror ended, once.
func (r *timelineRecord) end(topic string, partition int32, at timelineEnd) error {
	switch {
	case at.Physical < r.Physical || at.Logical < 0:
		return fmt.Errorf("partition %d of mirror topic '%s' cannot end at physical offset %d, logical %d: it began at physical offset %d", partition, topic, at.Physical, at.Logical, r.Physical)
	case r.End != nil && r.End.Physical == at.Physical && r.End.Logical == at.Logical:
		return nil // whoever stored it has known as much
	case r.End != nil:
		return fmt.Errorf("partition %d of mirror topic '%s' has ended at physical offset %d, logical %d, and not at %d, %d", partition, topic, r.End.Physical, r.End.Logical, at.Physical, at.Logical)
	}
	r.End = &at
	return nil
}

// leftBehind is how many offsets of the source a stopped mirror has not got, of those that were
// seen; -1 = not known.
func (r *timelineRecord) leftBehind() int64 {
	if r.End == nil || r.SourceEnd == nil {
		return -1
	}
	return max(0, *r.SourceEnd-r.End.Logical)
}

// open makes the timeline that the record describes, with the last checkpoint of the partition, nil
// = none.
//
// Where runs begin and end is not recorded, so it has to be learned from the log: by the owner when
// it takes over, or by who reads before that. Only where the owner has stored that a mirror was one
// run to its end is nothing to be learned.
func (r *timelineRecord) open(checkpoint *checkpointRecord) *timeline.Partition {
	t := timeline.Open(r.Physical, r.Logical, r.Floor)
	if checkpoint != nil {
		t.LearnProbe(checkpoint.Physical, checkpoint.Logical, 0)
	}
	if r.End != nil {
		t.End(r.End.Physical, r.End.Logical, r.End.Straight)
	}
	return t
}
