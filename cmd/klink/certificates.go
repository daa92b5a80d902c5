package main

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"klink/internal/kafkaclient"
)

// gatekeeper finds out whether brokers ask for certificates that klink cannot show for its clients,
// so that serve reports it at the start. It does not keep clients out: each client connection to
// such a broker fails on its own (kafkaclient.ErrCertificateAsked).
type gatekeeper struct {
	tls     func() *tls.Config // of connections for clients; nil = no TLS, nothing to check
	timeout time.Duration

	mu      sync.Mutex
	settled map[string]bool // addresses that are known to be fine
}

func newGatekeeper(config func() *tls.Config, timeout time.Duration) *gatekeeper {
	return &gatekeeper{tls: config, timeout: timeout, settled: map[string]bool{}}
}

// refusal returns why klink can serve no client through one of the brokers. It returns nil if there
// is no such reason, or none is known yet because the broker cannot be reached. It does not ask an
// address again that was fine.
func (g *gatekeeper) refusal(ctx context.Context, addrs []string) error {
	if g.tls == nil {
		return nil
	}
	refusals := make([]error, len(addrs))
	var asks sync.WaitGroup
	for i, addr := range addrs {
		g.mu.Lock()
		settled := g.settled[addr]
		g.mu.Unlock()
		if settled {
			continue
		}
		asks.Go(func() {
			known, err := g.ask(ctx, addr)
			refusals[i] = err
			if known {
				g.mu.Lock()
				g.settled[addr] = err == nil
				g.mu.Unlock()
			}
		})
	}
	asks.Wait()
	for _, err := range refusals {
		if err != nil {
			return err
		}
	}
	return nil
}

// ask connects as the proxy does for a client. known is false if the broker could not be reached,
// or did not speak TLS.
func (g *gatekeeper) ask(ctx context.Context, addr string) (known bool, refusal error) {
	ctx, cancel := context.WithTimeout(ctx, g.timeout)
	defer cancel()
	current := g.tls()
	config := current.Clone()
	asked := false
	config.GetClientCertificate = func(info *tls.CertificateRequestInfo) (*tls.Certificate, error) {
		asked = true
		return current.GetClientCertificate(info)
	}
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return false, nil
	}
	defer raw.Close()
	if deadline, ok := ctx.Deadline(); ok {
		_ = raw.SetDeadline(deadline)
	}
	if host, _, err := net.SplitHostPort(addr); err == nil && config.ServerName == "" {
		config.ServerName = host
	}
	conn := tls.Client(raw, config)
	// In TLS 1.3 the client finishes its handshake before the server checks the client's
	// certificate. So a refusal arrives with the first read.
	if err = conn.HandshakeContext(ctx); err == nil {
		err = askVersions(conn)
	}
	var remote *net.OpError
	switch {
	case errors.Is(err, kafkaclient.ErrCertificateAsked):
		return true, fmt.Errorf("destination-config: broker %s asks clients for a certificate (ssl.client.auth), and security.protocol "+
			"is SSL, so the brokers know a client only by its certificate. klink does not present its own certificate for its "+
			"clients, because the brokers would take each of them for klink, and it cannot present theirs. Give klink and its clients "+
			"a listener with a login (security.protocol SASL_SSL), or one without ssl.client.auth", addr)
	case asked && errors.As(err, &remote) && remote.Op == "remote error": // the broker sent an alert
		return true, fmt.Errorf("destination-config: broker %s requires a certificate from its clients (ssl.client.auth=required: %w). "+
			"klink does not present its own for its clients, because the brokers would take each of them for klink, and it cannot "+
			"present theirs. Give klink and its clients a listener with ssl.client.auth=requested or none", addr, err)
	}
	return err == nil, nil
}

// askVersions sends the first request of every Kafka client, and reads the size of the response.
func askVersions(conn io.ReadWriter) error {
	request := []byte{0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 0xff, 0xff} // ApiVersions v0, no client id
	if _, err := conn.Write(request); err != nil {
		return err
	}
	var size [4]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return err
	}
	if binary.BigEndian.Uint32(size[:]) == 0 {
		return io.ErrUnexpectedEOF
	}
	return nil
}
