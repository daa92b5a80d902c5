package router

import (
	"unsafe"

	"klink/protocol"
)

// topicName is the name of a topic of a request or response: name, or before it what the snapshot or the Directory says of
// id. known is false if the id could be any topic's. The name may alias the frame: it is for look-ups, not to be kept.
func (s *session) topicName(sn *Snapshot, name []byte, id [16]byte) (topic string, known bool) {
	if name != nil {
		return unsafe.String(unsafe.SliceData(name), len(name)), true
	}
	if m := sn.byID[id]; m != nil {
		return m.Topic, true
	}
	return s.router.directory.Topic(id)
}

// Topic implements protocol.Resolver, for responses. It asks the snapshot of now, not that of the request: a mirror may
// have been made of an empty topic while a Fetch was waiting for records.
func (s *session) Topic(name []byte, id [16]byte) (m protocol.Mirror, known bool) {
	sn := s.snapshot()
	if len(sn.Mirrors) == 0 {
		return nil, true
	}
	topic, known := s.topicName(sn, name, id)
	if mirror := sn.Mirrors[topic]; mirror != nil {
		return mirror, true
	}
	return nil, known
}

// Address implements protocol.Resolver.
func (s *session) Address(broker int32) (host string, port int32, ok bool) {
	return s.router.directory.Address(broker)
}
