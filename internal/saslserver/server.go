// Package saslserver authenticates clients with SASL, as a broker does: PLAIN and SCRAM by a file
// of users, OAUTHBEARER by the keys of whoever issues the tokens. It knows the messages of
// mechanisms, and neither sockets nor Kafka's requests.
//
//	server.go   Server and Exchange; what clients are told
//	plain.go, scram.go, oauthbearer.go   a mechanism each
//	tokens.go   which tokens are valid
//	jwks.go     the keys that they are signed with
//	users       the file of users
package saslserver

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"

	"klink/internal/follow"
	"klink/internal/saslserver/users"
)

// The mechanisms that klink can serve.
const (
	Plain       = "PLAIN"
	ScramSHA256 = "SCRAM-SHA-256"
	ScramSHA512 = "SCRAM-SHA-512"
	OAuthBearer = "OAUTHBEARER"
)

// Mechanisms are all that klink can serve.
var Mechanisms = []string{Plain, ScramSHA256, ScramSHA512, OAuthBearer}

// Client is who a client has shown to be.
type Client struct {
	Name    string
	Expires time.Time // zero = never
}

// Exchange is the login of one client.
type Exchange interface {
	// Step takes a message of the client, and returns the next one of the server. client is set
	// when the client has shown who it is; then nothing more may come. It may compute for some
	// milliseconds, or wait for a server. The message may be hostile, and its size is bounded.
	Step(ctx context.Context, message []byte) (reply []byte, client *Client, err error)
}

// Failure is the error of a login that has failed.
type Failure struct {
	Told  string // what the client may know
	Cause string // what the log may know: no secret, but whether there is such a user
}

func (f *Failure) Error() string {
	if f.Cause == "" {
		return f.Told
	}
	return f.Told + " (" + f.Cause + ")"
}

// Server authenticates clients. Safe for concurrent use.
type Server struct {
	mechanisms []string
	users      *follow.File[*users.Table] // nil without PLAIN and SCRAM
	tokens     *Tokens                    // nil without OAUTHBEARER
	// work bounds how many passwords are hashed at the same time, so that strangers leave some
	// processors to others.
	work chan struct{}
}

// New returns a server of some mechanisms.
func New(mechanisms []string, table *follow.File[*users.Table], tokens *Tokens) (*Server, error) {
	s := &Server{mechanisms: mechanisms, users: table, tokens: tokens, work: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2))}
	if len(mechanisms) == 0 {
		return nil, errors.New("no SASL mechanism is enabled")
	}
	for _, m := range mechanisms {
		switch {
		case !slices.Contains(Mechanisms, m):
			return nil, fmt.Errorf("%q is no SASL mechanism that klink has", m)
		case m == OAuthBearer && tokens == nil:
			return nil, errors.New("OAUTHBEARER needs the keys of tokens")
		case m != OAuthBearer && table == nil:
			return nil, fmt.Errorf("%s needs a file of users", m)
		}
	}
	return s, nil
}

// Mechanisms returns the names of the mechanisms that are enabled.
func (s *Server) Mechanisms() []string { return s.mechanisms }

// Begin begins a login; nil if the mechanism is not enabled.
func (s *Server) Begin(mechanism string) Exchange {
	if !slices.Contains(s.mechanisms, mechanism) {
		return nil
	}
	switch mechanism {
	case Plain:
		return plainExchange{s}
	case OAuthBearer:
		return &bearerExchange{tokens: s.tokens}
	}
	return &scramExchange{server: s, mechanism: mechanism}
}

// table returns the users as the file has them now.
func (s *Server) table() *users.Table {
	s.users.Refresh()
	return s.users.Value()
}

// malformed refuses a message that is none of the mechanism.
func malformed(mechanism string) *Failure {
	return &Failure{Told: "Authentication failed: invalid message of SASL mechanism " + mechanism}
}

// wrong refuses a client by what a broker says, whatever is wrong: the name or the password.
func wrong(mechanism, cause string) *Failure {
	return &Failure{Told: "Authentication failed during authentication due to invalid credentials with SASL mechanism " + mechanism, Cause: cause}
}

// other refuses a client that asks to be somebody else.
func other() *Failure {
	return &Failure{Told: "Authentication failed: Client requested an authorization id that is different from username"}
}
