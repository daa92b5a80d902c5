package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"klink/admin/caslog"
	"klink/internal/jsonbound"
	"klink/protocol/timeline"

	"github.com/twmb/franz-go/pkg/kgo"
)

// StateTopic is the compacted topic of the destination that holds all links, mirrors and timelines.
const StateTopic = "_klink_state"

// stateTransactionalID fences the writers of the state topic against each other. It begins with the
// prefix of klink's own names, so that no client can take it through klink. All writers of a state
// topic must use the same id: a klink that uses another one is not fenced. Builds before the first
// release used "klink-state"; docs/operations.md says how to replace them.
const stateTransactionalID = "_klink_state"

// Store keeps links, mirrors and timelines in the state topic and in memory. The changes that
// several instances make to one topic take effect one after the other; see caslog.Log.
//
// A record that cannot be read makes its key broken. klink logs and counts it, shows it as FAILED,
// and changes it only to delete it. Its content is not known, so klink assumes the worst: a mirror
// is read-only and does not go on, a partition without its timeline or checkpoint is not copied,
// and an instance is waited for.
type Store struct {
	log    *caslog.Log
	key    *SecretsKey
	logger *slog.Logger
	broken atomic.Int64

	// The log's lock guards the rest.
	records records
	live    map[TimelineAt]*timeline.Partition
	state   stateCache
	changed bool // something that snapshots show has changed since the last one
}

// records are the decoded records by name. The records are immutable.
type records struct {
	links   map[string]*LinkRecord
	mirrors map[string]*MirrorRecord
	// partitions is the number of partitions of all mirrors.
	partitions int64
	timelines  map[string]map[int32]*TimelineRecord // by topic and partition
	// checkpoints by topic and partition, those of earlier mirrors of the topic included.
	checkpoints map[string]map[int32]*CheckpointRecord
	offsets     map[string]*OffsetsRecord        // by link
	acls        map[string]map[int32]*aclsRecord // by link and bucket
	instances   map[string]*InstanceRecord       // by id
	group       *groupRecord                     // nil = there is none
	broken      map[string]error                 // by key
}

// Open starts to read the state topic, which must exist. changed is called after every change,
// by any instance, once the store has it and before the Update that made it returns; calls never
// overlap. A checkpoint is no change, nor is the memory of offsets and ACLs: snapshots do not show
// them.
func Open(destination []kgo.Opt, key *SecretsKey, logger *slog.Logger, changed func()) (*Store, error) {
	s := newStore(key, logger)
	opened := make(chan struct{}) // closed once s.log is set: the log reads before that
	// Held while a snapshot is taken and handed out. A caller whose change is in that snapshot
	// already must not go on before it is out. Otherwise a mirror's topic could be created before
	// the router knows that it is one.
	var picture sync.Mutex
	log, err := caslog.Open(caslog.Config{
		Options: destination, Topic: StateTopic, TransactionalID: stateTransactionalID,
		Apply: s.apply, Logger: logger,
		Changed: func() {
			<-opened
			picture.Lock()
			defer picture.Unlock()
			if s.takeChanged() {
				changed()
			}
		},
	})
	if err != nil {
		return nil, err
	}
	s.log = log
	close(opened)
	return s, nil
}

func newStore(key *SecretsKey, logger *slog.Logger) *Store {
	return &Store{
		key: key, logger: logger,
		records: records{
			links: map[string]*LinkRecord{}, mirrors: map[string]*MirrorRecord{},
			timelines: map[string]map[int32]*TimelineRecord{}, checkpoints: map[string]map[int32]*CheckpointRecord{},
			offsets:   map[string]*OffsetsRecord{},
			acls:      map[string]map[int32]*aclsRecord{},
			instances: map[string]*InstanceRecord{},
			broken:    map[string]error{},
		},
		live:  map[TimelineAt]*timeline.Partition{},
		state: newStateCache(),
	}
}

// Close stops the store.
func (s *Store) Close() { s.log.Close() }

// Sync returns when everything that was committed before the call is in memory. The first Sync of a
// store is strict, because it takes the transactional id; a later one may miss a commit of another
// instance whose transaction marker is still on its way to the log.
func (s *Store) Sync(ctx context.Context) error {
	if err := s.Update(ctx, func(*Tx) error { return nil }); err != nil {
		return err
	}
	return s.log.ReadToEnd(ctx)
}

// Fence makes sure that no other instance can commit a change that it has evaluated already, and
// that everything that is committed is in memory.
func (s *Store) Fence(ctx context.Context) error { return s.log.Fence(ctx) }

// CatchUp returns when everything that was committed before the call is in memory, unless the
// transaction marker of a commit of another instance is still on its way to the log.
func (s *Store) CatchUp(ctx context.Context) error { return s.log.ReadToEnd(ctx) }

// Update makes a change. fn reads and writes through the Tx. It is called again if another instance
// was faster, so what it writes must depend only on what it reads. If fn returns an error, nothing
// is written and Update returns the error.
func (s *Store) Update(ctx context.Context, fn func(tx *Tx) error) error {
	return s.log.Update(ctx, func(pending map[string][]byte) ([]caslog.Record, error) {
		tx := &Tx{records: &s.records, pending: pending}
		if err := fn(tx); err != nil {
			return nil, err
		}
		return tx.writes, nil
	})
}

// takeChanged reports whether something that snapshots show has changed since the last call.
func (s *Store) takeChanged() bool {
	defer s.log.Hold()()
	changed := s.changed
	s.changed = false
	return changed
}

// Broken returns how many records could not be read so far.
func (s *Store) Broken() int64 { return s.broken.Load() }

// apply applies one record of the topic. The log's lock is held.
func (s *Store) apply(key string, value []byte, offset int64) {
	k, err := parseRecordKey([]byte(key))
	if errors.Is(err, errForeignKey) {
		return
	}
	wasBroken := s.records.broken[key] != nil
	delete(s.records.broken, key)
	if err == nil && value != nil {
		err = jsonbound.Check(value, recordLimits(k.Kind))
		if err != nil {
			_ = s.applyParsed(k, nil) // the record before this one does not count any more
		}
	}
	if err == nil {
		err = s.applyParsed(k, value)
	}
	if err != nil && value != nil {
		s.broken.Add(1)
		s.records.broken[key] = brokenRecord(key, offset, err)
		s.logger.Error("cannot read a record of the state topic; its link or mirror is shown as FAILED", "topic", StateTopic, "key", key, "offset", offset, "error", err,
			"advice", "delete the link or topic through klink, or write a valid record or a tombstone to the key")
	}
	switch k.Kind {
	case kindCheckpoint:
		if wasBroken || s.records.broken[key] != nil {
			break // snapshots show a broken one
		}
		return
	case kindOffsets, kindACLs, kindInstance, kindGroup:
		return
	}
	s.changed = true
	if k.Kind != kindLink {
		s.state.forget(k.Name)
	}
}

func (s *Store) applyParsed(k recordKey, value []byte) error {
	switch k.Kind {
	case kindLink:
		delete(s.records.links, k.Name)
		delete(s.state.links, k.Name)
		if value == nil {
			return nil
		}
		r, err := decodeLink(value)
		if err != nil {
			return err
		}
		s.records.links[k.Name] = r
		s.state.links[k.Name] = r.View(k.Name, s.key)
	case kindMirror:
		if r := s.records.mirrors[k.Name]; r != nil {
			s.records.partitions -= int64(r.Partitions)
		}
		delete(s.records.mirrors, k.Name)
		if value == nil {
			return nil
		}
		r, err := decodeMirror(value)
		if err != nil {
			return err
		}
		if s.records.partitions+int64(r.Partitions) > maxStatePartitions {
			return fmt.Errorf("its %d partitions would exceed the limit of %d for all mirrors", r.Partitions, maxStatePartitions)
		}
		s.records.partitions += int64(r.Partitions)
		s.records.mirrors[k.Name] = r
	case kindTimeline:
		return s.applyTimeline(k, value)
	case kindCheckpoint:
		return s.applyCheckpoint(k, value)
	case kindOffsets:
		delete(s.records.offsets, k.Name)
		if value == nil {
			return nil
		}
		r, err := decodeOffsets(value)
		if err != nil {
			return err
		}
		s.records.offsets[k.Name] = r
	case kindACLs:
		return s.applyACLs(k, value)
	case kindInstance:
		delete(s.records.instances, k.Name)
		if value == nil {
			return nil
		}
		r, err := decodeInstance(value)
		if err != nil {
			return err
		}
		s.records.instances[k.Name] = r
	case kindGroup:
		s.records.group = nil
		if value == nil {
			return nil
		}
		r, err := decodeGroup(value)
		if err != nil {
			return err
		}
		s.records.group = r
	default:
		return fmt.Errorf("%s: unknown kind", k.Kind)
	}
	return nil
}

// brokenRecord says which record cannot be read, and why.
func brokenRecord(key string, offset int64, err error) error {
	return fmt.Errorf("key %.300s, offset %d: %w", key, offset, err)
}
