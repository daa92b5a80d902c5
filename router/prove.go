package router

import (
	"bytes"
	"errors"

	"klink/protocol"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// A client authenticates to the broker, and klink does not look at how. Before that, whatever klink says by itself, and
// what it asks the destination with its own credentials on a client's behalf, would be for anybody who can connect: the
// names of mirrors, which topic ids exist. But a broker that wants a login closes the connection on every request other
// than SaslHandshake, ApiVersions and SaslAuthenticate until it has succeeded (SaslServerAuthenticator). So the first
// response to any other request proves that the broker serves this client, and a session that lacks such a proof gets one
// before klink says anything.

// answered notes that the broker has answered a request that it answers to clients it serves only.
func (s *session) answered() {
	if !s.proven.Load() {
		s.proven.Store(true)
	}
}

// speaks is true for a decision that tells the client something without asking the broker, or that asks the destination
// with klink's own credentials.
func speaks(d Decision) bool {
	return d.Action == Answer || d.Action == Run || d.Action == Close && errors.Is(d.Err, errRefused)
}

// prove asks the broker for something harmless on the client's own connection, in the place of the request, and decides on
// the request once that was answered. frame is unchanged, as handlers change only what they forward.
func (s *session) prove(h protocol.RequestHeader, frame []byte) Decision {
	return s.askFirst(ownHeader(h), bytes.Clone(frame))
}

// askFirst is prove for a header and a frame that belong to the session.
func (s *session) askFirst(h protocol.RequestHeader, frame []byte) Decision {
	req := kmsg.NewPtrMetadataRequest()
	req.Version = 8
	req.Topics = []kmsg.MetadataRequestTopic{} // null would be all topics
	return ask(h, req, func(kmsg.Response) Decision {
		s.answered()
		return s.Request(frame).then(func(d Decision) Decision {
			if d.Action == Retry {
				// The proxy has given the frame up. Sessions decide on the event loop only, and the way back there is a
				// response.
				return s.askFirst(h, frame)
			}
			return d
		})
	})
}
