package kafkaclient

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

func TestClassify(t *testing.T) {
	for _, c := range []struct {
		err  error
		want Trouble
	}{
		{kerr.SaslAuthenticationFailed, TroubleLogin},
		{kerr.UnsupportedSaslMechanism, TroubleLogin},
		{x509.UnknownAuthorityError{}, TroubleTLS},
		{&tls.CertificateVerificationError{Err: io.EOF}, TroubleTLS},
		{tls.AlertError(42), TroubleTLS},
		{&kgo.ErrFirstReadEOF{}, TroubleClosedAtOnce},
		{kerr.TopicAuthorizationFailed, TroubleDenied},
		{kerr.GroupAuthorizationFailed, TroubleDenied},
		{&net.DNSError{Name: "nowhere"}, TroubleConnect},
		{&net.OpError{Op: "dial", Err: errors.New("no route to host")}, TroubleConnect},
		{&net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded}, TroubleTimeout},
		{context.DeadlineExceeded, TroubleTimeout},
		{&net.OpError{Op: "read", Err: errors.New("connection reset by peer")}, TroubleLost},
		{io.EOF, TroubleLost},
		{errors.New("something else"), TroubleOther},
	} {
		require.Equal(t, c.want, Classify(fmt.Errorf("wrapped: %w", c.err)), "%v", c.err)
	}
}

func TestDialTroubleKeepsTheLastError(t *testing.T) {
	var d DialTrouble
	require.NoError(t, d.Last())
	refused := errors.New("refused")
	d.OnBrokerConnect(kgo.BrokerMetadata{}, 0, nil, refused)
	// What ends with the client or the request says nothing of the broker.
	d.OnBrokerConnect(kgo.BrokerMetadata{}, 0, nil, context.Canceled)
	d.OnBrokerConnect(kgo.BrokerMetadata{}, 0, nil, kgo.ErrClientClosed)
	require.Equal(t, refused, d.Last())
	d.OnBrokerConnect(kgo.BrokerMetadata{}, 0, nil, nil)
	require.NoError(t, d.Last())
}
