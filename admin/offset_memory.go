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
)

// offsetMemory is what klink remembers of the offsets that it syncs for one link: for each group
// and partition an offsetSeen, some 100 bytes. A part of it outlives the process, as a fingerprint
// of each group in the state topic (offsetsRecord): it tells whether all that is committed for the
// group is still what klink wrote, and whether the group has rested at the source.
//
// The fingerprints are stored after a run, so they may be older than what was written last; they
// then fit nothing, and klink begins without a memory of that group. That is safe: see invariant 3
// of offsetCase.
//
// Its lock is held from the reading of offsets at the source until what follows from them is
// committed, so that of two runs (of the task and of a command) none commits what it has read
// before the other.
type offsetMemory struct {
	lock   chan struct{} // a mutex that a context can give up on; guards the rest
	groups map[string]map[partitionOf]offsetSeen
	// stored are the fingerprints of groups of an earlier process that have not been looked at yet.
	stored map[groupHash]groupPrint
	saved  offsetsRecord
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

// newOffsetMemory begins with what an earlier process has stored; nil = nothing.
func newOffsetMemory(stored *offsetsRecord) *offsetMemory {
	m := &offsetMemory{lock: make(chan struct{}, 1)}
	m.reset(stored)
	return m
}

func (m *offsetMemory) reset(stored *offsetsRecord) {
	m.groups, m.stored, m.saved, m.at = map[string]map[partitionOf]offsetSeen{}, nil, offsetsRecord{}, time.Time{}
	if stored != nil {
		m.stored, m.saved = stored.prints(), *stored
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

// seen is the memory of one group, for offsets that are committed at the source and at the
// destination now (-1 = none). A group that is new to this process is compared with its stored
// fingerprint.
func (m *offsetMemory) seen(group string, source, committed map[partitionOf]int64) map[partitionOf]offsetSeen {
	if known, ok := m.groups[group]; ok {
		return known
	}
	known := make(map[partitionOf]offsetSeen, len(source))
	print, ok := m.stored[hashGroup(group)]
	if !ok {
		return known
	}
	own := print.wrote != noHash && print.wrote == hashOffsets(committed)
	rests := print.source != noHash && print.source == hashOffsets(source)
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

// keep replaces the memory of a group. part: there may be more partitions of it than these.
func (m *offsetMemory) keep(group string, seen map[partitionOf]offsetSeen, part bool) {
	if old := m.groups[group]; part && old != nil {
		maps.Copy(old, seen)
		return
	}
	m.groups[group] = seen
}

// retain forgets all other groups: those that are deleted at the source, or not synced any more.
func (m *offsetMemory) retain(groups []string) {
	listed, hashes := make(map[string]bool, len(groups)), make(map[groupHash]bool, len(groups))
	for _, group := range groups {
		listed[group], hashes[hashGroup(group)] = true, true
	}
	maps.DeleteFunc(m.groups, func(group string, _ map[partitionOf]offsetSeen) bool { return !listed[group] })
	maps.DeleteFunc(m.stored, func(h groupHash, _ groupPrint) bool { return !hashes[h] })
}

// record is what is to be stored; changed is false if that is stored already.
func (m *offsetMemory) record(linkID string) (r offsetsRecord, changed bool) {
	prints := maps.Clone(m.stored)
	if prints == nil {
		prints = map[groupHash]groupPrint{}
	}
	source, wrote := map[partitionOf]int64{}, map[partitionOf]int64{}
	for group, partitions := range m.groups {
		clear(source)
		clear(wrote)
		print := groupPrint{}
		for at, seen := range partitions {
			source[at], wrote[at] = seen.source, seen.wrote
		}
		print.source, print.wrote = hashKnown(source), hashKnown(wrote)
		if h := hashGroup(group); print != (groupPrint{}) {
			prints[h] = print
		} else {
			delete(prints, h)
		}
	}
	r = newOffsetsRecord(linkID, prints)
	return r, r.Link != m.saved.Link || !bytes.Equal(r.Groups, m.saved.Groups)
}

// groupHash stands for a group, groupPrint for what klink remembers of it. Hashes are the first
// bytes of SHA-256; noHash = not known of some partition.
type (
	groupHash  [8]byte
	offsetHash [8]byte
	groupPrint struct{ source, wrote offsetHash }
)

var noHash offsetHash

func hashGroup(group string) groupHash {
	sum := sha256.Sum256([]byte(group))
	return groupHash(sum[:8])
}

// hashKnown is the hash of offsets that are all known.
func hashKnown(offsets map[partitionOf]int64) offsetHash {
	for _, o := range offsets {
		if o < 0 {
			return noHash
		}
	}
	return hashOffsets(offsets)
}

func hashOffsets(offsets map[partitionOf]int64) offsetHash {
	h := sha256.New()
	var b []byte
	for _, at := range slices.SortedFunc(maps.Keys(offsets), comparePartitions) {
		b = append(append(b[:0], at.topic...), 0)
		b = binary.BigEndian.AppendUint32(b, uint32(at.partition))
		b = binary.BigEndian.AppendUint64(b, uint64(offsets[at]))
		h.Write(b)
	}
	return offsetHash(h.Sum(nil)[:8])
}
