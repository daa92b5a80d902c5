package router

import "unsafe"

// topicName is the name of a topic of a request or response: name, or before it what the snapshot
// or the Directory says of id. known is false if the id could be any topic's. The name may alias
// the frame: it is for look-ups, not to be kept.
func (s *session) topicName(sn *Snapshot, name []byte, id [16]byte) (topic string, known bool) {
	if name != nil {
		return unsafe.String(unsafe.SliceData(name), len(name)), true
	}
	if m := sn.byID[id]; m != nil {
		return m.Topic, true
	}
	return s.router.directory.Topic(id)
}

// Address implements protocol.Brokers.
func (s *session) Address(broker int32) (host string, port int32, ok bool) {
	return s.router.directory.Address(broker)
}
