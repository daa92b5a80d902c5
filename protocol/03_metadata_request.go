package protocol

// MetadataRequest reads the topics of a Metadata request, v0 to v13, in place:
//
//	for m.Topic() { ... }
//	err := m.Err()
//
// Version notes: v4 a flag that allows the broker to create topics, which it always may before; v9
// flexible; v10 topic ids.
type MetadataRequest struct {
	// Name is the current topic; it aliases the frame. It may be nil from v10 on, where a request
	// may ask by ID instead.
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

// Topic moves to the next topic.
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

// Creates reports whether the broker may create topics that do not exist. It is valid after the
// last topic.
func (m *MetadataRequest) Creates() bool { return m.create }

// Err returns the error in the bytes read so far.
func (m *MetadataRequest) Err() error { return m.r.Err() }
