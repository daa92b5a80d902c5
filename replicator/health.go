package replicator

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"klink/admin/model"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// dialError is a franz-go hook that keeps the last connection error: if a request times out while
// the client retries to connect, its own error says only that it timed out.
type dialError struct{ last atomic.Pointer[error] }

var _ kgo.HookBrokerConnect = (*dialError)(nil)

// OnBrokerConnect implements kgo.HookBrokerConnect.
func (d *dialError) OnBrokerConnect(_ kgo.BrokerMetadata, _ time.Duration, _ net.Conn, err error) {
	if err == nil {
		d.last.Store(nil)
	} else if !errors.Is(err, context.Canceled) {
		d.last.Store(&err)
	}
}

// classify names why a check of the source failed.
func (s *source) classify(err error) (model.Error, string) {
	if dial := s.lastDial.last.Load(); dial != nil && (errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)) {
		err = *dial
	}
	// The source closed the connection during the login: some brokers do not say that they refuse
	// the credentials.
	if s.lastDial.last.Load() != nil && s.sasl && errors.Is(err, io.EOF) {
		return model.ErrAuthentication, fmt.Sprintf("the source closed the connection during the login: %v; check sasl.mechanism and sasl.jaas.config", err)
	}
	return classify(err)
}

func classify(err error) (model.Error, string) {
	var (
		auth    *tls.CertificateVerificationError
		unknown x509.UnknownAuthorityError
		host    x509.HostnameError
		invalid x509.CertificateInvalidError
		alert   tls.AlertError
		record  tls.RecordHeaderError
		op      *net.OpError
		dns     *net.DNSError
		first   *kgo.ErrFirstReadEOF
	)
	switch {
	case errors.Is(err, kerr.SaslAuthenticationFailed), errors.Is(err, kerr.UnsupportedSaslMechanism), errors.Is(err, kerr.IllegalSaslState):
		return model.ErrAuthentication, fmt.Sprintf("the source refuses the link's credentials: %v; correct sasl.mechanism or sasl.jaas.config", err)
	case errors.As(err, &auth), errors.As(err, &unknown), errors.As(err, &host), errors.As(err, &invalid), errors.As(err, &alert), errors.As(err, &record):
		return model.ErrAuthentication, fmt.Sprintf("TLS with the source failed: %v; correct security.protocol or the truststore", err)
	case errors.Is(err, kerr.ClusterAuthorizationFailed):
		return model.ErrAuthorization, fmt.Sprintf("the source refuses the link: %v", err)
	case errors.As(err, &first):
		return model.ErrAuthentication, fmt.Sprintf("the source closed the connection at once: %v; security.protocol or the credentials do not match its listener", err)
	case errors.As(err, &dns), errors.As(err, &op) && op.Op == "dial" && !op.Timeout(), strings.Contains(err.Error(), "connection refused"):
		return model.ErrBootstrapConnection, fmt.Sprintf("could not connect to the source: %v; check bootstrap.servers, its listeners and the network", err)
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &op) && op.Timeout():
		return model.ErrTimeout, fmt.Sprintf("the source did not answer in time: %v", err)
	case errors.Is(err, io.EOF), errors.As(err, &op):
		return model.ErrBootstrapConnection, fmt.Sprintf("the connection to the source was lost: %v", err)
	}
	return model.ErrInternal, fmt.Sprintf("the source cannot be used: %v", err)
}
