package protocol

import (
	"encoding/binary"

	"github.com/twmb/franz-go/pkg/kerr"
)

// FetchRequest reads the topics and partitions of a Fetch request, v0 to v18, in place:
//
//	for f.Topic() { for f.Partition() { ... } }
//	replica, err := f.End()
//
// One walk is enough to decide on a request: what is changed later is found by its Place.
type FetchRequest struct {
	// Name aliases the frame. It is nil from v13 on, where ID names the topic.
	Name  []byte
	ID    [16]byte
	Index int32 // of the partition

	offsetAt int
	session  []byte // id and epoch, nil before v7
	r        Reader
	version  int16
	replica  int32 // from v15 on in a tag at the end
	topics   int
	parts    int
	inTopic  bool
}

// ReadFetchRequest begins reading.
func ReadFetchRequest(frame []byte, h RequestHeader) FetchRequest {
	f := FetchRequest{r: Reader{Buf: frame, At: h.Body, Flexible: h.Flexible}, version: h.Version, replica: -1}
	if h.Version <= 14 {
		f.replica = f.r.Int32()
	}
	n := 8 // max wait, min bytes
	if h.Version >= 3 {
		n += 4 // max bytes
	}
	if h.Version >= 4 {
		n++ // isolation level
	}
	f.r.Span(n)
	if h.Version >= 7 {
		f.session = f.r.Span(8)
	}
	f.topics = f.r.Array()
	return f
}

// Topic moves to the next topic.
func (f *FetchRequest) Topic() bool {
	if f.inTopic {
		for f.Partition() { // the partitions that the caller has not read
		}
		f.r.Tags()
		f.inTopic = false
	}
	if f.topics == 0 || !f.r.Ok() {
		return false
	}
	f.topics--
	f.inTopic = true
	if f.version >= 13 {
		f.ID = f.r.UUID()
	} else {
		f.Name = f.r.Name()
	}
	f.parts = f.r.Array()
	return f.r.Ok()
}

// Partition moves to the next partition of the topic.
func (f *FetchRequest) Partition() bool {
	if f.parts == 0 || !f.r.Ok() {
		return false
	}
	f.parts--
	f.Index = f.r.Int32()
	if f.version >= 9 {
		f.r.Int32() // current leader epoch
	}
	f.offsetAt = f.r.At
	n := 8 + 4 // offset, partition max bytes
	if f.version >= 12 {
		n += 4 // last fetched epoch
	}
	if f.version >= 5 {
		n += 8 // log start offset, of followers
	}
	f.r.Span(n)
	f.r.Tags()
	return f.r.Ok()
}

// Offset returns the offset that the client asks for.
func (f *FetchRequest) Offset() int64 { return int64(binary.BigEndian.Uint64(f.r.Buf[f.offsetAt:])) }

// Place returns where that offset stands in the frame, for SetOffset.
func (f *FetchRequest) Place() int { return f.offsetAt }

// SetOffset overwrites the offset at a Place.
func (f *FetchRequest) SetOffset(place int, o int64) {
	binary.BigEndian.PutUint64(f.r.Buf[place:], uint64(o))
}

// Incremental reports whether the request belongs to an existing fetch session (KIP-227). The
// broker then remembers the offsets of partitions that the request does not list again.
func (f *FetchRequest) Incremental() bool {
	return f.session != nil && int32(binary.BigEndian.Uint32(f.session[4:])) > 0
}

// Session returns the id of the fetch session that the request belongs to, or 0 if there is none.
func (f *FetchRequest) Session() int32 {
	if f.session == nil {
		return 0
	}
	return int32(binary.BigEndian.Uint32(f.session))
}

// BeginsSession reports whether this is a full request that asks for a new fetch session
// (FetchMetadata.INITIAL_EPOCH).
func (f *FetchRequest) BeginsSession() bool {
	return f.session != nil && binary.BigEndian.Uint32(f.session[4:]) == 0
}

// NoSession changes a full request so that it begins no fetch session (FetchMetadata.FINAL_EPOCH).
func (f *FetchRequest) NoSession() {
	if f.session != nil {
		binary.BigEndian.PutUint32(f.session[4:], ^uint32(0))
	}
}

// AppendFetchSessionGone appends a whole response frame to an incremental Fetch request (v7 and
// later). It says that the session does not exist, so the client starts again with a full request.
func AppendFetchSessionGone(dst []byte, h RequestHeader) []byte {
	at := len(dst)
	dst = append(dst, 0, 0, 0, 0)
	dst = appendInt32(dst, h.CorrelationID)
	dst = appendNoTags(dst, h.Flexible)
	dst = appendInt32(dst, 0) // throttle time
	dst = binary.BigEndian.AppendUint16(dst, uint16(kerr.FetchSessionIDNotFound.Code))
	dst = appendInt32(dst, 0) // session id
	dst = appendCount(dst, h.Flexible, 0)
	dst = appendNoTags(dst, h.Flexible)
	binary.BigEndian.PutUint32(dst[at:], uint32(len(dst)-at-4))
	return dst
}

// End reads past the topics that the caller has not read. It returns the id of the follower that
// the request claims to come from, which is negative for clients, and the error in the bytes read.
// Call it once, after the last Topic or in its place.
//
// Version notes: from v15 on the id is in a tag at the end, so End reads all of the request (if the
// tag is there twice, the larger id counts). Up to v14 the id is at the beginning, and End does not
// read the forgotten topics and what follows them.
func (f *FetchRequest) End() (replica int32, err error) {
	for f.Topic() {
	}
	if f.version >= 15 {
		f.tail()
	}
	return f.replica, f.r.Err()
}

// tagReplicaState is the tag that holds the id of the follower that asks (KIP-903).
const tagReplicaState = 1

// tail reads what follows the topics, v15 and later.
func (f *FetchRequest) tail() {
	r := &f.r
	for n := r.Array(); n > 0 && r.Ok(); n-- { // forgotten topics
		r.UUID()
		r.Int32s()
		r.Tags()
	}
	r.String() // rack
	for n := r.Uvarint(); n > 0 && r.Ok(); n-- {
		key := r.Uvarint()
		value := Reader{Buf: r.Span(int(r.Uvarint()))}
		if key == tagReplicaState && r.Ok() {
			f.replica = max(f.replica, value.Int32())
		}
	}
}
