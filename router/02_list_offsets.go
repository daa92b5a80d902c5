package router

import "klink/protocol"

// ListOffsets: v0-11
//
// Behavior: offsets of mirrors in the response are made logical. The request asks by timestamp and stays as it is.
func init() { register(2, (*session).listOffsets) }

func (s *session) listOffsets(h protocol.RequestHeader, frame []byte) Decision {
	return s.translateResponse(h, frame, protocol.TranslateListOffsets)
}

// translateResponse forwards a request, and translates the offsets of its response in place. Where the timeline of a mirror
// does not know one, the response waits until it has been looked for.
func (s *session) translateResponse(h protocol.RequestHeader, frame []byte, translate translation) Decision {
	asked := s.coordinates()
	if !asked.then.Complete {
		return s.awaitMirrorsOrClose()
	}
	h = kept(h)
	return Decision{Action: Forward, Frame: frame, Whole: func(frame []byte) Decision {
		s.answered()
		return s.translated(&asked, h, frame, translate)
	}}
}
