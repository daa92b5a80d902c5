package protocol

import (
	"encoding/binary"

	"github.com/twmb/franz-go/pkg/kerr"
)

// FetchRequest reads the topics and partitions of a Fetch request, v0 to v18, in place:
//
//	for f.Topic() { for f.Partition() { ... } }
//	err := f.Err()
//
// It does not read the forgotten topics and what follows them: klink has nothing to change there.
type FetchRequest struct {
	// Name aliases the frame. It is nil from v13 on, where ID names the topic.
	Name  []byte
	ID    [16]byte
	Index int32 // of the partition

	offset  []byte
	session []byte // id and epoch, nil before v7
	r       Reader
	version int16
	topics  int
	parts   int
	inTopic bool
}

// ReadFetchRequest begins reading.
func ReadFetchRequest(frame []byte, h RequestHeader) FetchRequest {
	f := FetchRequest{r: Reader{Buf: frame, At: h.Body, Flexible: h.Flexible}, version: h.Version}
	n := 8 // max wait, min bytes
	if h.Version <= 14 {
		n += 4 // replica id; later in a tag
	}
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
	f.offset = f.r.Span(8)
	n := 4 // partition max bytes
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
func (f *FetchRequest) Offset() int64 { return int64(binary.BigEndian.Uint64(f.offset)) }

// SetOffset overwrites the offset in the frame.
func (f *FetchRequest) SetOffset(o int64) { binary.BigEndian.PutUint64(f.offset, uint64(o)) }

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

// Err returns the error in the bytes read so far.
func (f *FetchRequest) Err() error { return f.r.Err() }
