package router

import (
	"context"
	"fmt"

	"klink/protocol"
)

// kept returns h without the parts that alias the request frame, for use after the request was
// forwarded.
func kept(h protocol.RequestHeader) protocol.RequestHeader {
	h.ClientID = nil
	return h
}

// closeResponse closes a connection whose response klink cannot read, and so must not pass on.
func closeResponse(h protocol.RequestHeader, err error) Decision {
	return Decision{Action: Close, Err: fmt.Errorf("response of API key %d version %d: %w", h.Key, h.Version, err)}
}

// rewriteAddresses answers with a response in which klink's addresses replace those of the brokers.
// rewrite reports whether the Directory lacks a broker of the response. If so, klink learns the
// brokers, opens listeners for new ones, and rewrites again. A broker that is still unknown is left
// out of the response (hide) in a way that makes clients ask again: klink never tells a client an
// address that bypasses klink.
//
// rewrite must not change the frame it was made for unless hide is set, and must not use the
// session, because it is called again off the event loop.
func (s *session) rewriteAddresses(h protocol.RequestHeader, rewrite func(hide bool) (frame []byte, unknown bool, err error)) Decision {
	frame, unknown, err := rewrite(false)
	switch {
	case err != nil:
		return closeResponse(h, err)
	case !unknown:
		return Decision{Action: Answer, Frame: frame}
	}
	facts := s.router.facts
	return Decision{Action: Run, Run: func(ctx context.Context) Decision {
		// If this fails, the broker stays unknown. The client asks again, and then klink tries
		// again.
		_ = facts.LearnBrokers(ctx)
		frame, _, err := rewrite(true)
		if err != nil {
			return closeResponse(h, err)
		}
		return Decision{Action: Answer, Frame: frame}
	}}
}
