package kafkaclient

import (
	"crypto/x509"
	"fmt"
	"strings"

	"klink/internal/principal"
)

// Principal returns the principal, as TYPE:NAME, that brokers give a client with these properties,
// unless they have mapping rules or a principal builder of their own. It is empty if the properties
// do not tell, as with a delegation token, OAUTHBEARER or AWS_MSK_IAM.
func (p Properties) Principal() (string, error) {
	protocol, err := p.protocol()
	if err != nil {
		return "", err
	}
	switch protocol {
	case protocolSASLPlaintext, protocolSASLSSL:
		if mechanism := strings.TrimSpace(p["sasl.mechanism"]); mechanism == mechanismOAuthBearer || mechanism == mechanismMSKIAM {
			return "", nil
		}
		login, err := ParseJAAS(p["sasl.jaas.config"])
		if err != nil {
			return "", fmt.Errorf("sasl.jaas.config: %w", err)
		}
		user, _, token, err := login.credentials(p["sasl.mechanism"])
		if err != nil || token {
			return "", err
		}
		return "User:" + user, nil
	case protocolPlaintext:
		return "User:ANONYMOUS", nil
	}
	certificates, err := p.clientCertificate(operatorFiles.read)
	if err != nil {
		return "", err
	}
	if len(certificates) == 0 {
		return "User:ANONYMOUS", nil
	}
	leaf, err := x509.ParseCertificate(certificates[0].Certificate[0])
	if err != nil {
		return "", fmt.Errorf("the client certificate: %w", err)
	}
	name, err := principal.Subject(leaf.RawSubject)
	if err != nil {
		return "", err
	}
	return "User:" + name, nil
}
