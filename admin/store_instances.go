package admin

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"klink/admin/caslog"
)

// instance is one of the instances in the state topic, as read.
type instance struct {
	id     string
	offset int64 // of its record
	*instanceRecord
}

// Instance returns the record of an instance; nil = there is none, or it cannot be read.
func (tx *Tx) Instance(id string) (*instanceRecord, error) {
	return get(tx, instanceKey(id), decodeInstance, func() *instanceRecord { return tx.records.instances[id] })
}

// putInstance writes the record of an instance, even over one that cannot be read.
func (tx *Tx) putInstance(id string, r *instanceRecord) error {
	value, err := r.encode()
	if err != nil {
		return err
	}
	tx.writes = append(tx.writes, caslog.Record{Key: instanceKey(id), Value: value})
	return nil
}

// deleteInstance deletes the record of an instance, even a broken one.
func (tx *Tx) deleteInstance(id string) {
	if tx.has(instanceKey(id), tx.records.instances[id] != nil) {
		tx.writes = append(tx.writes, caslog.Record{Key: instanceKey(id)})
	}
}

// others returns the instances except self, in the order of their ids; the log's lock is held.
func (s *Store) others(self string) (all []instance) {
	for id, r := range s.records.instances {
		if id != self {
			all = append(all, instance{id, s.log.OffsetOf(instanceKey(id)), r})
		}
	}
	for key := range s.records.broken {
		if k, err := parseRecordKey([]byte(key)); err == nil && k.Kind == kindInstance && k.Name != self {
			all = append(all, instance{k.Name, s.log.OffsetOf(key), unreadableInstance})
		}
	}
	slices.SortFunc(all, func(a, b instance) int {
		if a.id < b.id {
			return -1
		}
		return 1
	})
	return all
}

// instances returns the instances except self.
func (s *Store) instances(self string) []instance {
	defer s.log.Hold()()
	return s.others(self)
}

// blind returns the instances except self that have not acknowledged the current record of a mirror
// yet.
func (s *Store) blind(topic, self string) []instance {
	defer s.log.Hold()()
	at := s.log.OffsetOf(mirrorKey(topic))
	if at < 0 {
		return nil
	}
	return slices.DeleteFunc(s.others(self), func(i instance) bool { return i.Seen > at })
}

// known returns the instance's own record; nil if there is none, or another instance doubts that it
// lives.
func (s *Store) known(self string) *instanceRecord {
	defer s.log.Hold()()
	if r := s.records.instances[self]; r != nil && !r.Doubted {
		return r
	}
	return nil
}

// doubted reports whether an instance has a record, but another instance doubts that it lives.
func (s *Store) doubted(self string) bool {
	defer s.log.Hold()()
	r := s.records.instances[self]
	return r != nil && r.Doubted
}

// introduce makes an instance known to the others. After that the instance must read the topic to
// its end before it serves. The first time, introduce deletes the records of other instances of the
// same name: they are dead. It does nothing once the instance is leaving.
func (s *Store) introduce(ctx context.Context, self string, r instanceRecord, first bool, leaving func() bool) error {
	return s.Update(ctx, func(tx *Tx) error {
		if leaving() {
			return caslog.ErrClosed
		}
		if first {
			for _, other := range slices.Sorted(maps.Keys(tx.records.instances)) {
				if other != self && tx.records.instances[other].Name == r.Name && r.Name != "" {
					tx.deleteInstance(other)
				}
			}
		}
		mine := r
		mine.Seen = s.log.ReadTo() // the lock is held
		return tx.putInstance(self, &mine)
	})
}

// readToEnd returns when everything that was committed before the call has been read and handed
// out.
func (s *Store) readToEnd(ctx context.Context) error {
	if err := s.log.ReadToEnd(ctx); err != nil {
		return err
	}
	s.log.Changed() // what was read may not be out yet
	return nil
}

// describe names an instance, for people.
func (i instance) describe() string {
	if i.Name == "" {
		return i.id
	}
	return fmt.Sprintf("%s (%s)", i.Name, i.id)
}
