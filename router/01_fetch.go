package router

import "klink/protocol"

// Fetch: v0-18
//
// Behavior:
//   - Offsets of mirrors are made physical in the request and logical in the response, which streams.
//   - Every response is walked, also while there are no mirrors: one may be made of an empty topic while a Fetch waits.
//   - A partition of a read-only mirror whose timeline is not known yet is answered NOT_LEADER_OR_FOLLOWER. Its offset
//     cannot be translated, so no fetch session may remember it (KIP-227): an incremental request is told that its
//     session is gone, a full one begins none.
//
// Version notes: v7 sessions; v13 topic ids; v16 node endpoints.
func init() { register(1, (*session).fetch) }

func (s *session) fetch(h protocol.RequestHeader, frame []byte) Decision {
	sn := s.snapshot()
	if !sn.Complete {
		return s.awaitMirrorsOrClose()
	}
	if len(sn.Mirrors) > 0 {
		if h.Version >= 13 && s.parked == 0 {
			missing, err := s.unknownFetchIDs(sn, h, frame)
			if err != nil {
				return closeMalformed(h, err)
			}
			if missing != nil {
				return s.learnTopics(missing, func(err error) Decision { return Decision{Action: Close, Err: err} })
			}
		}
		hidden, err := s.translateFetch(sn, h, frame)
		switch {
		case err != nil:
			return closeMalformed(h, err)
		case hidden:
			return Decision{Action: Answer, Frame: protocol.AppendFetchSessionGone(nil, h)}
		}
	}
	return Decision{Action: Forward, Frame: frame, Stream: s.fetchStream(h.Version)}
}

// unknownFetchIDs lists the topic ids of a request that could be mirrors'.
func (s *session) unknownFetchIDs(sn *Snapshot, h protocol.RequestHeader, frame []byte) (missing [][16]byte, err error) {
	f := protocol.ReadFetchRequest(frame, h)
	for f.Topic() {
		if _, known := s.topicName(sn, f.Name, f.ID); !known {
			missing = append(missing, f.ID)
		}
	}
	return missing, f.Err()
}

// translateFetch makes the offsets of mirrors physical, in place. gone is true if the request must not be forwarded,
// because it would put a partition without a timeline into a fetch session; nothing was changed then that matters.
func (s *session) translateFetch(sn *Snapshot, h protocol.RequestHeader, frame []byte) (gone bool, err error) {
	f := protocol.ReadFetchRequest(frame, h)
	hidden := false
	for f.Topic() {
		topic, _ := s.topicName(sn, f.Name, f.ID)
		m := sn.Mirrors[topic]
		if m == nil {
			continue
		}
		for f.Partition() {
			switch v := m.View(f.Index); {
			case v.Hidden:
				hidden = true
			case v.Timeline != nil:
				f.SetOffset(v.Timeline.ToPhysical(f.Offset()))
			}
		}
	}
	if err := f.Err(); err != nil {
		return false, err
	}
	if hidden && f.Incremental() {
		return true, nil
	}
	if hidden {
		f.NoSession()
	}
	return false, nil
}

// fetchStream is the rewriting of one response. Streams are used again, so that forwarding a request does not allocate.
type fetchStream struct {
	protocol.FetchResponse
	s    *session
	next *fetchStream // in session.fetchStreams
}

func (s *session) fetchStream(version int16) *fetchStream {
	f := s.fetchStreams
	if f == nil {
		f = &fetchStream{s: s}
	} else {
		s.fetchStreams, f.next = f.next, nil
	}
	f.Reset(version, s)
	return f
}

// Next implements Stream. What the last call returns stays valid until the stream is used again, for a later request.
func (f *fetchStream) Next(p []byte) (head, tail []byte, err error) {
	head, tail, err = f.FetchResponse.Next(p)
	if err == nil && f.Finished() {
		f.next, f.s.fetchStreams = f.s.fetchStreams, f
	}
	return head, tail, err
}
