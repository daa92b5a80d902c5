package admin

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

// offsetMemory is what klink remembers about the offsets that it syncs for one link: an offsetSeen
// for each group and partition, some 100 bytes. A part of it outlives the process, as a fingerprint
// of each group in the state topic (store.OffsetsRecord). The fingerprint tells whether everything
// that is committed for the group is still what klink wrote, and whether the group has rested at
// the source.
//
// The fingerprints are stored after a run, so they may be older than klink's last commit. Then they
// match nothing, and klink starts without a memory of that group. That is safe: see invariant 3 of
// offsetCase.
//
// Its lock is held from reading the offsets at the source until the resulting commits are done. So
// when the task and a command run at once, neither commits offsets that it read before the other
// one committed.
type offsetMemory struct {
	lock   chan struct{} // a mutex that a context can give up on; guards the rest
	groups map[string]map[partitionOf]offsetSeen
	// stored are the fingerprints that an earlier process left, of groups that this one has not
	// looked at yet.
	stored map[store.GroupHash]store.GroupPrint
	saved  store.OffsetsRecord
	at     time.Time // of saved
}

// partitionOf names a partition of a mirror.
type partitionOf struct {
	topic     string
	partition int32
}

func comparePartitions(a, b partitionOf) int {
	if c := strings.Compare(a.topic, b.topic); c != 0 {
		return c
	}
	return int(a.partition) - int(b.partition)
}

// offsetsEvery bounds how often fingerprints are stored.
const offsetsEvery = 10 * time.Second

// newOffsetMemory starts from what an earlier process stored; nil = nothing.
func newOffsetMemory(stored *store.OffsetsRecord) *offsetMemory {
	m := &offsetMemory{lock: make(chan struct{}, 1)}
	m.reset(stored)
	return m
}

func (m *offsetMemory) reset(stored *store.OffsetsRecord) {
	m.groups, m.stored, m.saved, m.at = map[string]map[partitionOf]offsetSeen{}, nil, store.OffsetsRecord{}, time.Time{}
	if stored != nil {
		m.stored, m.saved = stored.Prints(), *stored
	}
}

// take locks the memory.
func (m *offsetMemory) take(ctx context.Context) (unlock func(), err error) {
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
func (m *offsetMemory) seen(group string, source, committed map[partitionOf]int64) map[partitionOf]offsetSeen {
	if known, ok := m.groups[group]; ok {
		return known
	}
	known := make(map[partitionOf]offsetSeen, len(source))
	print, ok := m.stored[hashGroup(group)]
	if !ok {
		return known
	}
	own := print.Wrote != noHash && print.Wrote == hashOffsets(committed)
	rests := print.Source != noHash && print.Source == hashOffsets(source)
	for at := range source {
		seen := nothingSeen
		if own {
			seen.wrote = committed[at]
		}
		if rests {
			seen.source = source[at]
		}
		known[at] = seen
	}
	return known
}

// keep replaces the memory of a group. If part is set, seen may lack partitions of the group, and
// their memory stays.
func (m *offsetMemory) keep(group string, seen map[partitionOf]offsetSeen, part bool) {
	if old := m.groups[group]; part && old != nil {
		maps.Copy(old, seen)
		return
	}
	m.groups[group] = seen
}

// retain forgets all groups but these: the others are deleted at the source, or not synced any
// more.
func (m *offsetMemory) retain(groups []string) {
	listed, hashes := make(map[string]bool, len(groups)), make(map[store.GroupHash]bool, len(groups))
	for _, group := range groups {
		listed[group], hashes[hashGroup(group)] = true, true
	}
	maps.DeleteFunc(m.groups, func(group string, _ map[partitionOf]offsetSeen) bool { return !listed[group] })
	maps.DeleteFunc(m.stored, func(h store.GroupHash, _ store.GroupPrint) bool { return !hashes[h] })
}

// record returns what has to be stored; changed is false if that is stored already.
func (m *offsetMemory) record(linkID string) (r store.OffsetsRecord, changed bool) {
	prints := maps.Clone(m.stored)
	if prints == nil {
		prints = map[store.GroupHash]store.GroupPrint{}
	}
	source, wrote := map[partitionOf]int64{}, map[partitionOf]int64{}
	for group, partitions := range m.groups {
		clear(source)
		clear(wrote)
		print := store.GroupPrint{}
		for at, seen := range partitions {
			source[at], wrote[at] = seen.source, seen.wrote
		}
		print.Source, print.Wrote = hashKnown(source), hashKnown(wrote)
		if h := hashGroup(group); print != (store.GroupPrint{}) {
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

func hashGroup(group string) store.GroupHash {
	sum := sha256.Sum256([]byte(group))
	return store.GroupHash(sum[:8])
}

// hashKnown returns the hash of offsets, or noHash if one of them is not known.
func hashKnown(offsets map[partitionOf]int64) store.OffsetHash {
	for _, o := range offsets {
		if o < 0 {
			return noHash
		}
	}
	return hashOffsets(offsets)
}

func hashOffsets(offsets map[partitionOf]int64) store.OffsetHash {
	h := sha256.New()
	var b []byte
	for _, at := range slices.SortedFunc(maps.Keys(offsets), comparePartitions) {
		b = append(append(b[:0], at.topic...), 0)
		b = binary.BigEndian.AppendUint32(b, uint32(at.partition))
		b = binary.BigEndian.AppendUint64(b, uint64(offsets[at]))
		h.Write(b)
	}
	return store.OffsetHash(h.Sum(nil)[:8])
}
