package admin

import "errors"

// timelineRecord is the value of timeline/TOPIC/PARTITION: physical offset Physical is logical offset Logical, and
// nothing below the logical offset Floor is shown. See protocol/timeline.
type timelineRecord struct {
	Physical int64 `json:"physical"`
	Logical  int64 `json:"logical"`
	Floor    int64 `json:"floor"`

	unknown unknownFields
}

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
	r.unknown = unknown
	return r, nil
}

func (r *timelineRecord) encode() ([]byte, error) { return encodeRecord(r, r.unknown) }

func (r *timelineRecord) shift() int64 { return r.Logical - r.Physical }
