package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"

	"klink/internal/config"
	"klink/internal/kafkaclient"
	"klink/proxy"
)

// proxyListeners makes the proxy's listeners from their settings. It reads the certificates.
func proxyListeners(settings []config.Listener) ([]proxy.Listener, error) {
	all := make([]proxy.Listener, len(settings))
	for i, l := range settings {
		secure, err := listenerTLS(l)
		if err != nil {
			return nil, err
		}
		all[i] = proxy.Listener{
			Name: l.Name, Listen: l.Listen, Advertise: l.Advertise, AdvertisePort: l.AdvertisePort,
			FirstPort: l.FirstPort, LastPort: l.LastPort, TLS: secure, SNI: l.SNIBroker, ProxyFrom: l.ProxyFrom,
		}
	}
	return all, nil
}

// listenerTLS returns what a listener uses towards clients; nil = plaintext. It names no protocols
// (ALPN): Kafka has none, and a client that offers some is then served all the same.
func listenerTLS(l config.Listener) (*tls.Config, error) {
	if l.TLSCertFile == "" {
		return nil, nil
	}
	config, err := kafkaclient.ServerTLS(l.TLSCertFile, l.TLSKeyFile)
	if err != nil {
		return nil, fmt.Errorf("tls-cert-file and tls-key-file: listener %s: %w", l.Name, err)
	}
	config.MinVersion, config.CipherSuites = l.TLSMinVersion, l.CipherSuites
	return config, nil
}

// nameWarnings says which names the certificates of listeners do not cover, although clients
// connect by them.
func nameWarnings(listeners []proxy.Listener) (warnings []string) {
	for _, l := range listeners {
		if l.TLS == nil {
			continue
		}
		certificate, err := l.TLS.GetCertificate(nil)
		if err != nil {
			continue
		}
		leaf, err := x509.ParseCertificate(certificate.Certificate[0])
		if err != nil {
			continue
		}
		for _, name := range l.Names() {
			if err := leaf.VerifyHostname(name); err != nil {
				warnings = append(warnings, fmt.Sprintf("clients that check names cannot connect to listener %s: %v", l.Name, err))
			}
		}
	}
	return warnings
}
