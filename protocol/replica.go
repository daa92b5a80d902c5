package protocol

// tagReplicaState is the tag of a Fetch request that holds the id of the follower that asks
// (KIP-903).
const tagReplicaState = 1

// ReplicaID returns the id of the follower that a request claims to come from. Fetch, ListOffsets
// and OffsetForLeaderEpoch have such a field. The id is negative for clients, and for all other
// requests.
//
// Version notes: Fetch up to v14 and ListOffsets begin with the field, and so does
// OffsetForLeaderEpoch from v3 on. From v15 on Fetch has it in a tag.
func ReplicaID(frame []byte, h RequestHeader) (int32, error) {
	r := Reader{Buf: frame, At: h.Body, Flexible: h.Flexible}
	switch {
	case h.Key == keyFetch && h.Version >= 15:
		return fetchReplicaID(frame, h)
	case h.Key == keyFetch, h.Key == keyListOffsets, h.Key == keyOffsetForLeaderEpoch && h.Version >= 3:
		id := r.Int32()
		return id, r.Err()
	}
	return -1, nil
}

const (
	keyFetch                = 1
	keyListOffsets          = 2
	keyOffsetForLeaderEpoch = 23
)

// fetchReplicaID reads a Fetch request, v15 and later, to its end. If the tag is there twice, the
// larger id counts.
func fetchReplicaID(frame []byte, h RequestHeader) (int32, error) {
	f := ReadFetchRequest(frame, h)
	for f.Topic() {
	}
	r := &f.r
	for n := r.Array(); n > 0 && r.Ok(); n-- { // forgotten topics
		r.UUID()
		r.Int32s()
		r.Tags()
	}
	r.String() // rack
	id := int32(-1)
	for n := r.Uvarint(); n > 0 && r.Ok(); n-- {
		key := r.Uvarint()
		value := Reader{Buf: r.Span(int(r.Uvarint()))}
		if key == tagReplicaState && r.Ok() {
			id = max(id, value.Int32())
		}
	}
	return id, r.Err()
}
