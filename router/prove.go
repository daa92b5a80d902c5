package router

import (
	"bytes"
	"errors"

	"klink/protocol"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// A client logs in at the broker; klink passes the SASL bytes on and does not look into them. So
// klink must learn from the broker whether the client is logged in, before it decodes or answers a
// request. Otherwise anybody who can connect could find out which mirrors and topic ids exist, and
// make klink work.
//
// A response alone proves nothing: after SaslHandshake v1 a broker answers every request with an
// error, and then closes (SaslServerAuthenticator.handleSaslToken). A SaslAuthenticate response
// without an error proves nothing either: a SCRAM exchange has several, and OAUTHBEARER first
// reports a failure in such a response. The proof is a Metadata response that lists a broker: an
// error response lists none, and a broker that serves a client always lists itself. klink asks for
// it on the client's own connection, before it forwards the client's first request.
//
// A proof holds as long as its connection. A broker closes the connection when a re-authentication
// (KIP-368) fails or comes too late, and it refuses to change the principal.

// errNotServed closes the connection of a client that the broker does not serve.
var errNotServed = errors.New("the broker does not serve this client: it is not logged in")

// beforeLogin reports whether brokers serve an API key to clients that are not logged in. klink
// decodes no request with these keys.
func beforeLogin(key int16) bool {
	switch kmsg.Key(key) {
	case kmsg.ApiVersions, kmsg.SASLHandshake, kmsg.SASLAuthenticate:
		return true
	}
	return false
}

// Prove implements Session.
func (s *session) Prove() Decision {
	return s.prove(protocol.RequestHeader{}, func() Decision { return Decision{Action: Drop} })
}

// proveFirst asks for the proof in place of the request, and decides on the request once klink has
// the proof.
func (s *session) proveFirst(h protocol.RequestHeader, frame []byte) Decision {
	h, frame = ownHeader(h), bytes.Clone(frame)
	return s.prove(h, func() Decision { return s.again(h, frame) })
}

// again decides on a request whose frame the session owns.
func (s *session) again(h protocol.RequestHeader, frame []byte) Decision {
	return s.Request(frame).then(func(d Decision) Decision {
		if d.Action == Retry {
			// Sessions decide on the event loop only, and the way back there is a response. The
			// frame is unchanged, because a handler changes only a frame that it forwards.
			return s.prove(h, func() Decision { return s.again(h, frame) })
		}
		return d
	})
}

// prove asks the broker, on the client's connection, whether it serves the client, and calls then
// if it does. h must be owned; prove uses its correlation id and client id.
func (s *session) prove(h protocol.RequestHeader, then func() Decision) Decision {
	req := kmsg.NewPtrMetadataRequest()
	req.Version = 8
	req.Topics = []kmsg.MetadataRequestTopic{} // null would be all topics
	return askOnLoop(h, req, func(resp kmsg.Response) Decision {
		if len(resp.(*kmsg.MetadataResponse).Brokers) == 0 {
			return closing(errNotServed)
		}
		s.proven.Store(true)
		return then()
	})
}
