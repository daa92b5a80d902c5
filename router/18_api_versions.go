package router

import "klink/protocol"

const keyApiVersions = 18

func (s *session) apiVersions(_ protocol.RequestHeader, frame []byte) Decision {
	return Decision{Action: Forward, Frame: frame}
}
