package router

import "klink/protocol"

// ListOffsets: v0-11
//
// Behavior: offsets of mirrors in the response are made logical. The request asks by timestamp and stays as it is.
func init() { register(2, (*session).listOffsets) }

func (s *session) listOffsets(h protocol.RequestHeader, frame []byte) Decision {
	return s.translateResponse(h, frame, protocol.TranslateListOffsets)
}

// translateResponse forwards a request, and translates the offsets of its response in place.
func (s *session) translateResponse(h protocol.RequestHeader, frame []byte, translate func([]byte, protocol.RequestHeader, protocol.Resolver) error) Decision {
	asked := s.coordinates()
	if !asked.then.Complete {
		return s.awaitMirrorsOrClose()
	}
	h = kept(h)
	return Decision{Action: Forward, Frame: frame, Whole: func(frame []byte) Decision {
		s.answered()
		if err := translate(frame, h, &asked); err != nil {
			return closeResponse(h, err)
		}
		return Decision{Action: Answer, Frame: frame}
	}}
}
