package store

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"klink/admin/caslog"
)

// Instance is one of the instances in the state topic, as read.
type Instance struct {
	ID     string
	Offset int64 // of its record
	*InstanceRecord
}

// Instance returns the record of an instance; nil = there is none, or it cannot be read.
func (tx *Tx) Instance(id string) (*InstanceRecord, error) {
	return get(tx, instanceKey(id), decodeInstance, func() *InstanceRecord { return tx.records.instances[id] })
}

// PutInstance writes the record of an instance, even over one that cannot be read.
func (tx *Tx) PutInstance(id string, r *InstanceRecord) error {
	value, err := r.encode()
	if err != nil {
		return err
	}
	tx.writes = append(tx.writes, caslog.Record{Key: instanceKey(id), Value: value})
	return nil
}

// DeleteInstance deletes the record of an instance, even a broken one.
func (tx *Tx) DeleteInstance(id string) {
	if tx.has(instanceKey(id), tx.records.instances[id] != nil) {
		tx.writes = append(tx.writes, caslog.Record{Key: instanceKey(id)})
	}
}

// others returns the instances except self, in the order of their ids; the log's lock is held.
func (s *Store) others(self string) (all []Instance) {
	for id, r := range s.records.instances {
		if id != self {
			all = append(all, Instance{id, s.log.OffsetOf(instanceKey(id)), r})
		}
	}
	for key := range s.records.broken {
		if k, err := parseRecordKey([]byte(key)); err == nil && k.Kind == kindInstance && k.Name != self {
			all = append(all, Instance{k.Name, s.log.OffsetOf(key), unreadableInstance})
		}
	}
	slices.SortFunc(all, func(a, b Instance) int {
		if a.ID < b.ID {
			return -1
		}
		return 1
	})
	return all
}

// Instances returns the instances except self.
func (s *Store) Instances(self string) []Instance {
	defer s.log.Hold()()
	return s.others(self)
}

// Blind returns the instances except self that have not acknowledged the current record of a mirror
// yet.
func (s *Store) Blind(topic, self string) []Instance {
	defer s.log.Hold()()
	at := s.log.OffsetOf(mirrorKey(topic))
	if at < 0 {
		return nil
	}
	return slices.DeleteFunc(s.others(self), func(i Instance) bool { return i.Seen > at })
}

// Known returns the instance's own record; nil if there is none, or another instance doubts that it
// lives.
func (s *Store) Known(self string) *InstanceRecord {
	defer s.log.Hold()()
	if r := s.records.instances[self]; r != nil && !r.Doubted {
		return r
	}
	return nil
}

// Doubted reports whether an instance has a record, but another instance doubts that it lives.
func (s *Store) Doubted(self string) bool {
	defer s.log.Hold()()
	r := s.records.instances[self]
	return r != nil && r.Doubted
}

// Introduce makes an instance known to the others. After that the instance must read the topic to
// its end before it serves. The first time, Introduce deletes the records of other instances of the
// same name: they are dead. It does nothing once the instance is leaving.
func (s *Store) Introduce(ctx context.Context, self string, r InstanceRecord, first bool, leaving func() bool) error {
	return s.Update(ctx, func(tx *Tx) error {
		if leaving() {
			return caslog.ErrClosed
		}
		if first {
			for _, other := range slices.Sorted(maps.Keys(tx.records.instances)) {
				if other != self && tx.records.instances[other].Name == r.Name && r.Name != "" {
					tx.DeleteInstance(other)
				}
			}
		}
		mine := r
		mine.Seen = s.log.ReadTo() // the lock is held
		return tx.PutInstance(self, &mine)
	})
}

// ReadToEnd returns when everything that was committed before the call has been read and handed
// out.
func (s *Store) ReadToEnd(ctx context.Context) error {
	if err := s.log.ReadToEnd(ctx); err != nil {
		return err
	}
	s.log.Changed() // what was read may not be out yet
	return nil
}

// Describe names an instance, for people.
func (i Instance) Describe() string {
	if i.Name == "" {
		return i.ID
	}
	return fmt.Sprintf("%s (%s)", i.Name, i.ID)
}
