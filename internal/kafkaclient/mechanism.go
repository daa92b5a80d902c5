package kafkaclient

import (
	"fmt"
	"slices"
	"strings"

	"klink/internal/kafkaclient/awsiam"
	"klink/internal/kafkaclient/oauth"

	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// The values of sasl.mechanism.
const (
	mechanismPlain       = "PLAIN"
	mechanismScramSHA256 = "SCRAM-SHA-256"
	mechanismScramSHA512 = "SCRAM-SHA-512"
	mechanismOAuthBearer = oauth.Mechanism
	mechanismMSKIAM      = awsiam.Mechanism
)

var mechanisms = []string{mechanismPlain, mechanismScramSHA256, mechanismScramSHA512, mechanismOAuthBearer, mechanismMSKIAM}

// mechanism returns the SASL mechanism to log in with; nil without SASL. files are those that p may
// name.
func (p Properties) mechanism(files Files) (sasl.Mechanism, error) {
	protocol, err := p.protocol()
	if err != nil {
		return nil, err
	}
	if protocol != protocolSASLPlaintext && protocol != protocolSASLSSL {
		return nil, nil
	}
	name := strings.TrimSpace(p["sasl.mechanism"])
	switch {
	case name == "":
		return nil, fmt.Errorf("sasl.mechanism: must be set with security.protocol %s, to one of %s", protocol, strings.Join(mechanisms, ", "))
	case !slices.Contains(mechanisms, name):
		return nil, fmt.Errorf("sasl.mechanism: %s is not one of %s", quoteWord(name), strings.Join(mechanisms, ", "))
	}
	config, ok := p["sasl.jaas.config"]
	if !ok {
		return nil, fmt.Errorf("sasl.jaas.config: must be set with sasl.mechanism %s", name)
	}
	login, err := ParseJAAS(config)
	if err != nil {
		return nil, fmt.Errorf("sasl.jaas.config: %w", err)
	}
	switch name {
	case mechanismOAuthBearer:
		return p.oauthBearer(files, login)
	case mechanismMSKIAM:
		return p.mskIAM(files, login)
	}
	user, password, token, err := login.credentials(name)
	if err != nil {
		return nil, fmt.Errorf("sasl.jaas.config: %w", err)
	}
	switch name {
	case mechanismScramSHA256:
		return boundedSCRAM{scram.Auth{User: user, Pass: password, IsToken: token}.AsSha256Mechanism()}, nil
	case mechanismScramSHA512:
		return boundedSCRAM{scram.Auth{User: user, Pass: password, IsToken: token}.AsSha512Mechanism()}, nil
	default:
		return plain.Auth{User: user, Pass: password}.AsMechanism(), nil
	}
}
