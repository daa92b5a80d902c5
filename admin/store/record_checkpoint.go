package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
)

// CheckpointRecord is the value of checkpoint/TOPIC/PARTITION: every record from the physical
// offset on is at or above the logical one, and every record before it is below it. It is needed
// when retention has deleted every batch of a partition, so that no stamp is left to read.
//
// There are many of these and klink writes them all the time. So it encodes and decodes them
// directly, and does not keep unknown fields as the other records do: a field that this version
// does not know is lost with the next checkpoint. A checkpoint belongs to one mirror: one that is
// left of an earlier mirror of the topic is ignored.
type CheckpointRecord struct {
	Version  int    `json:"version"`
	Mirror   string `json:"mirror"` // MirrorRecord.ID
	Physical int64  `json:"physical"`
	Logical  int64  `json:"logical"`
	// Epoch and EpochEnd are those of Checkpoint; absent = not known.
	Epoch    int32 `json:"epoch"`
	EpochEnd int64 `json:"epoch_end"`
	Straight bool  `json:"straight"` // absent = false
}

func decodeCheckpoint(value []byte) (*CheckpointRecord, error) {
	r := &CheckpointRecord{Physical: -1, Logical: -1}
	if err := json.Unmarshal(value, r); err != nil {
		return nil, fmt.Errorf("not a checkpoint: %w", err)
	}
	switch {
	case r.Version < 1:
		return nil, errors.New("has no version")
	case r.Version > RecordVersion:
		return nil, errLaterVersion(r.Version)
	case r.Physical < 0 || r.Logical < 0:
		return nil, errors.New("lacks an offset, or has a negative one")
	case r.Epoch < 0 || r.EpochEnd < 0 || r.EpochEnd > r.Logical:
		return nil, errors.New("has a leader epoch that does not match its offset")
	}
	return r, nil
}

func (r *CheckpointRecord) encode() ([]byte, error) {
	mirror, err := json.Marshal(r.Mirror)
	if err != nil {
		return nil, err
	}
	b := make([]byte, 0, 160+len(mirror))
	b = append(b, '{')
	if r.EpochEnd > 0 {
		b = append(b, `"epoch":`...)
		b = strconv.AppendInt(b, int64(r.Epoch), 10)
		b = append(b, `,"epoch_end":`...)
		b = strconv.AppendInt(b, r.EpochEnd, 10)
		b = append(b, ',')
	}
	b = append(b, `"logical":`...)
	b = strconv.AppendInt(b, r.Logical, 10)
	b = append(b, `,"mirror":`...)
	b = append(b, mirror...)
	b = append(b, `,"physical":`...)
	b = strconv.AppendInt(b, r.Physical, 10)
	if r.Straight {
		b = append(b, `,"straight":true`...)
	}
	b = append(b, `,"version":`...)
	b = strconv.AppendInt(b, RecordVersion, 10)
	return append(b, '}'), nil
}
