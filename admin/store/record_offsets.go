package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// OffsetsRecord is the value of offsets/LINK: what klink remembers across restarts about the
// offsets that it has synced for the groups of a link, in 24 bytes a group; see offsetMemory. klink
// can do without it, so a field that this version does not know is lost with the next write.
type OffsetsRecord struct {
	Version int    `json:"version"`
	Link    string `json:"link"` // LinkRecord.ID; a record of an earlier link of the name is ignored
	// Groups has three hashes of 8 bytes for each group: of its name, of its offsets at the source,
	// and of those that klink wrote. The groups are sorted by the hash of the name.
	Groups []byte `json:"groups"` // base64
	// Filters are those that the offset sync of the link works with, as announced by its owner; see
	// announceFilters. klink cannot do without this field.
	Filters string `json:"filters,omitempty"`
}

const (
	printBytes = 24
	// maxPrints keeps the record below the 1 MiB that a broker takes by default; groups beyond it
	// are not remembered.
	maxPrints = 24_000
)

// GroupHash is the hash of the name of a group.
type GroupHash [8]byte

// OffsetHash is the hash of offsets of a group; zero = one of them is not known.
type OffsetHash [8]byte

// GroupPrint is what klink remembers about a group: the hash of its offsets at the source, and of
// those that klink wrote.
type GroupPrint struct{ Source, Wrote OffsetHash }

// NewOffsetsRecord makes the record of a link. It drops groups beyond maxPrints.
func NewOffsetsRecord(linkID string, prints map[GroupHash]GroupPrint) OffsetsRecord {
	hashes := slices.SortedFunc(maps.Keys(prints), func(a, b GroupHash) int { return bytes.Compare(a[:], b[:]) })
	if len(hashes) > maxPrints {
		hashes = hashes[:maxPrints]
	}
	b := make([]byte, 0, len(hashes)*printBytes)
	for _, h := range hashes {
		p := prints[h]
		b = append(append(append(b, h[:]...), p.Source[:]...), p.Wrote[:]...)
	}
	return OffsetsRecord{Version: RecordVersion, Link: linkID, Groups: b}
}

// Prints returns what the record remembers of the groups; the map is the caller's.
func (r *OffsetsRecord) Prints() map[GroupHash]GroupPrint {
	prints := make(map[GroupHash]GroupPrint, len(r.Groups)/printBytes)
	for b := range slices.Chunk(r.Groups, printBytes) {
		prints[GroupHash(b[:8])] = GroupPrint{Source: OffsetHash(b[8:16]), Wrote: OffsetHash(b[16:24])}
	}
	return prints
}

func decodeOffsets(value []byte) (*OffsetsRecord, error) {
	r := &OffsetsRecord{}
	if err := json.Unmarshal(value, r); err != nil {
		return nil, fmt.Errorf("not a record of synced offsets: %w", err)
	}
	switch {
	case r.Version < 1:
		return nil, errors.New("has no version")
	case r.Version > RecordVersion:
		return nil, errLaterVersion(r.Version)
	case len(r.Groups)%printBytes != 0:
		return nil, errors.New("is cut off")
	}
	return r, nil
}

func (r *OffsetsRecord) encode() ([]byte, error) { return json.Marshal(r) }

// OffsetsRecord returns what is remembered about the offsets of a link; nil = nothing. The caller
// must not change it.
func (s *Store) Offsets(link, id string) *OffsetsRecord {
	defer s.log.Hold()()
	if r := s.records.offsets[link]; r != nil && r.Link == id {
		return r
	}
	return nil
}
