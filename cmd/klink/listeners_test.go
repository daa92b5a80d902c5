package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"klink/proxy"
)

// serve says which names a certificate does not cover.
func TestNameWarnings(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"klink.example", "*.a.example"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	certificate := &tls.Certificate{Certificate: [][]byte{der}}
	config := &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return certificate, nil }}
	for _, c := range []struct {
		listener proxy.Listener
		want     []string
	}{
		{proxy.Listener{Advertise: "anything"}, nil},
		{proxy.Listener{Advertise: "klink.example", TLS: config}, nil},
		{proxy.Listener{Advertise: "10.0.0.1", TLS: config}, []string{"10.0.0.1"}},
		{proxy.Listener{Advertise: "klink.example", SNI: "broker-{id}.a.example", TLS: config}, nil},
		{proxy.Listener{Advertise: "klink.example", SNI: "broker-{id}.klink.example", TLS: config}, []string{"broker-1.klink.example"}},
		{proxy.Listener{Name: "outside", Advertise: "b.example", SNI: "{id}.b.example", TLS: config}, []string{"listener outside", "1.b.example"}},
	} {
		got := nameWarnings([]proxy.Listener{c.listener})
		require.Len(t, got, len(c.want), "%v", got)
		for i, want := range c.want {
			require.Contains(t, got[i], want)
		}
	}
}
