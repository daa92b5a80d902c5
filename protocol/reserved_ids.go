package protocol

import (
	"encoding/binary"
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Brokers know no owner of a group or a transactional id: any client that names one may join it,
// commit to it, delete it or fence its producer, as far as the authorizer allows. klink has a group
// and a transactional id of its own. This file lists where the request of each API holds ids, so
// that the router can refuse klink's own ids in one place.

// IDKind is the kind of thing that an id names.
type IDKind uint8

const (
	// NoID means that there is no id.
	NoID IDKind = iota
	// GroupID is the id of a group of any type: classic, consumer, share or streams.
	GroupID
	// TransactionalID is the id of a transactional producer.
	TransactionalID
	// coordinatorKey is a group or a transactional id; the key type of the request decides which.
	coordinatorKey
	// resourceName is the name of a config resource: a group id, if the resource type is GROUP.
	resourceName
)

func (f ShapeField) names(kind IDKind) ShapeField { f.id = kind; return f }

func groupID() ShapeField         { return String().names(GroupID) }
func groupIDs() ShapeField        { return Strings().names(GroupID) }
func transactionalID() ShapeField { return String().names(TransactionalID) }

// namedIDs describes, by API key, where ids stand in requests. A shape ends with the last id; what
// follows is not read. TestNamedIDsAreComplete compares the table with all requests that kmsg
// knows.
var namedIDs = [MaxClientKey + 1]Shape{
	int16(kmsg.Produce):      {transactionalID().From(3)},
	int16(kmsg.OffsetCommit): {groupID()},
	int16(kmsg.OffsetFetch): {
		groupID().To(7),
		Structs(groupID(), String().From(9), Fixed(4).From(9), // group, member, epoch
			Structs(String().To(9), Fixed(16).From(10), FixedArray(4))).From(8), // topic, partitions
	},
	int16(kmsg.FindCoordinator): {
		String().names(coordinatorKey).To(3), // the key type follows from v1 on
		Fixed(1).From(4),
		Strings().names(coordinatorKey).From(4),
	},
	int16(kmsg.JoinGroup):              {groupID()},
	int16(kmsg.Heartbeat):              {groupID()},
	int16(kmsg.LeaveGroup):             {groupID()},
	int16(kmsg.SyncGroup):              {groupID()},
	int16(kmsg.DescribeGroups):         {groupIDs()},
	int16(kmsg.InitProducerID):         {transactionalID()},
	int16(kmsg.AddPartitionsToTxn):     {transactionalID()}, // v0-3
	int16(kmsg.AddOffsetsToTxn):        {transactionalID(), Fixed(8 + 2), groupID()},
	int16(kmsg.EndTxn):                 {transactionalID()},
	int16(kmsg.TxnOffsetCommit):        {transactionalID(), groupID()},
	int16(kmsg.DeleteGroups):           {groupIDs()},
	int16(kmsg.OffsetDelete):           {groupID()},
	int16(kmsg.DescribeTransactions):   {Strings().names(TransactionalID)},
	int16(kmsg.ConsumerGroupHeartbeat): {groupID()},
	int16(kmsg.ConsumerGroupDescribe):  {groupIDs()},
	int16(kmsg.ShareGroupHeartbeat):    {groupID()},
	int16(kmsg.ShareGroupDescribe):     {groupIDs()},
	int16(kmsg.ShareFetch):             {groupID()},
	int16(kmsg.ShareAcknowledge):       {groupID()},
	int16(kmsg.StreamsGroupHeartbeat):  {groupID()},
	int16(kmsg.StreamsGroupDescribe):   {groupIDs()},
	int16(kmsg.DescribeShareGroupOffsets): {
		Structs(groupID(), Structs(String(), FixedArray(4))), // topics: name, partitions
	},
	int16(kmsg.AlterShareGroupOffsets):  {groupID()},
	int16(kmsg.DeleteShareGroupOffsets): {groupID()},
	int16(kmsg.DescribeConfigs):         {Structs(Fixed(1), String().names(resourceName), Strings())},
	int16(kmsg.AlterConfigs): {
		Structs(Fixed(1), String().names(resourceName), Structs(String(), String())),
	},
	int16(kmsg.IncrementalAlterConfigs): {
		Structs(Fixed(1), String().names(resourceName), Structs(String(), Fixed(1), String())),
	},
}

// maxNamingElements bounds how many elements are walked to find ids. The walk runs on the event
// loop, and this bound keeps it to some milliseconds. No sensible request comes near it.
const maxNamingElements = 1 << 20

// ReservedID returns the kind of the first group or transactional id in a request that begins with
// prefix, or NoID if there is none. It allocates nothing. If the ids of the request cannot be read,
// the error wraps ErrMalformed.
func ReservedID(frame []byte, h RequestHeader, prefix string) (IDKind, error) {
	if !NamesIDs(h.Key) {
		return NoID, nil
	}
	w := idWalk{r: Reader{Buf: frame, At: h.Body, Flexible: h.Flexible}, version: h.Version, prefix: prefix, left: maxNamingElements}
	w.fields(namedIDs[h.Key], false)
	if w.found != NoID {
		return w.found, nil
	}
	return NoID, w.err(h)
}

// idWalk reads a request until it has found a reserved id.
type idWalk struct {
	r       Reader
	version int16
	prefix  string
	left    int  // elements that may still be walked
	kind    int8 // the last field of one byte: key type, resource type
	name    []byte
	found   IDKind // of name
}

func (w *idWalk) ok() bool { return w.r.Ok() && w.left >= 0 }

func (w *idWalk) err(h RequestHeader) error {
	if w.left < 0 {
		return fmt.Errorf("%w: a %s request with more than %d elements", ErrMalformed, kmsg.NameForKey(h.Key), maxNamingElements)
	}
	return w.r.Err()
}

// fields walks one struct, up to the first reserved id. With all it walks to the end of the struct
// and keeps the last reserved id.
func (w *idWalk) fields(s Shape, all bool) {
	for i := range s {
		f := &s[i]
		if w.version < f.from || w.version > f.to {
			continue
		}
		switch f.kind {
		case shapeFixed:
			if b := w.r.Span(f.size); f.size == 1 && b != nil {
				w.kind = int8(b[0])
			}
		case shapeString:
			w.string(f.id)
		case shapeFixedArray:
			w.r.Span(f.size * w.r.Array())
		default:
			for n := w.r.Array(); n > 0 && w.ok() && (all || w.found == NoID); n-- {
				w.element(f, all)
			}
		}
		if !w.ok() || w.found != NoID && !all {
			return
		}
	}
}

// element walks one element of an array of strings or structs.
func (w *idWalk) element(f *ShapeField, all bool) {
	w.left--
	if f.kind == shapeStringArray {
		w.string(f.id)
		return
	}
	w.fields(f.fields, all)
	if all || w.found == NoID {
		w.r.Tags()
	}
}

func (w *idWalk) string(id IDKind) {
	name := w.r.String()
	if id == NoID || len(name) < len(w.prefix) || string(name[:len(w.prefix)]) != w.prefix {
		return
	}
	switch id {
	case coordinatorKey:
		if w.version >= 1 && w.version <= 3 {
			after := w.r
			w.kind = after.Int8()
		}
		if id = GroupID; w.kind == coordinatorOfTransaction {
			id = TransactionalID
		}
	case resourceName:
		if w.kind != int8(kmsg.ConfigResourceTypeGroupConfig) {
			return
		}
		id = GroupID
	}
	w.name, w.found = name, id
}

// coordinatorOfTransaction is FindCoordinator's key type for transactional ids. All other types are
// groups: 0, and 2 for share groups, whose key is GROUP:TOPIC-ID:PARTITION.
const coordinatorOfTransaction = 1

// NamesIDs reports whether requests of this client API name groups or transactional ids.
func NamesIDs(key int16) bool { return key >= 0 && key <= MaxClientKey && namedIDs[key] != nil }

// NamesSeveral reports whether a request names ids in an array, with a result for each id in the
// response.
func NamesSeveral(h RequestHeader) bool { return arrayOfIDs(h) != nil }

// arrayOfIDs returns the array of a request whose elements name ids, or nil if there is none.
func arrayOfIDs(h RequestHeader) *ShapeField {
	for i := range namedIDs[h.Key] {
		f := &namedIDs[h.Key][i]
		if (f.kind == shapeStringArray || f.kind == shapeStructArray) && h.Version >= f.from && h.Version <= f.to {
			return f
		}
	}
	return nil
}

// NamedID is an id that CutReservedIDs removed from a request.
type NamedID struct {
	Kind IDKind
	Name string
	Type int8 // the resource type, if the element is a config resource
}

// CutReservedIDs removes the elements that name ids with prefix from a request for which
// NamesSeveral is true. rest is a new frame with the other elements, left is their number, and cut
// has each removed id once. More than most removed ids, or bytes that cannot be read, are errors
// that wrap ErrMalformed.
func CutReservedIDs(frame []byte, h RequestHeader, prefix string, most int) (rest []byte, left int, cut []NamedID, err error) {
	array := arrayOfIDs(h)
	w := idWalk{r: Reader{Buf: frame, At: h.Body, Flexible: h.Flexible}, version: h.Version, prefix: prefix, left: maxNamingElements}
	// The fields before the array have fixed sizes.
	for i := range namedIDs[h.Key] {
		f := &namedIDs[h.Key][i]
		if f == array {
			break
		}
		if h.Version >= f.from && h.Version <= f.to {
			if b := w.r.Span(f.size); f.size == 1 && b != nil {
				w.kind = int8(b[0])
			}
		}
	}
	countAt := w.r.At
	n := w.r.Array()
	elementsAt := w.r.At
	kept := make([]byte, 0, len(frame)-elementsAt)
	seen := map[NamedID]bool{}
	for ; n > 0 && w.ok(); n-- {
		at := w.r.At
		w.found = NoID
		if w.element(array, true); !w.ok() {
			break
		}
		if w.found == NoID {
			kept = append(kept, frame[at:w.r.At]...)
			left++
			continue
		}
		id := NamedID{Kind: w.found, Name: string(w.name)}
		if array.kind == shapeStructArray && array.fields[0].size == 1 {
			id.Type = int8(frame[at])
		}
		if !seen[id] {
			seen[id] = true
			cut = append(cut, id)
		}
		if len(cut) > most {
			return nil, 0, nil, fmt.Errorf("%w: a %s request that names more than %d ids that are not the client's", ErrMalformed, kmsg.NameForKey(h.Key), most)
		}
	}
	if err := w.err(h); err != nil {
		return nil, 0, nil, err
	}
	rest = append(make([]byte, 0, len(frame)+8), frame[:countAt]...)
	rest = appendCount(rest, h.Flexible, left)
	rest = append(rest, kept...)
	rest = append(rest, frame[w.r.At:]...)
	binary.BigEndian.PutUint32(rest, uint32(len(rest)-4))
	return rest, left, cut, nil
}

// AddResults adds the n results of add in front of those in the response frame to a request for
// which NamesSeveral is true. Such a response is a throttle time (except in DescribeGroups v0), an
// array of results and the tags.
func AddResults(frame []byte, h RequestHeader, add kmsg.Response, n int) ([]byte, error) {
	r := responseReader(frame, h)
	own := Reader{Buf: add.AppendTo(nil), Flexible: h.Flexible}
	if h.Key != int16(kmsg.DescribeGroups) || h.Version > 0 {
		r.Int32()
		own.Int32()
	}
	at := r.At
	there := r.Array()
	own.Array()
	if err := r.Err(); err != nil {
		return nil, fmt.Errorf("%s v%d response: %w", kmsg.NameForKey(h.Key), h.Version, err)
	}
	end := len(own.Buf)
	if h.Flexible {
		end-- // without the empty section of tags
	}
	out := append(make([]byte, 0, len(frame)+len(own.Buf)+8), frame[:at]...)
	out = appendCount(out, h.Flexible, there+n)
	out = append(out, own.Buf[own.At:end]...)
	out = append(out, frame[r.At:]...)
	binary.BigEndian.PutUint32(out, uint32(len(out)-4))
	return out, nil
}
