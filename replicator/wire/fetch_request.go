package wire

// The versions of Fetch: v4 brought isolation levels, v13 topic ids in place of names (KIP-516).
// Later ones have nothing that a client without a rack needs.
const (
	keyFetch           = 1
	minFetch           = 0
	maxFetch           = 13
	firstFlexibleFetch = 12
	// FirstFetchWithIDs is the first version of Fetch that names topics by id.
	FirstFetchWithIDs = 13
)

// FetchRequest builds a Fetch request. Call Begin; for each topic Topic, and Partition for each of
// its partitions; then Forget, with ForgetTopic for each topic to forget; then End, and Conn.Send.
// A FetchRequest can be used again, and allocates nothing once it has been large enough.
type FetchRequest struct {
	message
	inTopic bool
}

// FetchParams are the fields of a Fetch that concern the whole request.
type FetchParams struct {
	MaxWaitMillis, MinBytes, MaxBytes int32
	// ReadCommitted: the broker returns nothing above the last stable offset (v4).
	ReadCommitted bool
	// SessionID and SessionEpoch are those of a fetch session (v7, KIP-227); 0 and -1 for none.
	SessionID, SessionEpoch int32
}

// Begin starts a new request. topics is how many topics follow.
func (r *FetchRequest) Begin(version int16, clientID string, p FetchParams, topics int) {
	r.begin(keyFetch, version, version >= firstFlexibleFetch, clientID)
	r.inTopic = false
	r.int32(-1) // not a replica
	r.int32(p.MaxWaitMillis)
	r.int32(p.MinBytes)
	if version >= 3 {
		r.int32(p.MaxBytes)
	}
	if version >= 4 {
		isolation := int8(0)
		if p.ReadCommitted {
			isolation = 1
		}
		r.int8(isolation)
	}
	if version >= 7 {
		r.int32(p.SessionID)
		r.int32(p.SessionEpoch)
	}
	r.length(topics)
}

// Topic starts a topic. partitions is how many partitions follow. The version decides whether the
// name or the id is sent.
func (r *FetchRequest) Topic(name string, id *[16]byte, partitions int) {
	r.endTopic()
	r.inTopic = true
	r.topic(name, id, partitions)
}

func (r *FetchRequest) topic(name string, id *[16]byte, partitions int) {
	if r.version >= FirstFetchWithIDs {
		r.buf = append(r.buf, id[:]...)
	} else {
		r.str(name)
	}
	r.length(partitions)
}

// Partition adds a partition to the topic. leaderEpoch is the one that the client knows (v9), -1 =
// unknown.
func (r *FetchRequest) Partition(partition, leaderEpoch int32, offset int64, maxBytes int32) {
	r.int32(partition)
	if r.version >= 9 {
		r.int32(leaderEpoch)
	}
	r.int64(offset)
	if r.version >= 12 {
		r.int32(-1) // last fetched epoch: for replicas
	}
	if r.version >= 5 {
		r.int64(-1) // log start offset: for replicas
	}
	r.int32(maxBytes)
	r.tags()
}

func (r *FetchRequest) endTopic() {
	if r.inTopic {
		r.tags()
	}
}

// Forget ends the topics to fetch. topics is how many topics have partitions that leave the session
// (v7). Forget has to be called in every version.
func (r *FetchRequest) Forget(topics int) {
	r.endTopic()
	r.inTopic = false
	if r.version >= 7 {
		r.length(topics)
	}
}

// ForgetTopic adds a topic and those of its partitions that leave the session.
func (r *FetchRequest) ForgetTopic(name string, id *[16]byte, partitions []int32) {
	r.topic(name, id, len(partitions))
	for _, p := range partitions {
		r.int32(p)
	}
	r.tags()
}

// End ends the request.
func (r *FetchRequest) End() {
	if r.version >= 11 {
		r.str("") // no rack
	}
	r.tags()
}
