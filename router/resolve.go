package router

import "unsafe"

// topicName returns the name of a topic in a request or response: name if it is set, else the name
// that the snapshot or the Directory has for id. known is false if klink cannot resolve the id. The
// result may alias the frame: use it for look-ups, and do not keep it.
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
