package oauth

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/oauth"
)

// Mechanism is the name of the SASL mechanism.
const Mechanism = "OAUTHBEARER"

// maxRefusal bounds a broker's reason for refusing a token, in bytes.
const maxRefusal = 4 << 10

// New returns a mechanism whose logins share the tokens that fetch gets. The extensions go with
// each token (KIP-342); the caller has checked them with [CheckExtension].
func New(fetch Fetch, policy Policy, extensions map[string]string) sasl.Mechanism {
	return &mechanism{source: &source{fetch: fetch, policy: policy}, extensions: maps.Clone(extensions)}
}

type mechanism struct {
	source     *source
	extensions map[string]string
}

// Name implements sasl.Mechanism.
func (*mechanism) Name() string { return Mechanism }

// Authenticate implements sasl.Mechanism.
func (m *mechanism) Authenticate(ctx context.Context, host string) (sasl.Session, []byte, error) {
	token, err := m.source.current(ctx)
	if err != nil {
		return nil, nil, err
	}
	_, first, err := oauth.Auth{Token: token.Value, Extensions: m.extensions}.AsMechanism().Authenticate(ctx, host)
	return &session{source: m.source, token: token.Value}, first, err
}

type session struct {
	source *source
	token  string
}

// Challenge implements sasl.Session. A broker that accepts the token answers with nothing; else it
// says why not (RFC 7628, section 3.2.2).
func (s *session) Challenge(answer []byte) (bool, []byte, error) {
	if len(answer) == 0 {
		return true, nil, nil
	}
	s.source.forget(s.token)
	var refusal struct {
		Status string `json:"status"`
	}
	if len(answer) > maxRefusal || json.Unmarshal(answer, &refusal) != nil {
		return false, nil, fmt.Errorf("%w: the broker refuses the token", kerr.SaslAuthenticationFailed)
	}
	return false, nil, fmt.Errorf("%w: the broker refuses the token: %s", kerr.SaslAuthenticationFailed, shortened(refusal.Status, s.token))
}

var (
	extensionName  = regexp.MustCompile(`^[A-Za-z]+$`)
	extensionValue = regexp.MustCompile("^[\\x21-\\x7E \t\r\n]+$")
)

// CheckExtension refuses a SASL extension that brokers do not take. The error does not show the
// value.
func CheckExtension(name, value string) error {
	switch {
	case !extensionName.MatchString(name):
		return fmt.Errorf("the name of SASL extension %.40q has other characters than letters", name)
	case name == "auth":
		return fmt.Errorf("a SASL extension cannot have the name auth")
	case !extensionValue.MatchString(value):
		return fmt.Errorf("the value of SASL extension %.40q is empty, or not ASCII text", name)
	}
	return nil
}

// shortened returns what another party says, fit for an error: a little printable text without the
// secrets.
func shortened(text string, secrets ...string) string {
	const most = 200
	runes := []rune(hide(text, secrets))
	runes = slices.DeleteFunc(runes, func(r rune) bool { return r < ' ' || r > '~' })
	if len(runes) > most {
		return string(runes[:most]) + "..."
	}
	return string(runes)
}
