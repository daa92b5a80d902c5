package protocol

import (
	"encoding/binary"
	"fmt"
)

// Fetch response, v0 to v18, as a stream.
//
// Version notes: v1 throttle time; v4 last stable offset and aborted transactions; v5 log start
// offset; v7 error code and session id (KIP-227); v11 preferred read replica; v12 flexible,
// diverging epoch in a tag; v13 topic ids instead of names; v16 node endpoints in a tag (KIP-951).
// A response of a fetch session leaves out partitions without news. The walker needs no memory of
// them.

// FetchResponse rewrites one Fetch response while it passes. In partitions of mirrors it rewrites
// every offset and the base offset of every batch; it also rewrites the node endpoints. It skips
// records of other topics by their length. It implements router.Stream, holds back less than 256
// bytes, and can be used again after Reset.
type FetchResponse struct {
	walker
	resolver Resolver
	version  int16
	flexible bool

	state  fetchState
	topics int
	parts  int
	// aborted is the number of aborted transactions of the partition that are still to come.
	aborted int
	// recs is the number of bytes of the partition's records that have not passed yet.
	recs int
	tags tagWalk
	// code and session are the response's. They are 0 before v7, and until they have passed.
	code    int16
	session int32

	shown   shown
	voiding bool // the current batch is hidden
	// Voided, unless nil, is called for every batch that klink has hidden in passing.
	Voided func(v View, physical int64)

	mirror Mirror
	known  bool
	part   int32
	view   View
	// name[:nameLen] or id is the topic, for error messages. They are copies, because the bytes of
	// the frame have already passed.
	name    [maxTopicName]byte
	nameLen int
	id      [16]byte
}

// maxTopicName is the length of the longest name that a Kafka topic can have
// (Topic.MAX_NAME_LENGTH).
const maxTopicName = 249

type fetchState uint8

const (
	fetchCorrelation fetchState = iota
	fetchTags
	fetchTop        // throttle time, error code, session id
	fetchTopics     // count
	fetchNameLen    // of a topic's name
	fetchName       //
	fetchID         // of a topic
	fetchPartitions // count
	fetchPartition  // index, error code, high watermark, last stable offset, log start offset
	fetchAbortedLen // count
	fetchAborted    // producer id, first offset
	fetchReplica    // preferred read replica
	fetchRecordsLen //
	fetchBatch      // the header of a batch of a mirror
	fetchBlank      // the beginning of records that are hidden
	fetchDiverging  // diverging epoch of a partition that is translated or hidden
	fetchTail       // the tags of the response
	fetchEnd
)

// What follows the section of tags that is being read.
const (
	afterHeader = iota
	afterAborted
	afterPartition
	afterTopic
)

// Reset prepares for one response of this version. The response calls resolver while it passes.
func (f *FetchResponse) Reset(version int16, resolver Resolver) {
	f.walker.reset(f)
	f.resolver, f.version, f.flexible = resolver, version, version >= 12
	f.state, f.topics, f.parts, f.aborted, f.recs = fetchCorrelation, 0, 0, 0, 0
	f.mirror, f.known, f.view = nil, false, View{}
	f.tags = tagWalk{}
	f.code, f.session = 0, 0
	f.shown, f.voiding = shown{}, false
}

// Finished reports whether the whole response has passed.
func (f *FetchResponse) Finished() bool { return f.walker.finished() }

// Session returns the fetch session that the response belongs to (KIP-227), once it has passed. It
// returns 0 if there is none, or if the broker has dropped it.
func (f *FetchResponse) Session() int32 {
	if f.code != 0 {
		return 0
	}
	return f.session
}

func (f *FetchResponse) done() bool { return f.state == fetchEnd }

func (f *FetchResponse) countSize(b []byte) int {
	if f.flexible {
		return uvarintSize(b)
	}
	return 4
}

// count reads the token that holds the count of a nullable array or the length of nullable bytes.
// Null is 0.
func (f *FetchResponse) count(b []byte) (int, error) {
	n, err := 0, error(nil)
	if f.flexible {
		n, err = readUvarint(b)
		n--
	} else {
		n = int(int32(binary.BigEndian.Uint32(b)))
	}
	if err == nil && (n < -1 || n > f.left) {
		err = fmt.Errorf("%w: a count of %d where %d bytes are left of the Fetch response", ErrMalformed, n, f.left)
	}
	return max(n, 0), err
}

func (f *FetchResponse) size(b []byte) int {
	switch f.state {
	case fetchCorrelation, fetchReplica:
		return 4
	case fetchTags:
		return uvarintSize(b)
	case fetchTop:
		if f.version >= 7 {
			return 10
		}
		return 4
	case fetchTopics, fetchPartitions, fetchAbortedLen, fetchRecordsLen:
		return f.countSize(b)
	case fetchNameLen:
		if f.flexible {
			return uvarintSize(b)
		}
		return 2
	case fetchName:
		return f.nameLen
	case fetchID, fetchAborted:
		return 16
	case fetchPartition:
		switch {
		case f.version >= 5:
			return 30
		case f.version == 4:
			return 22
		}
		return 14
	case fetchBatch:
		return f.batchSize(b)
	case fetchBlank:
		return min(blankHead, f.recs)
	case fetchDiverging:
		return 12
	case fetchTail:
		return tailSize(f.left)
	}
	return 1 // fetchEnd: token refuses it
}

func (f *FetchResponse) token(b []byte) error {
	switch f.state {
	case fetchCorrelation:
		if f.flexible {
			f.beginTags(afterHeader)
			return nil
		}
		f.afterTags(afterHeader)
	case fetchTags:
		return f.tag(b)
	case fetchTop:
		if f.version >= 7 {
			f.code, f.session = int16(binary.BigEndian.Uint16(b[4:])), int32(binary.BigEndian.Uint32(b[6:]))
		}
		f.state = fetchTopics
	case fetchTopics:
		n, err := f.count(b)
		f.topics = n
		f.nextTopic()
		return err
	case fetchNameLen:
		return f.nameLength(b)
	case fetchName:
		copy(f.name[:], b)
		f.mirror, f.known = f.resolver.Topic(b, [16]byte{})
		f.state = fetchPartitions
	case fetchID:
		f.id = [16]byte(b)
		f.mirror, f.known = f.resolver.Topic(nil, f.id)
		f.state = fetchPartitions
	case fetchPartitions:
		n, err := f.count(b)
		f.parts = n
		f.nextPartition()
		return err
	case fetchPartition:
		return f.partition(b)
	case fetchAbortedLen:
		n, err := f.count(b)
		f.aborted = n
		f.nextAborted()
		return err
	case fetchAborted:
		switch {
		case f.view.Hidden:
			putUnknown(b[8:])
		case f.view.Timeline != nil:
			f.baseToLogical(b[8:])
		}
		f.aborted--
		if f.flexible {
			f.beginTags(afterAborted)
			return nil
		}
		f.nextAborted()
	case fetchReplica:
		f.state = fetchRecordsLen
	case fetchRecordsLen:
		n, err := f.count(b)
		if err != nil {
			return err
		}
		switch {
		case f.view.Hidden && n > 0:
			f.recs, f.state = n, fetchBlank
		case f.view.Hidden || f.view.Timeline == nil:
			f.skip = n
			f.afterRecords()
		default:
			f.recs, f.shown = n, shown{}
			f.nextBatch()
		}
	case fetchBatch:
		return f.batch(b)
	case fetchBlank:
		blankRecords(b)
		f.skip, f.blank, f.recs = f.recs-len(b), f.recs > len(b), 0
		f.afterRecords()
	case fetchDiverging:
		if f.view.Hidden {
			binary.BigEndian.PutUint32(b, ^uint32(0)) // no epoch
			putUnknown(b[4:])
		} else {
			f.view.toLogical(b[4:], AtEnd)
		}
		f.skip = f.tags.rest - len(b)
		f.nextTag()
	case fetchTail:
		f.state = fetchEnd
		if f.version < 16 {
			f.skip = f.left
			return nil
		}
		return f.tail(b)
	case fetchEnd:
		return fmt.Errorf("%w: %d bytes after the last field of a Fetch response", ErrMalformed, f.left+len(b))
	}
	return nil
}

func (f *FetchResponse) nameLength(b []byte) error {
	n := 0
	if f.flexible {
		v, err := readUvarint(b)
		if err != nil {
			return err
		}
		n = v - 1
	} else {
		n = int(int16(binary.BigEndian.Uint16(b)))
	}
	if n < -1 {
		return fmt.Errorf("%w: topic name of length %d in a Fetch response", ErrMalformed, n)
	}
	if n <= 0 || n > maxTopicName {
		// No topic has such a name. A client asked for it, and the broker repeats it with an error.
		f.nameLen, f.mirror, f.known, f.skip = 0, nil, true, max(n, 0)
		f.state = fetchPartitions
		return nil
	}
	f.nameLen, f.state = n, fetchName
	return nil
}

func (f *FetchResponse) nextTopic() {
	switch {
	case f.topics > 0 && f.version >= 13:
		f.state = fetchID
	case f.topics > 0:
		f.state = fetchNameLen
	case f.flexible:
		f.state = fetchTail
	default:
		f.state = fetchEnd
	}
}

func (f *FetchResponse) nextPartition() {
	if f.parts > 0 {
		f.state = fetchPartition
		return
	}
	if f.flexible {
		f.beginTags(afterTopic)
		return
	}
	f.afterTags(afterTopic)
}

// partition handles the fixed fields at the beginning of a partition.
func (f *FetchResponse) partition(b []byte) error {
	f.part = int32(binary.BigEndian.Uint32(b))
	code := int16(binary.BigEndian.Uint16(b[4:]))
	f.view = View{}
	if f.mirror != nil {
		f.view = f.mirror.View(f.part)
	}
	switch {
	case !f.known && code == 0:
		// klink looks up the topic ids of a request before it forwards the request. So this id came
		// into a fetch session in another way. Offsets of a mirror must not pass untranslated; this
		// error ends the connection, and a new one begins a new session.
		return fmt.Errorf("topic id %x in a Fetch response, whose name klink does not know", f.id)
	case f.view.Hidden:
		f.view.hideError(b[4:6])
		for at := 6; at < len(b); at += 8 {
			putUnknown(b[at:])
		}
	case f.view.Timeline != nil:
		f.view.toLogical(b[6:], AtEnd)
		if f.version >= 4 {
			f.view.toLogical(b[14:], AtEnd)
		}
		if f.version >= 5 {
			f.view.toLogical(b[22:], AtStart)
		}
	}
	if f.version >= 4 {
		f.state = fetchAbortedLen
		return nil
	}
	f.state = fetchRecordsLen
	return nil
}

// baseToLogical translates the offset of something in the log. It may lie below the lowest offset
// that clients are shown.
func (f *FetchResponse) baseToLogical(b []byte) {
	if o := int64(binary.BigEndian.Uint64(b)); o >= 0 {
		binary.BigEndian.PutUint64(b, uint64(f.view.Timeline.BaseToLogical(o)))
	}
}

func (f *FetchResponse) topicForError() string {
	if f.version >= 13 {
		return fmt.Sprintf("with id %x", f.id)
	}
	return string(f.name[:f.nameLen])
}

func (f *FetchResponse) nextAborted() {
	switch {
	case f.aborted > 0:
		f.state = fetchAborted
	case f.version >= 11:
		f.state = fetchReplica
	default:
		f.state = fetchRecordsLen
	}
}

func (f *FetchResponse) afterRecords() {
	if f.flexible {
		f.beginTags(afterPartition)
		return
	}
	f.afterTags(afterPartition)
}

func (f *FetchResponse) beginTags(after int) {
	f.state = fetchTags
	f.tags.begin(after)
}

func (f *FetchResponse) afterTags(after int) {
	switch after {
	case afterHeader:
		if f.state = fetchTopics; f.version >= 1 {
			f.state = fetchTop
		}
	case afterAborted:
		f.nextAborted()
	case afterPartition:
		f.parts--
		f.nextPartition()
	case afterTopic:
		f.topics--
		f.nextTopic()
	}
}

// tag handles one varint of a section of tags.
func (f *FetchResponse) tag(b []byte) error {
	v, err := readUvarint(b)
	if err != nil {
		return err
	}
	if !f.tags.take(v) {
		return nil
	}
	if f.tags.ended() {
		f.afterTags(f.tags.after)
		return nil
	}
	// Tag 0 of a partition: the diverging epoch and its end offset.
	if f.tags.after == afterPartition && f.tags.key == 0 && (f.view.Hidden || f.view.Timeline != nil) && f.tags.rest >= 12 {
		f.state = fetchDiverging
		return nil
	}
	f.skip = f.tags.rest
	f.nextTag()
	return nil
}

func (f *FetchResponse) nextTag() {
	f.state = fetchTags
	if f.tags.next() {
		return
	}
	f.afterTags(f.tags.after)
}

// tail handles the tags of the response, from v16 on.
func (f *FetchResponse) tail(b []byte) error {
	return rewriteTail(b, f.left, f.resolver, func(rest int) { f.skip = rest })
}
