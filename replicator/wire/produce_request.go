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

// ProduceRequest builds a Produce. Begin, then for each topic Topic and so many times Partition,
// then End, and Conn.Send. It may be used again and allocates nothing once it has been large
// enough.
//
// The records are written from where they are: they must stay as they are until Send has returned.
type ProduceRequest struct {
	message
	inTopic bool
}

// Begin starts a request over. It is acknowledged by the leader alone (acks 1), or by all in-sync
// replicas (-1).
func (r *ProduceRequest) Begin(version int16, clientID string, acks int16, timeoutMillis int32, topics int) {
	r.begin(keyProduce, version, version >= firstFlexibleProduce, clientID)
	r.inTopic = false
	r.null() // no transaction
	r.int16(acks)
	r.int32(timeoutMillis)
	r.length(topics)
}

// Topic starts a topic, of so many partitions. The version decides whether its name or its id is
// sent.
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
