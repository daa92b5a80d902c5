package offsets

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"slices"
	"strings"
	"time"

	"klink/admin/store"
)

// Memory is what klink remembers about the offsets that it syncs for one link: a Seen for each
// group and partition, some 100 bytes. A part of it outlives the process, as a fingerprint of each
// group in the state topic (store.OffsetsRecord). The fingerprint tells whether everything that is
// committed for the group is still what klink wrote, and whether the group has rested at the
// source.
//
// The fingerprints are stored after a run, so they may be older than klink's last commit. Then they
// match nothing, and klink starts without a memory of that group. That is safe: see invariant 3 of
// Case.
//
// Its lock is held from reading the offsets at the source until the resulting commits are done. So
// when the task and a command run at once, neither commits offsets that it read before the other
// one committed.
type Memory struct {
	lock   chan struct{} // a mutex that a context can give up on; guards the rest
	groups map[string]map[Partition]Seen
	// stored are the fingerprints that an earlier process left, of groups that this one has not
	// looked at yet.
	stored map[store.GroupHash]store.GroupPrint
	saved  store.OffsetsRecord
	at     time.Time // of saved
}

// Partition names a partition of a mirror.
type Partition struct {
	Topic     string
	Partition int32
}

func comparePartitions(a, b Partition) int {
	if c := strings.Compare(a.Topic, b.Topic); c != 0 {
		return c
	}
	return int(a.Partition) - int(b.Partition)
}

// SaveEvery bounds how often fingerprints are stored.
const SaveEvery = 10 * time.Second

// NewMemory starts from what an earlier process stored; nil = nothing.
func NewMemory(stored *store.OffsetsRecord) *Memory {
	m := &Memory{lock: make(chan struct{}, 1)}
	m.Reset(stored)
	return m
}

// Reset forgets everything, and starts from what an earlier process stored; nil = nothing.
func (m *Memory) Reset(stored *store.OffsetsRecord) {
	m.groups, m.stored, m.saved, m.at = map[string]map[Partition]Seen{}, nil, store.OffsetsRecord{}, time.Time{}
	if stored != nil {
		m.stored, m.saved = stored.Prints(), *stored
	}
}

// Take locks the memory.
func (m *Memory) Take(ctx context.Context) (unlock func(), err error) {
	select {
	case m.lock <- struct{}{}:
		return func() { <-m.lock }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// seen returns the memory of one group. source and committed are the offsets that are committed at
// the source and at the destination now (-1 = none). For a group that is new to this process they
// are compared with its stored fingerprint.
func (m *Memory) seen(group string, source, committed map[Partition]int64) map[Partition]Seen {
	if known, ok := m.groups[group]; ok {
		return known
	}
	known := make(map[Partition]Seen, len(source))
	print, ok := m.stored[HashGroup(group)]
	if !ok {
		return known
	}
	own := print.Wrote != noHash && print.Wrote == HashOffsets(committed)
	rests := print.Source != noHash && print.Source == HashOffsets(source)
	for at := range source {
		seen := nothingSeen
		if own {
			seen.Wrote = committed[at]
		}
		if rests {
			seen.Source = source[at]
		}
		known[at] = seen
	}
	return known
}

// Keep replaces the memory of a group. If part is set, seen may lack partitions of the group, and
// their memory stays.
func (m *Memory) Keep(group string, seen map[Partition]Seen, part bool) {
	if old := m.groups[group]; part && old != nil {
		maps.Copy(old, seen)
		return
	}
	m.groups[group] = seen
}

// Retain forgets all groups but these: the others are deleted at the source, or not synced any
// more.
func (m *Memory) Retain(groups []string) {
	listed, hashes := make(map[string]bool, len(groups)), make(map[store.GroupHash]bool, len(groups))
	for _, group := range groups {
		listed[group], hashes[HashGroup(group)] = true, true
	}
	maps.DeleteFunc(m.groups, func(group string, _ map[Partition]Seen) bool { return !listed[group] })
	maps.DeleteFunc(m.stored, func(h store.GroupHash, _ store.GroupPrint) bool { return !hashes[h] })
}

// Due reports whether it is time to store the memory.
func (m *Memory) Due() bool { return m.at.IsZero() || time.Since(m.at) >= SaveEvery }

// WasSaved notes what has been stored.
func (m *Memory) WasSaved(r store.OffsetsRecord) { m.saved, m.at = r, time.Now() }

// Record returns what has to be stored; changed is false if that is stored already.
func (m *Memory) Record(linkID string) (r store.OffsetsRecord, changed bool) {
	prints := maps.Clone(m.stored)
	if prints == nil {
		prints = map[store.GroupHash]store.GroupPrint{}
	}
	source, wrote := map[Partition]int64{}, map[Partition]int64{}
	for group, partitions := range m.groups {
		clear(source)
		clear(wrote)
		print := store.GroupPrint{}
		for at, seen := range partitions {
			source[at], wrote[at] = seen.Source, seen.Wrote
		}
		print.Source, print.Wrote = hashKnown(source), hashKnown(wrote)
		if h := HashGroup(group); print != (store.GroupPrint{}) {
			prints[h] = print
		} else {
			delete(prints, h)
		}
	}
	r = store.NewOffsetsRecord(linkID, prints)
	return r, r.Link != m.saved.Link || !bytes.Equal(r.Groups, m.saved.Groups)
}

// noHash = the offset of some partition is not known. Hashes are the first bytes of SHA-256.
var noHash store.OffsetHash

// HashGroup returns the hash by which a group is remembered.
func HashGroup(group string) store.GroupHash {
	sum := sha256.Sum256([]byte(group))
	return store.GroupHash(sum[:8])
}

// hashKnown returns the hash of offsets, or noHash if one of them is not known.
func hashKnown(offsets map[Partition]int64) store.OffsetHash {
	for _, o := range offsets {
		if o < 0 {
			return noHash
		}
	}
	return HashOffsets(offsets)
}

// HashOffsets returns the hash of the offsets of a group.
func HashOffsets(offsets map[Partition]int64) store.OffsetHash {
	h := sha256.New()
	var b []byte
	for _, at := range slices.SortedFunc(maps.Keys(offsets), comparePartitions) {
		b = append(append(b[:0], at.Topic...), 0)
		b = binary.BigEndian.AppendUint32(b, uint32(at.Partition))
		b = binary.BigEndian.AppendUint64(b, uint64(offsets[at]))
		h.Write(b)
	}
	return store.OffsetHash(h.Sum(nil)[:8])
}
