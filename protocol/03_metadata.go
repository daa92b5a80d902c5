package protocol

import (
	"encoding/binary"

	"github.com/twmb/franz-go/pkg/kerr"
)

// RewriteMetadata rewrites the addresses in a Metadata response, v0 to v13, and leaves everything
// else as it is.
//
// Version notes: v1 rack, controller, internal; v2 cluster id; v3 throttle time; v5 offline
// replicas; v7 leader epoch; v8 authorized operations; v9 flexible; v10 topic ids; v12 null names;
// v13 error code.
//
// RewriteMetadata leaves out a broker that has no address at klink, and returns unknown = true. Set
// hide if klink cannot learn that address: partitions that the broker leads then get
// LEADER_NOT_AVAILABLE, so that clients ask again. RewriteMetadata never passes on an address that
// would lead a client around klink.
//
// It calls learn for each topic that has a name and an id (v10 and later); name aliases the frame.
func RewriteMetadata(frame []byte, h RequestHeader, brokers Brokers, hide bool, learn func(id [16]byte, name []byte)) (_ []byte, unknown bool, err error) {
	r := responseReader(frame, h)
	if h.Version >= 3 {
		r.Int32() // throttle time
	}
	s := newSplice(frame, 256)
	missing := rewriteBrokers(s, &r, brokers, h.Version >= 1, 0)
	if h.Version >= 2 {
		r.String() // cluster id
	}
	if h.Version >= 1 {
		r.Int32() // controller
	}
	for topics := r.Array(); topics > 0 && r.Ok(); topics-- {
		code := r.Int16()
		name := r.String()
		if h.Version >= 10 {
			if id := r.UUID(); code == 0 && r.Ok() && len(name) > 0 && learn != nil {
				learn(id, name)
			}
		}
		if h.Version >= 1 {
			r.Int8() // internal
		}
		for parts := r.Array(); parts > 0 && r.Ok(); parts-- {
			metadataPartition(&r, h.Version, hide, missing)
		}
		if h.Version >= 8 {
			r.Int32() // authorized operations
		}
		r.Tags()
	}
	if h.Version >= 8 && h.Version <= 10 {
		r.Int32() // authorized operations on the cluster
	}
	if h.Version >= 13 {
		r.Int16() // error code
	}
	r.Tags()
	if err := r.Err(); err != nil {
		return nil, false, err
	}
	return s.finish(), len(missing) > 0, nil
}

func metadataPartition(r *Reader, version int16, hide bool, missing map[int32]bool) {
	code := r.Span(2)
	r.Int32() // index
	leader := r.Span(4)
	if version >= 7 {
		r.Int32() // leader epoch
	}
	r.Int32s() // replicas
	r.Int32s() // in-sync replicas
	if version >= 5 {
		r.Int32s() // offline replicas
	}
	r.Tags()
	if !hide || !r.Ok() || !missing[int32(binary.BigEndian.Uint32(leader))] {
		return
	}
	binary.BigEndian.PutUint32(leader, ^uint32(0))
	if binary.BigEndian.Uint16(code) == 0 {
		binary.BigEndian.PutUint16(code, uint16(kerr.LeaderNotAvailable.Code))
	}
}

// rewriteBrokers rewrites an array of brokers with klink's addresses. A broker is: node id, host,
// port, rack, `after` more bytes, tags. It returns the brokers that it left out because they have
// no address.
func rewriteBrokers(s *splice, r *Reader, brokers Brokers, rack bool, after int) (missing map[int32]bool) {
	countAt, kept := r.At, 0
	var list []byte
	for n := r.Array(); n > 0; n-- {
		at := r.At
		id, from, to := readBroker(r, rack, after)
		if !r.Ok() {
			return nil
		}
		host, port, ok := brokers.Address(id)
		if !ok {
			if missing == nil {
				missing = map[int32]bool{}
			}
			missing[id] = true
			continue
		}
		kept++
		list = append(list, r.Buf[at:from]...)
		list = appendString(list, r.Flexible, host)
		list = appendInt32(list, port)
		list = append(list, r.Buf[to:r.At]...)
	}
	if !r.Ok() {
		return nil
	}
	s.keep(countAt)
	s.dst = append(appendCount(s.dst, r.Flexible, kept), list...)
	s.drop(r.At)
	return missing
}

// readBroker reads one broker; its host and port lie between from and to.
func readBroker(r *Reader, rack bool, after int) (id int32, from, to int) {
	id = r.Int32()
	from = r.At
	r.String()
	r.Int32()
	to = r.At
	if rack {
		r.String()
	}
	r.Span(after)
	r.Tags()
	return id, from, to
}
