package protocol

// ListOffsetsRequest reads the topics and partitions of a ListOffsets request, v0 to v11, in place:
//
//	for l.Topic() { for l.Partition() { ... } }
//	err := l.Err()
//
// Version notes: v0 a number of offsets for each partition; v2 isolation level; v4 leader epoch; v6
// flexible; v10 time-out (KIP-1075).
type ListOffsetsRequest struct {
	Name      []byte // of the topic; it aliases the frame
	Index     int32  // of the partition
	Timestamp int64

	r       Reader
	version int16
	topics  int
	parts   int
	inTopic bool
}

// ReadListOffsetsRequest begins reading.
func ReadListOffsetsRequest(frame []byte, h RequestHeader) ListOffsetsRequest {
	l := ListOffsetsRequest{r: Reader{Buf: frame, At: h.Body, Flexible: h.Flexible}, version: h.Version}
	l.r.Int32() // replica id
	if h.Version >= 2 {
		l.r.Int8() // isolation level
	}
	l.topics = l.r.Array()
	return l
}

// Topic moves to the next topic.
func (l *ListOffsetsRequest) Topic() bool {
	if l.inTopic {
		for l.Partition() { // the partitions that the caller has not read
		}
		l.r.Tags()
		l.inTopic = false
	}
	if l.topics == 0 || !l.r.Ok() {
		return false
	}
	l.topics--
	l.inTopic = true
	l.Name = l.r.Name()
	l.parts = l.r.Array()
	return l.r.Ok()
}

// Partition moves to the next partition of the topic.
func (l *ListOffsetsRequest) Partition() bool {
	if l.parts == 0 || !l.r.Ok() {
		return false
	}
	l.parts--
	l.Index = l.r.Int32()
	if l.version >= 4 {
		l.r.Int32() // current leader epoch
	}
	l.Timestamp = l.r.Int64()
	if l.version == 0 {
		l.r.Int32() // number of offsets
	}
	l.r.Tags()
	return l.r.Ok()
}

// Err returns the error in the bytes read so far.
func (l *ListOffsetsRequest) Err() error { return l.r.Err() }
