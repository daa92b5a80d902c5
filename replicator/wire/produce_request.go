package wire

// The versions of Produce: v3 brought the record batches of today, v13 topic ids in place of names
// (KIP-516).
const (
	keyProduce           = 0
	minProduce           = 3
	maxProduce           = 13
	firstFlexibleProduce = 9
	// FirstProduceWithIDs is the first version of Produce that names topics by id.
	FirstProduceWithIDs = 13
)

// ProduceRequest builds a Produce request. Call Begin; for each topic Topic, and Partition for each
// of its partitions; then End, and Conn.Send. A ProduceRequest can be used again, and allocates
// nothing once it has been large enough.
//
// The records are not copied: they must not change until Send has returned.
type ProduceRequest struct {
	message
	inTopic bool
}

// Begin starts a new request. topics is how many topics follow. The leader alone acknowledges the
// request (acks 1), or all in-sync replicas do (-1).
func (r *ProduceRequest) Begin(version int16, clientID string, acks int16, timeoutMillis int32, topics int) {
	r.begin(keyProduce, version, version >= firstFlexibleProduce, clientID)
	r.inTopic = false
	r.null() // no transaction
	r.int16(acks)
	r.int32(timeoutMillis)
	r.length(topics)
}

// Topic starts a topic. partitions is how many partitions follow. The version decides whether the
// name or the id is sent.
func (r *ProduceRequest) Topic(name string, id *[16]byte, partitions int) {
	r.endTopic()
	r.inTopic = true
	if r.version >= FirstProduceWithIDs {
		r.buf = append(r.buf, id[:]...)
	} else {
		r.str(name)
	}
	r.length(partitions)
}

// Partition adds the records of a partition to the topic.
func (r *ProduceRequest) Partition(partition int32, records []byte) {
	r.int32(partition)
	r.records(records)
	r.tags()
}

func (r *ProduceRequest) endTopic() {
	if r.inTopic {
		r.tags()
	}
}

// End ends the request.
func (r *ProduceRequest) End() {
	r.endTopic()
	r.tags()
}
