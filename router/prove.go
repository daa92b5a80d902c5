package router

import (
	"bytes"
	"errors"

	"klink/protocol"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// A client logs in at the broker; klink passes the SASL bytes on and does not look into them. So
// klink must learn from the broker whether the client is logged in, before it decodes a request or
// answers one: else anybody who can connect would learn which mirrors and topic ids exist, and
// could have klink work.
//
// An answer as such proves nothing: after SaslHandshake v1 a broker answers every request, with an
// error, and closes then (SaslServerAuthenticator.handleSaslToken). Nor does a SaslAuthenticate
// response without an error: a SCRAM exchange has several, and OAUTHBEARER reports a failure in
// such a response first. The proof is a Metadata response that lists a broker: no error response
// does, and a broker that serves a client always lists itself. klink asks for it on the client's
// own connection, before the client's first request goes on.
//
// A proof holds as long as its connection. A broker closes the connection when a new login on it
// (KIP-368) fails, or comes too late, and it refuses to change the principal.

// errNotServed closes the connection of a client that the broker does not serve.
var errNotServed = errors.New("the broker does not serve this client: it is not logged in")

const (
	keySaslHandshake    = 17
	keySaslAuthenticate = 36
)

// beforeLogin says of an API key that brokers serve it to clients that are not logged in. klink
// decodes no request of these.
func beforeLogin(key int16) bool {
	return key == keyApiVersions || key == keySaslHandshake || key == keySaslAuthenticate
}

// Prove implements Session.
func (s *session) Prove() Decision {
	return s.prove(protocol.RequestHeader{}, func() Decision { return Decision{Action: Drop} })
}

// proveFirst asks for the proof in the place of the request, and decides on the request once it is
// there.
func (s *session) proveFirst(h protocol.RequestHeader, frame []byte) Decision {
	h, frame = ownHeader(h), bytes.Clone(frame)
	return s.prove(h, func() Decision { return s.again(h, frame) })
}

// again decides on a request whose frame belongs to the session.
func (s *session) again(h protocol.RequestHeader, frame []byte) Decision {
	return s.Request(frame).then(func(d Decision) Decision {
		if d.Action == Retry {
			// Sessions decide on the event loop only, and the way back there is a response. No
			// handler has changed the frame: they change only what they forward.
			return s.prove(h, func() Decision { return s.again(h, frame) })
		}
		return d
	})
}

// prove asks the broker on the client's connection whether it serves the client; then goes on if it
// does. h must be owned; its correlation and client ids are used.
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
