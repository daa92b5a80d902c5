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
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// advertising returns a cluster of one broker that advertises its own address and these: broker
// 101 and so on.
func advertising(t *testing.T, hosts ...string) *kfake.Cluster {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1))
	require.NoError(t, err)
	t.Cleanup(c.Close)
	host, port, err := net.SplitHostPort(c.ListenAddrs()[0])
	require.NoError(t, err)
	c.ControlKey(int16(kmsg.Metadata), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		resp := req.ResponseKind().(*kmsg.MetadataResponse)
		add := func(id int, host, port string) {
			b := kmsg.NewMetadataResponseBroker()
			b.NodeID, b.Host = int32(id), host
			_, _ = fmt.Sscan(port, &b.Port)
			resp.Brokers = append(resp.Brokers, b)
		}
		for i, h := range hosts {
			add(101+i, h, "9")
		}
		add(0, host, port)
		return resp, nil, true
	})
	return c
}

func tryAll(t *testing.T, c *kfake.Cluster, opts ...kgo.Opt) []TriedBroker {
	t.Helper()
	base, err := Properties{"bootstrap.servers": c.ListenAddrs()[0]}.Options()
	require.NoError(t, err)
	cl, err := kgo.NewClient(append(base, opts...)...)
	require.NoError(t, err)
	defer cl.Close()
	tried, err := TryBrokers(t.Context(), cl)
	require.NoError(t, err)
	return tried
}

// TestTryBrokers: each broker is tried where it says it is, and the error names those that fail.
func TestTryBrokers(t *testing.T) {
	c := advertising(t, "not..a.name", "\x1b[2Jevil host"+strings.Repeat("x", 500))
	tried := tryAll(t, c)
	require.Len(t, tried, 3)
	require.Equal(t, fmt.Sprintf("broker 0 at %s: it answers", c.ListenAddrs()[0]), tried[0].String())
	require.Equal(t, "broker 101 at not..a.name:9: its name cannot be resolved", tried[1].String())
	failed := FailedBrokers(tried)
	require.NotNil(t, failed)
	require.Contains(t, failed.Error(), "2 of 3 brokers cannot be used at the address that they advertise: broker 101 at not..a.name:9: its name cannot be resolved; broker 102 at ")
	require.Contains(t, failed.Error(), "check advertised.listeners")
	require.NotContains(t, failed.Error(), "\x1b")
	require.Less(t, len(failed.Error()), 1000)
	require.Nil(t, FailedBrokers(tried[:1]))
}

// TestTryBrokersIsNoScanner: a cluster that advertises thousands of addresses learns little, and
// makes klink connect to few of them.
func TestTryBrokersIsNoScanner(t *testing.T) {
	hosts := make([]string, maxBrokers-1)
	for i := range hosts {
		hosts[i] = fmt.Sprintf("10.0.%d.%d", i/256, i%256)
	}
	c := advertising(t, hosts...)
	var dials, now, most atomic.Int32
	dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
		if addr == c.ListenAddrs()[0] {
			return (&net.Dialer{}).DialContext(ctx, network, addr)
		}
		dials.Add(1)
		n := now.Add(1)
		defer now.Add(-1)
		for was := most.Load(); n > was && !most.CompareAndSwap(was, n); was = most.Load() {
		}
		return nil, &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	}
	failed := FailedBrokers(tryAll(t, c, kgo.Dialer(dial)))
	require.NotNil(t, failed)
	require.Less(t, dials.Load(), int32(enoughFailures+triedAtOnce))
	require.LessOrEqual(t, most.Load(), int32(triedAtOnce))
	require.Regexp(t, `broker \d+ at 10\.0\.\d+\.\d+:9: connection refused`, failed.Error())
	require.Contains(t, failed.Error(), fmt.Sprintf("and %d more", len(failed.Failed)-shownBrokers))
}

// TestAddressTrouble: every kind of failure has its words, and none of them are the network's.
func TestAddressTrouble(t *testing.T) {
	seen := map[string]bool{}
	for _, err := range []error{
		ErrNotTried,
		&net.DNSError{Err: "secret", Name: "secret"},
		&tls.CertificateVerificationError{Err: x509.HostnameError{Certificate: &x509.Certificate{DNSNames: []string{"secret"}}, Host: "secret"}},
		&tls.CertificateVerificationError{Err: errors.New("secret")},
		&net.OpError{Op: "dial", Err: os.NewSyscallError("secret", syscall.ECONNREFUSED)},
		&net.OpError{Op: "dial", Err: os.NewSyscallError("secret", syscall.EHOSTUNREACH)},
		fmt.Errorf("secret: %w", kerr.SaslAuthenticationFailed),
		fmt.Errorf("secret: %w", tls.AlertError(42)),
		fmt.Errorf("secret: %w", kerr.ClusterAuthorizationFailed),
		fmt.Errorf("secret: %w", context.DeadlineExceeded),
		fmt.Errorf("secret: %w", io.EOF),
		&ResponseError{Err: errors.New("secret")},
		errors.New("secret"),
	} {
		kind, advice := AddressTrouble(err)
		require.False(t, seen[kind], "%v: %s", err, kind)
		seen[kind] = true
		require.NotEmpty(t, advice)
		require.NotContains(t, kind+advice, "secret")
	}
}
