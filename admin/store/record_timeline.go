package store

import (
	"errors"
	"fmt"

	"klink/protocol/timeline"
)

// TimelineRecord is the value of timeline/TOPIC/PARTITION. The physical offset Physical is the
// logical offset Logical, or belongs to the first record above it. Nothing below the logical offset
// Floor is shown. See protocol/timeline.
//
// The record does not hold the runs that follow, because the stamps in the log tell them. It holds
// where the mirror ended, because no stamp tells that.
type TimelineRecord struct {
	Physical int64 `json:"physical"`
	Logical  int64 `json:"logical"`
	Floor    int64 `json:"floor"`
	// End is where a stopped mirror ended: from there the shift is constant for good.
	End *TimelineEnd `json:"end,omitempty"`
	// Ended: the mirror is being stopped, nothing is in flight to this partition, and nothing will
	// be appended to it. See admin/stop.go. It is dropped when the mirror is STOPPED.
	Ended *EndedPartition `json:"ended,omitempty"`
	// SourceEnd is the logical offset at which the source ended when the mirror was stopped, as
	// last seen; null = not known. What lies between End and it was left behind.
	SourceEnd *int64 `json:"source_end,omitempty"`
	// SourceSeen is when SourceEnd was seen, in milliseconds since the epoch, if that was long
	// before the stop: the source may have gone on since. null = it was seen right before the stop.
	SourceSeen *int64 `json:"source_seen,omitempty"`
	// Alignment is null until it has been found out.
	Alignment *Alignment `json:"alignment,omitempty"`

	unknown unknownFields
}

// TimelineEnd is where a mirror ended, as a physical and a logical offset. Straight: every physical
// offset from the start of the timeline to there holds exactly the next logical one.
type TimelineEnd struct {
	Physical int64 `json:"physical"`
	Logical  int64 `json:"logical"`
	Straight bool  `json:"straight,omitempty"`
}

// EndedPartition is where a partition of a mirror that is being stopped ends, and what its owner
// has seen of the source (see TimelineRecord); -1 = not known.
type EndedPartition struct {
	TimelineEnd
	SourceEnd  int64 `json:"source_end"`
	SourceSeen int64 `json:"source_seen"`
}

// Alignment says from which logical offset on the shift was not 0 (-1 = it was always 0), and why.
type Alignment struct {
	Began  int64  `json:"began"`
	Reason string `json:"reason,omitempty"`
}

// MaxReasonBytes bounds the reason of an alignment.
const MaxReasonBytes = 1000

func decodeTimeline(value []byte) (*TimelineRecord, error) {
	// A missing field must not be taken for offset 0.
	r := &TimelineRecord{Physical: -1, Logical: -1, Floor: -1}
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
	if r.Alignment != nil && (r.Alignment.Began < -1 || len(r.Alignment.Reason) > MaxReasonBytes) {
		return nil, errors.New("has an impossible alignment")
	}
	r.unknown = unknown
	return r, nil
}

func (r *TimelineRecord) encode() ([]byte, error) { return encodeRecord(r, r.unknown) }

// Clone returns a shallow copy. That is enough, because what the pointers point to is replaced,
// never changed.
func (r *TimelineRecord) Clone() *TimelineRecord {
	c := *r
	return &c
}

// Shift is by how much the logical offsets were above the physical ones when the timeline began.
func (r *TimelineRecord) Shift() int64 { return r.Logical - r.Physical }

// SetEnd sets where the mirror ended, once.
func (r *TimelineRecord) SetEnd(topic string, partition int32, at TimelineEnd) error {
	switch {
	case at.Physical < r.Physical || at.Logical < 0:
		return fmt.Errorf("partition %d of mirror topic '%s' cannot end at physical offset %d, logical %d: it began at physical offset %d", partition, topic, at.Physical, at.Logical, r.Physical)
	case r.End != nil && r.End.Physical == at.Physical && r.End.Logical == at.Logical:
		return nil // the same end is stored already
	case r.End != nil:
		return fmt.Errorf("partition %d of mirror topic '%s' has ended at physical offset %d, logical %d, not at %d, %d", partition, topic, r.End.Physical, r.End.Logical, at.Physical, at.Logical)
	}
	r.End = &at
	return nil
}

// LeftBehind returns how many offsets of the source, of those that were seen, a stopped mirror has
// not got; -1 = not known.
func (r *TimelineRecord) LeftBehind() int64 {
	if r.End == nil || r.SourceEnd == nil {
		return -1
	}
	return max(0, *r.SourceEnd-r.End.Logical)
}

// Open makes the timeline that the record describes. checkpoint is the last one of the partition;
// nil = none.
//
// The record does not say where runs begin and end. The owner learns that from the log when it
// takes over, or a reader does before that. Only if the owner has stored that the mirror was one
// run to its end is there nothing to learn.
func (r *TimelineRecord) open(checkpoint *CheckpointRecord) *timeline.Partition {
	t := timeline.Open(r.Physical, r.Logical, r.Floor)
	if checkpoint != nil {
		t.LearnProbe(checkpoint.Physical, checkpoint.Logical, 0)
	}
	if r.End != nil {
		t.End(r.End.Physical, r.End.Logical, r.End.Straight)
	}
	return t
}
