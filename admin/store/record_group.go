package store

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
)

// groupKeyName is the key of the record of the group of klink's instances; there is one.
const groupKeyName = "group/key"

// groupKeyBytes is the length of the secret, in bytes.
const groupKeyBytes = 32

// groupRecord is the value of group/key: the secret by which the instances of a destination
// recognise each other in their group, which other clients may be able to join. The first instance
// creates it, and it never changes.
type groupRecord struct {
	Version int    `json:"version"`
	Key     []byte `json:"key"` // base64
}

func decodeGroup(value []byte) (*groupRecord, error) {
	r := &groupRecord{}
	if len(value) > maxRecordBytes {
		return nil, fmt.Errorf("a value of %d bytes is too long", len(value))
	}
	if err := json.Unmarshal(value, r); err != nil {
		return nil, fmt.Errorf("not a key of the group: %w", err)
	}
	switch {
	case r.Version < 1:
		return nil, errors.New("has no version")
	case r.Version > RecordVersion:
		return nil, errLaterVersion(r.Version)
	case len(r.Key) != groupKeyBytes:
		return nil, fmt.Errorf("a key of %d bytes, not %d", len(r.Key), groupKeyBytes)
	}
	return r, nil
}

func (r *groupRecord) encode() ([]byte, error) { return json.Marshal(r) }

// groupKey returns the record with the secret of the group, which the caller must not change; nil =
// there is none.
func (tx *Tx) groupKey() (*groupRecord, error) {
	return get(tx, groupKeyName, decodeGroup, func() *groupRecord { return tx.records.group })
}

// GroupKey returns the secret by which the instances of the destination recognise each other. It is
// the same for all of them, and anyone who may read the state topic knows it. GroupKey creates one
// if there is none. The caller must not change it.
func (s *Store) GroupKey(ctx context.Context) ([]byte, error) {
	if key := s.readGroupKey(); key != nil {
		return key, nil
	}
	var key []byte
	err := s.Update(ctx, func(tx *Tx) error {
		r, err := tx.groupKey()
		if err != nil {
			return err
		}
		if r == nil {
			r = &groupRecord{Version: RecordVersion, Key: make([]byte, groupKeyBytes)}
			rand.Read(r.Key) //nolint:errcheck // it never fails
			if err := put(tx, groupKeyName, nil, r); err != nil {
				return err
			}
		}
		key = r.Key
		return nil
	})
	return key, err
}

// readGroupKey returns the secret of the group as it was last read; nil = there is none.
func (s *Store) readGroupKey() []byte {
	defer s.log.Hold()()
	if s.records.group == nil {
		return nil
	}
	return s.records.group.Key
}
