package kafkaclient

import (
	"crypto/tls"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestVersionsAndCiphersOfTLS: klink uses none but the listed ones, and refuses a list that it
// cannot keep to.
func TestVersionsAndCiphersOfTLS(t *testing.T) {
	const all13 = "TLS_AES_128_GCM_SHA256,TLS_AES_256_GCM_SHA384,TLS_CHACHA20_POLY1305_SHA256"
	const rsa12 = "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"
	for _, c := range []struct {
		versions, suites string
		min, max         uint16
		ids              []uint16
		err              string
	}{
		{"", "", tls.VersionTLS12, tls.VersionTLS13, nil, ""},
		{"TLSv1.2", "", tls.VersionTLS12, tls.VersionTLS12, nil, ""},
		{" TLSv1.3 ", "", tls.VersionTLS13, tls.VersionTLS13, nil, ""},
		{"TLSv1.3,TLSv1.2", "", tls.VersionTLS12, tls.VersionTLS13, nil, ""},
		{"TLSv1.2,TLSv1.1,TLSv1", "", tls.VersionTLS12, tls.VersionTLS12, nil, ""},
		{"TLSv1.1", "", 0, 0, nil, "nothing older than TLS 1.2"},
		{"TLSv1.4", "", 0, 0, nil, `"TLSv1.4" is not a version`},
		{"", rsa12, tls.VersionTLS12, tls.VersionTLS12, []uint16{tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384}, ""},
		{"", rsa12 + ", " + all13, tls.VersionTLS12, tls.VersionTLS13, []uint16{tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384}, ""},
		{"", all13, tls.VersionTLS13, tls.VersionTLS13, nil, ""},
		{"", rsa12 + ",TLS_RSA_WITH_RC4_128_SHA,TLS_DHE_RSA_WITH_AES_128_GCM_SHA256", tls.VersionTLS12, tls.VersionTLS12, []uint16{tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384}, ""},
		{"", "TLS_AES_256_GCM_SHA384", 0, 0, nil, "cannot leave out some of the cipher suites of TLS 1.3"},
		{"TLSv1.2", rsa12 + ",TLS_AES_256_GCM_SHA384", tls.VersionTLS12, tls.VersionTLS12, []uint16{tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384}, ""},
		{"TLSv1.3", rsa12, 0, 0, nil, "none of these cipher suites"},
		{"", "TLS_RSA_WITH_RC4_128_SHA", 0, 0, nil, "none of these cipher suites"},
		{"", "AES256", 0, 0, nil, `"AES256" is not the name of a cipher suite`},
	} {
		p := Properties{"security.protocol": "SSL", keyTLSVersions: c.versions, keyTLSSuites: c.suites}
		own, err := p.Options()
		clients, err2 := p.ClientsTLS()
		if c.err != "" {
			require.ErrorContains(t, err, c.err)
			require.ErrorContains(t, err2, c.err)
			continue
		}
		require.NoError(t, err)
		require.NoError(t, err2)
		for _, config := range []*tls.Config{clients(), own[len(own)-1].(dialOpt).dialer.tls()} {
			require.Equal(t, []uint16{c.min, c.max}, []uint16{config.MinVersion, config.MaxVersion}, "%s; %s", c.versions, c.suites)
			require.Equal(t, c.ids, config.CipherSuites)
		}
	}
	// Without TLS they mean nothing.
	_, err := Properties{keyTLSVersions: "TLSv1.1"}.Options()
	require.NoError(t, err)
}
