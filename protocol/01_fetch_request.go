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
// Forgotten topics and what follows are not read: klink has nothing to change there.
type FetchRequest struct {
	// Name aliases the frame; nil from v13 on, which have ID.
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

// Topic goes to the next topic.
func (f *FetchRequest) Topic() bool {
	if f.inTopic {
		for f.Partition() { // what the caller has not read
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

// Partition goes to the next partition of the topic.
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

// Offset is the offset that is asked for.
func (f *FetchRequest) Offset() int64 { return int64(binary.BigEndian.Uint64(f.offset)) }

// SetOffset changes it in the frame.
func (f *FetchRequest) SetOffset(o int64) { binary.BigEndian.PutUint64(f.offset, uint64(o)) }

// Incremental is true if the request belongs to a fetch session that exists (KIP-227): a broker
// then remembers the offsets of partitions that are not listed again.
func (f *FetchRequest) Incremental() bool {
	return f.session != nil && int32(binary.BigEndian.Uint32(f.session[4:])) > 0
}

// Session is the id of the fetch session that the request belongs to; 0 = none.
func (f *FetchRequest) Session() int32 {
	if f.session == nil {
		return 0
	}
	return int32(binary.BigEndian.Uint32(f.session))
}

// BeginsSession is true if the request is a full one that asks for a new fetch session
// (FetchMetadata.INITIAL_EPOCH).
func (f *FetchRequest) BeginsSession() bool {
	return f.session != nil && binary.BigEndian.Uint32(f.session[4:]) == 0
}

// NoSession makes a full request one that begins no fetch session (FetchMetadata.FINAL_EPOCH).
func (f *FetchRequest) NoSession() {
	if f.session != nil {
		binary.BigEndian.PutUint32(f.session[4:], ^uint32(0))
	}
}

// AppendFetchSessionGone appends a whole response frame to an incremental Fetch request (v7 and
// later) which says that there is no such session: the client begins anew with a full request.
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

// Err says what was wrong with the bytes read so far.
func (f *FetchRequest) Err() error { return f.r.Err() }
