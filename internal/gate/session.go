package gate

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"klink/internal/sasllogin"
	"klink/protocol"
	"klink/router"
)

var (
	errExpired = errors.New("the client's login at klink has ended, and the client has not logged in again")
	errFailed  = errors.New("the client could not log in again")
)

// session is the session of a guest. The requests of a login are klink's to answer: none of them
// may reach the broker, where klink has logged in.
type session struct {
	router.Session
	guest *guest

	again  *conversation // the client logs in again
	failed atomic.Bool   // it could not
}

// Request implements router.Session.
func (s *session) Request(frame []byte) router.Decision {
	h, err := protocol.ParseRequestHeader(frame)
	if err != nil {
		return closing(err)
	}
	switch {
	case s.failed.Load():
		return closing(errFailed)
	case h.Key == int16(kmsg.SASLHandshake) || h.Key == int16(kmsg.SASLAuthenticate):
		return s.login(h, frame)
	case passed(&s.guest.expires) && h.Key != int16(kmsg.ApiVersions):
		return closing(errExpired)
	}
	return s.Session.Request(frame)
}

// login answers a request of a login: the client logs in again (KIP-368), or has no business to.
func (s *session) login(h protocol.RequestHeader, frame []byte) router.Decision {
	if h.Body < 0 {
		return closing(fmt.Errorf("version %d of API key %d is not offered", h.Version, h.Key))
	}
	server := s.guest.gate.config.Server
	if server == nil {
		resp := kmsg.ResponseForKey(h.Key)
		resp.SetVersion(h.Version)
		switch resp := resp.(type) {
		case *kmsg.SASLHandshakeResponse:
			resp.ErrorCode = kerr.IllegalSaslState.Code
		case *kmsg.SASLAuthenticateResponse:
			resp.ErrorCode = kerr.IllegalSaslState.Code
		}
		return router.Decision{Action: router.Answer, Frame: protocol.AppendResponse(nil, h, resp)}
	}
	if s.again == nil {
		s.again = &conversation{server: server, before: s.guest}
	}
	c := s.again
	// The frame stays until the decision that Run returns is carried out.
	return router.Decision{Action: router.Run, Exclusive: true, Run: func(ctx context.Context) router.Decision {
		answer, client, err := c.answer(ctx, h, frame)
		if err != nil {
			wait(ctx, failedDelay)
			s.failed.Store(true)
		}
		switch {
		case answer == nil:
			return closing(err)
		case client != nil:
			c.restart()
			s.guest.setExpiry(client)
		}
		return router.Decision{Action: router.Answer, Frame: answer}
	}}
}

// Due implements proxy.GuestSession.
func (s *session) Due() bool { return passed(&s.guest.renewal) }

// Renew implements proxy.GuestSession. The broker answers the requests of the login in their turn,
// on the client's connection; the client does not see them.
func (s *session) Renew() router.Decision {
	login := s.guest.login() // not nil: a login is due only after another one
	return s.step(login, login.First())
}

// step sends a request of a login to the broker, and what follows from its response.
func (s *session) step(login *sasllogin.Login, req kmsg.Request) router.Decision {
	asked := protocol.RequestHeader{Key: req.Key(), Version: req.GetVersion()}
	return router.Decision{
		Action: router.Forward, Exclusive: true, Frame: protocol.AppendRequest(nil, asked, req),
		Whole: func(response []byte) router.Decision {
			at := asked.ResponseBody(response)
			if at < 0 || len(response) > maxResponse {
				return closing(fmt.Errorf("%w: response to %s", protocol.ErrMalformed, kmsg.NameForKey(asked.Key)))
			}
			// A step may compute for a while, and the frame belongs to this decision.
			return router.Decision{Action: router.Run, Exclusive: true, Run: func(ctx context.Context) router.Decision {
				next, err := login.Next(ctx, response[at:])
				switch {
				case err != nil:
					return closing(fmt.Errorf("log in for a client again: %w", refused(s.guest.principal, err)))
				case next == nil:
					s.guest.loggedIn(login)
					return router.Decision{Action: router.Drop}
				}
				return s.step(login, next)
			}}
		},
	}
}

func closing(err error) router.Decision { return router.Decision{Action: router.Close, Err: err} }
