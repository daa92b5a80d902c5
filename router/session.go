package router

import "klink/protocol"

// Request implements Session.
func (s *session) Request(frame []byte) Decision {
	h, err := protocol.ParseRequestHeader(frame)
	if err != nil {
		return Decision{Action: Close, Err: err}
	}
	if h.Body < 0 {
		return Decision{Action: Close, Err: errUnknownAPI}
	}
	if handle := handlers[h.Key]; handle != nil {
		return handle(s, h, frame)
	}
	return Decision{Action: Forward, Frame: frame}
}
