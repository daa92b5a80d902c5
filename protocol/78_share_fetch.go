package protocol

import (
	"encoding/binary"
	"fmt"
)

// ShareRequestTopics reads a ShareFetch or ShareAcknowledge request (v0 to v2) in place, and calls
// each for every topic id.
//
// Version notes: ShareFetch v1 max records and batch size instead of a limit per partition; v2
// acquire mode and renewal (KIP-1206, KIP-1222). ShareAcknowledge v2 renewal.
func ShareRequestTopics(frame []byte, h RequestHeader, each func(id [16]byte)) error {
	r := Reader{Buf: frame, At: h.Body, Flexible: true}
	r.String() // group
	r.String() // member
	r.Int32()  // session epoch
	fetch := h.Key == keyShareFetch
	if fetch {
		r.Span(4 + 4 + 4) // max wait, min bytes, max bytes
		if h.Version >= 1 {
			r.Span(4 + 4)
		}
		if h.Version >= 2 {
			r.Int8()
		}
	}
	if h.Version >= 2 {
		r.Int8()
	}
	for topics := r.Array(); topics > 0 && r.Ok(); topics-- {
		id := r.UUID()
		for parts := r.Array(); parts > 0 && r.Ok(); parts-- {
			r.Int32()
			if fetch && h.Version == 0 {
				r.Int32()
			}
			for n := r.Array(); n > 0 && r.Ok(); n-- {
				r.Span(8 + 8)
				r.Span(r.Array())
				r.Tags()
			}
			r.Tags()
		}
		r.Tags()
		if r.Ok() {
			each(id)
		}
	}
	return r.Err()
}

const keyShareFetch = 78

// AppendShareError appends a whole response frame to a ShareFetch or ShareAcknowledge request, with
// one error for the whole request.
func AppendShareError(dst []byte, h RequestHeader, code int16, message string) []byte {
	at := len(dst)
	dst = append(dst, 0, 0, 0, 0)
	dst = appendInt32(dst, h.CorrelationID)
	dst = append(dst, 0)      // tags
	dst = appendInt32(dst, 0) // throttle time
	dst = binary.BigEndian.AppendUint16(dst, uint16(code))
	dst = appendString(dst, true, message)
	if fetch := h.Key == keyShareFetch; fetch && h.Version >= 1 || !fetch && h.Version >= 2 {
		dst = appendInt32(dst, 0) // acquisition lock time-out
	}
	dst = append(dst, 1, 1, 0) // no topics, no node endpoints, no tags
	binary.BigEndian.PutUint32(dst[at:], uint32(len(dst)-at-4))
	return dst
}

// ShareFetchResponse rewrites the node endpoints at the end of one ShareFetch response (v0 to v2)
// while it passes. It skips records by their length. klink refuses requests for a mirror whose
// offsets need translation, so such a mirror is not in the response. If it is there anyway, through
// a share session older than the mirror, the response is not passed on. ShareFetchResponse
// implements router.Stream and can be used again after Reset.
type ShareFetchResponse struct {
	walker
	resolver Resolver
	version  int16
	state    shareState
	topics   int
	parts    int
	acquired int
	tags     tagWalk
}

type shareState uint8

const (
	shareCorrelation shareState = iota
	shareTags
	shareTop         // throttle time, error code
	shareMessage     // length
	shareLock        // acquisition lock time-out
	shareTopics      // count
	shareID          // of a topic
	sharePartitions  // count
	sharePartition   // index, error code
	sharePartMessage // length
	shareAckCode     //
	shareAckMessage  // length
	shareLeader      // id and epoch; tags
	shareRecordsLen  //
	shareAcquiredLen // count
	shareAcquired    // first and last offset, delivery count; tags
	shareTail        // node endpoints, and the tags of the response
	shareEnd
)

const (
	afterShareHeader = iota
	afterShareLeader
	afterShareAcquired
	afterSharePartition
	afterShareTopic
)

// Reset prepares for one response of this version.
func (f *ShareFetchResponse) Reset(version int16, resolver Resolver) {
	f.walker.reset(f)
	f.resolver, f.version = resolver, version
	f.state, f.topics, f.parts, f.acquired, f.tags = shareCorrelation, 0, 0, 0, tagWalk{}
}

// Finished reports whether the whole response has passed.
func (f *ShareFetchResponse) Finished() bool { return f.walker.finished() }

func (f *ShareFetchResponse) done() bool { return f.state == shareEnd }

func (f *ShareFetchResponse) size(b []byte) int {
	switch f.state {
	case shareCorrelation, shareLock:
		return 4
	case shareTop, sharePartition:
		return 6
	case shareID:
		return 16
	case shareAckCode:
		return 2
	case shareLeader:
		return 8
	case shareAcquired:
		return 18
	case shareTail:
		if f.left > maxToken {
			return 1 + maxTailHead
		}
		return max(f.left, 1)
	case shareEnd:
		return 1
	}
	return uvarintSize(b)
}

func (f *ShareFetchResponse) token(b []byte) error {
	switch f.state {
	case shareCorrelation:
		f.beginTags(afterShareHeader)
	case shareTop:
		f.state = shareMessage
	case shareLock:
		f.state = shareTopics
	case shareID:
		m, known := f.resolver.Topic(nil, [16]byte(b))
		if m != nil || !known {
			return fmt.Errorf("topic id %x in a ShareFetch response, which is a mirror or one that klink does not know", b)
		}
		f.state = sharePartitions
	case sharePartition:
		f.state = sharePartMessage
	case shareAckCode:
		f.state = shareAckMessage
	case shareLeader:
		f.beginTags(afterShareLeader)
	case shareAcquired:
		f.beginTags(afterShareAcquired)
	case shareTail:
		f.state = shareEnd
		return f.tail(b)
	case shareEnd:
		return fmt.Errorf("%w: %d bytes after the last field of a ShareFetch response", ErrMalformed, f.left+len(b))
	default:
		v, err := readUvarint(b)
		if err != nil {
			return err
		}
		return f.varint(v)
	}
	return nil
}

// varint handles a length, a count or a part of a tag.
func (f *ShareFetchResponse) varint(v int) error {
	if f.state == shareTags {
		switch {
		case !f.tags.take(v):
		case f.tags.ended():
			f.afterTags()
		default:
			f.skip = f.tags.rest
			if !f.tags.next() {
				f.afterTags()
			}
		}
		return nil
	}
	n := max(v-1, 0)
	if n > f.left {
		return fmt.Errorf("%w: a count of %d where %d bytes are left of the ShareFetch response", ErrMalformed, n, f.left)
	}
	switch f.state {
	case shareMessage:
		f.skip = n
		if f.state = shareTopics; f.version >= 1 {
			f.state = shareLock
		}
	case shareTopics:
		f.topics = n
		f.nextTopic()
	case sharePartitions:
		f.parts = n
		f.nextPartition()
	case sharePartMessage:
		f.skip, f.state = n, shareAckCode
	case shareAckMessage:
		f.skip, f.state = n, shareLeader
	case shareRecordsLen:
		f.skip, f.state = n, shareAcquiredLen
	case shareAcquiredLen:
		f.acquired = n
		f.nextAcquired()
	}
	return nil
}

func (f *ShareFetchResponse) beginTags(after int) {
	f.state = shareTags
	f.tags.begin(after)
}

func (f *ShareFetchResponse) afterTags() {
	switch f.tags.after {
	case afterShareHeader:
		f.state = shareTop
	case afterShareLeader:
		f.state = shareRecordsLen
	case afterShareAcquired:
		f.acquired--
		f.nextAcquired()
	case afterSharePartition:
		f.parts--
		f.nextPartition()
	case afterShareTopic:
		f.topics--
		f.nextTopic()
	}
}

func (f *ShareFetchResponse) nextTopic() {
	if f.state = shareTail; f.topics > 0 {
		f.state = shareID
	}
}

func (f *ShareFetchResponse) nextPartition() {
	if f.parts > 0 {
		f.state = sharePartition
		return
	}
	f.beginTags(afterShareTopic)
}

func (f *ShareFetchResponse) nextAcquired() {
	if f.acquired > 0 {
		f.state = shareAcquired
		return
	}
	f.beginTags(afterSharePartition)
}

// tail rewrites the node endpoints and the tags behind them, like rewriteTail: endpoints that do
// not fit become an empty array and one unknown tag.
func (f *ShareFetchResponse) tail(b []byte) error {
	if f.left > 0 {
		b[0] = 1 // an empty array
		hideTags(b[1:], len(b)-1+f.left)
		f.skip = f.left
		return nil
	}
	r := Reader{Buf: b, Flexible: true}
	if r.Array() == 0 && r.Ok() {
		r.Tags()
		return r.Err()
	}
	r.At = 0
	out, unknown := rewriteEndpoints(nil, &r, f.resolver)
	tags, last := readTags(&r)
	if r.Ok() && r.Left() > 0 {
		r.fail()
	}
	if err := r.Err(); err != nil {
		return err
	}
	if !unknown && len(out) < len(b) && padTags(b[len(out):], tags, last) {
		copy(b, out)
		return nil
	}
	b[0] = 1
	hideTags(b[1:], len(b)-1)
	return nil
}

// readTags reads a section of tags. It returns a copy of the section, and the highest key.
func readTags(r *Reader) (tags []byte, last uint32) {
	from := r.At
	for n := r.Uvarint(); n > 0 && r.Ok(); n-- {
		last = max(last, r.Uvarint())
		r.Span(int(r.Uvarint()))
	}
	return append([]byte(nil), r.Buf[from:r.At]...), last
}
