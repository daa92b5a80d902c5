package protocol

// MetadataRequest reads the topics of a Metadata request, v0 to v13, in place:
//
//	for m.Topic() { ... }
//	err := m.Err()
//
// Version notes: v4 a flag to allow that topics are created; before, they always are. v9 flexible;
// v10 topic ids.
type MetadataRequest struct {
	// Name of the topic at hand; it aliases the frame. It may be nil from v10 on, which ask by ID
	// too.
	Name []byte

	r       Reader
	version int16
	topics  int
	create  bool
}

// ReadMetadataRequest begins reading.
func ReadMetadataRequest(frame []byte, h RequestHeader) MetadataRequest {
	m := MetadataRequest{r: Reader{Buf: frame, At: h.Body, Flexible: h.Flexible}, version: h.Version}
	m.topics = m.r.Array()
	return m
}

// Topic goes to the next topic.
func (m *MetadataRequest) Topic() bool {
	if m.topics == 0 || !m.r.Ok() {
		if m.topics == 0 && m.r.Ok() {
			m.create = m.version < 4 || m.r.Int8() != 0
			m.topics = -1
		}
		return false
	}
	if m.topics < 0 {
		return false
	}
	m.topics--
	if m.version >= 10 {
		m.r.UUID()
		m.Name = m.r.String()
	} else {
		m.Name = m.r.Name()
	}
	m.r.Tags()
	return m.r.Ok()
}

// Creates is true if the broker may create topics that do not exist. It is known after the last
// topic.
func (m *MetadataRequest) Creates() bool { return m.create }

// Err says what was wrong with the bytes read so far.
func (m *MetadataRequest) Err() error { return m.r.Err() }
