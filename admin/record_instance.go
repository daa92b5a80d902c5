package admin

import (
	"errors"
	"maps"
	"time"
)

// instanceRecord is the value of instance/ID: an instance that serves clients, and so has to hear
// of a mirror before its topic can become one; see instances.go.
type instanceRecord struct {
	Name string `json:"name"` // for people; no two that live have the same
	// ClientID is what it calls itself in the group of instances; "" = it is in none.
	ClientID string `json:"client_id,omitempty"`
	// LeaseMs and SessionMs are for how long it may serve after it last read the state topic, and
	// after it was last heard of in the group.
	LeaseMs   int64 `json:"lease_ms"`
	SessionMs int64 `json:"session_ms,omitempty"`
	// Seen: what it serves by includes everything before this offset of the state topic.
	Seen int64 `json:"seen"`
	// Doubted: it was waited for in vain. It has to make itself known again before it serves on, or
	// is forgotten.
	Doubted bool `json:"doubted,omitempty"`

	unknown unknownFields
}

// maxLease bounds the times in a record: nobody is to be waited for longer.
const maxLease = 10 * time.Minute

func decodeInstance(value []byte) (*instanceRecord, error) {
	r := &instanceRecord{}
	unknown, err := decodeRecord(value, r)
	if err != nil {
		return nil, err
	}
	r.unknown = unknown
	const most = int64(maxLease / time.Millisecond)
	switch {
	case r.LeaseMs < 0 || r.LeaseMs > most || r.SessionMs < 0 || r.SessionMs > most:
		return nil, errors.New("lease_ms or session_ms is not between 0 and ten minutes")
	case r.Seen < 0:
		return nil, errors.New("seen is negative")
	}
	return r, nil
}

func (r *instanceRecord) encode() ([]byte, error) { return encodeRecord(r, r.unknown) }

func (r *instanceRecord) clone() *instanceRecord {
	c := *r
	c.unknown = maps.Clone(r.unknown)
	return &c
}

// lease is for how long it may serve after its last read, with a margin for clocks that run at
// different rates.
func (r *instanceRecord) lease() time.Duration { return withMargin(r.LeaseMs) }

// session is lease of its membership in the group.
func (r *instanceRecord) session() time.Duration { return withMargin(r.SessionMs) }

func withMargin(ms int64) time.Duration {
	d := time.Duration(ms) * time.Millisecond
	return d + d/20 + 100*time.Millisecond
}

// unreadableInstance is what a record that cannot be read is taken for: an instance that knows
// nothing, for as long as any can go on.
var unreadableInstance = &instanceRecord{Name: "whose record cannot be read", LeaseMs: int64(maxLease / time.Millisecond)}
