package store

import (
	"errors"
	"maps"
	"time"
)

// InstanceRecord is the value of instance/ID: an instance that serves clients, and so must know a
// mirror before a topic can become that mirror's; see admin/instances.go.
type InstanceRecord struct {
	Name string `json:"name"` // for people; no two live instances share it
	// ClientID is its client id in the group of instances; "" = it is in none.
	ClientID string `json:"client_id,omitempty"`
	// LeaseMs and SessionMs are for how long the instance may serve after it last read the state
	// topic, and after the group coordinator last answered it.
	LeaseMs   int64 `json:"lease_ms"`
	SessionMs int64 `json:"session_ms,omitempty"`
	// Seen: the instance serves from a snapshot that includes everything before this offset of the
	// state topic.
	Seen int64 `json:"seen"`
	// Doubted: another instance waited for this one in vain. This one must introduce itself again
	// before it serves on, or it is forgotten.
	Doubted bool `json:"doubted,omitempty"`

	unknown unknownFields
}

// maxLease bounds the times in a record, so that no instance waits longer for another.
const maxLease = 10 * time.Minute

func decodeInstance(value []byte) (*InstanceRecord, error) {
	r := &InstanceRecord{}
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

func (r *InstanceRecord) encode() ([]byte, error) { return encodeRecord(r, r.unknown) }

// Clone returns a copy that may be changed.
func (r *InstanceRecord) Clone() *InstanceRecord {
	c := *r
	c.unknown = maps.Clone(r.unknown)
	return &c
}

// Lease returns for how long the instance may serve after its last read, with a margin for clocks
// that run at different rates.
func (r *InstanceRecord) Lease() time.Duration { return withMargin(r.LeaseMs) }

// Session is lease for the membership in the group.
func (r *InstanceRecord) Session() time.Duration { return withMargin(r.SessionMs) }

func withMargin(ms int64) time.Duration {
	d := time.Duration(ms) * time.Millisecond
	return d + d/20 + 100*time.Millisecond
}

// unreadableInstance stands for an instance whose record cannot be read: klink assumes that it
// knows nothing, and serves for as long as any instance can.
var unreadableInstance = &InstanceRecord{Name: "whose record cannot be read", LeaseMs: int64(maxLease / time.Millisecond)}
