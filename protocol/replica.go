package protocol

// ReplicaID returns the id of the follower that a ListOffsets or OffsetForLeaderEpoch request
// claims to come from. The id is negative for clients, and for requests without the field. A Fetch
// request has one too: FetchRequest.End returns it.
//
// Version notes: ListOffsets begins with the field, and so does OffsetForLeaderEpoch from v3 on.
func ReplicaID(frame []byte, h RequestHeader) (int32, error) {
	if h.Key == keyListOffsets || h.Key == keyOffsetForLeaderEpoch && h.Version >= 3 {
		r := Reader{Buf: frame, At: h.Body}
		id := r.Int32()
		return id, r.Err()
	}
	return -1, nil
}

const (
	keyListOffsets          = 2
	keyOffsetForLeaderEpoch = 23
)
