package router

import (
	"context"
	"fmt"

	"klink/protocol"
)

// kept is h without what aliases the request frame, for the time after the request was forwarded.
func kept(h protocol.RequestHeader) protocol.RequestHeader {
	h.ClientID = nil
	return h
}

// closeResponse closes a connection whose response cannot be read, and so cannot be shown.
func closeResponse(h protocol.RequestHeader, err error) Decision {
	return Decision{Action: Close, Err: fmt.Errorf("response of API key %d version %d: %w", h.Key, h.Version, err)}
}

// rewriteAddresses answers with a response in which klink's addresses stand for those of the
// brokers. rewrite says whether there is a broker that the Directory does not know; then klink
// learns the brokers, opens listeners for new ones, and rewrites again. One that is unknown even
// then is left out of the response (hide), in a way that makes clients ask again: no client is ever
// told an address that leads around klink.
//
// rewrite must not change the frame it was made for unless hide is set, and not use the session: it
// is called again off the event loop.
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
		// When it fails the broker stays unknown; the client asks again, and so does this.
		_ = facts.LearnBrokers(ctx)
		frame, _, err := rewrite(true)
		if err != nil {
			return closeResponse(h, err)
		}
		return Decision{Action: Answer, Frame: frame}
	}}
}
