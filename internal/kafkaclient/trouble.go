package kafkaclient

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"strings"

	"klink/internal/kafkaclient/awsiam"
	"klink/internal/kafkaclient/oauth"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Trouble is a kind of reason for which a cluster cannot be used.
type Trouble uint8

// The kinds, in the order in which Classify looks for them.
const (
	TroubleOther        Trouble = iota
	TroubleToken                // there is no access token to log in with
	TroubleAWS                  // there are no AWS credentials to log in with
	TroubleLogin                // the credentials or the mechanism are refused
	TroubleTLS                  // the handshake failed, or a certificate does not fit
	TroubleClosedAtOnce         // the first read found the connection closed
	TroubleDenied               // a permission is missing
	TroubleConnect              // there is no connection
	TroubleTimeout              // there is no answer in time
	TroubleLost                 // the connection broke
	TroubleNotKafka             // the answer is not Kafka's
	TroubleNotOffered           // the brokers do not offer an API
)

// Classify tells what kind of trouble an error of a client is.
func Classify(err error) Trouble {
	var (
		verify  *tls.CertificateVerificationError
		unknown x509.UnknownAuthorityError
		host    x509.HostnameError
		invalid x509.CertificateInvalidError
		alert   tls.AlertError
		header  tls.RecordHeaderError
		op      *net.OpError
		dns     *net.DNSError
		first   *kgo.ErrFirstReadEOF
		refused *ResponseError
		token   *oauth.Error
		signer  *awsiam.Error
	)
	switch {
	case errors.As(err, &token):
		return TroubleToken
	case errors.As(err, &signer):
		return TroubleAWS
	case errors.Is(err, kerr.SaslAuthenticationFailed), errors.Is(err, kerr.UnsupportedSaslMechanism), errors.Is(err, kerr.IllegalSaslState):
		return TroubleLogin
	case errors.As(err, &verify), errors.As(err, &unknown), errors.As(err, &host), errors.As(err, &invalid), errors.As(err, &alert), errors.As(err, &header):
		return TroubleTLS
	case errors.As(err, &first):
		return TroubleClosedAtOnce
	case errors.Is(err, kerr.ClusterAuthorizationFailed), errors.Is(err, kerr.TopicAuthorizationFailed), errors.Is(err, kerr.GroupAuthorizationFailed):
		return TroubleDenied
	case errors.As(err, &dns), errors.As(err, &op) && op.Op == "dial" && !op.Timeout(), strings.Contains(err.Error(), "connection refused"):
		return TroubleConnect
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &op) && op.Timeout():
		return TroubleTimeout
	case errors.Is(err, io.EOF), errors.As(err, &op):
		return TroubleLost
	case errors.As(err, &refused):
		return TroubleNotKafka
	case IsNotOffered(err), errors.Is(err, kerr.UnsupportedVersion):
		return TroubleNotOffered
	}
	return TroubleOther
}
