package config

import (
	"crypto/tls"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Each listener has what was given to all of them, or to it by name, or else the default.
func TestListeners(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		want []Listener
	}{
		"one, with a name": {
			[]string{"--listen=a=h:1000", "--advertise=a=x", "--tls-cert-file=a=/c,d=e", "--tls-key-file=a=k"},
			nil, // no listener is called d
		},
		"one, without a name": {
			[]string{"--listen=h:1000", "--tls-cert-file=/c=d", "--tls-key-file=default=k", "--broker-ports=2000", "--advertise-port=500"},
			[]Listener{{Name: "default", Listen: "h:1000", Advertise: "h", AdvertisePort: 500, FirstPort: 2000, LastPort: 2000, TLSCertFile: "/c=d", TLSKeyFile: "k"}},
		},
		"two": {
			[]string{
				"--listen=internal=0.0.0.0:1000, external=0.0.0.0:1100", "--advertise=internal=in.example,external=out.example",
				"--tls-cert-file=external=c", "--tls-key-file=external=k", "--tls-min-version=external=TLSv1.2",
				"--tls-cipher-suites=external=TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
			},
			[]Listener{
				{Name: "internal", Listen: "0.0.0.0:1000", Advertise: "in.example", FirstPort: 1001, LastPort: 1099},
				{
					Name: "external", Listen: "0.0.0.0:1100", Advertise: "out.example", FirstPort: 1101, LastPort: 65535, TLSCertFile: "c", TLSKeyFile: "k",
					CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256},
				},
			},
		},
		"the same ports at two addresses": {
			[]string{"--listen=a=10.0.0.1:1000,b=10.0.0.2:1000", "--tls-cert-file=c", "--tls-key-file=k", "--tls-min-version=TLSv1.3"},
			[]Listener{
				{Name: "a", Listen: "10.0.0.1:1000", Advertise: "10.0.0.1", FirstPort: 1001, LastPort: 65535, TLSCertFile: "c", TLSKeyFile: "k", TLSMinVersion: tls.VersionTLS13},
				{Name: "b", Listen: "10.0.0.2:1000", Advertise: "10.0.0.2", FirstPort: 1001, LastPort: 65535, TLSCertFile: "c", TLSKeyFile: "k", TLSMinVersion: tls.VersionTLS13},
			},
		},
		"a range of ports below": {
			[]string{"--listen=a=h:1000,b=h:900", "--broker-ports=a=901-950"},
			nil, // 901 is the first port for brokers of b
		},
		"ranges": {
			[]string{"--listen=a=h:1000,b=h:1001", "--broker-ports=a=1101-1200,b=1201-1300"},
			[]Listener{
				{Name: "a", Listen: "h:1000", Advertise: "h", FirstPort: 1101, LastPort: 1200},
				{Name: "b", Listen: "h:1001", Advertise: "h", FirstPort: 1201, LastPort: 1300},
			},
		},
		"by server names": {
			[]string{
				"--listen=a=0.0.0.0:1000,b=0.0.0.0:1001,c=0.0.0.0:65535", "--advertise=klink.example", "--advertise-port=b=443,c=65535",
				"--tls-cert-file=c", "--tls-key-file=k", "--sni-broker=b=broker-{id}.klink.example,c=b{id}.klink.example", "--broker-ports=a=5-6",
			},
			[]Listener{
				{Name: "a", Listen: "0.0.0.0:1000", Advertise: "klink.example", FirstPort: 5, LastPort: 6, TLSCertFile: "c", TLSKeyFile: "k"},
				{Name: "b", Listen: "0.0.0.0:1001", Advertise: "klink.example", AdvertisePort: 443, TLSCertFile: "c", TLSKeyFile: "k", SNIBroker: "broker-{id}.klink.example"},
				{Name: "c", Listen: "0.0.0.0:65535", Advertise: "klink.example", AdvertisePort: 65535, TLSCertFile: "c", TLSKeyFile: "k", SNIBroker: "b{id}.klink.example"},
			},
		},
		"behind load balancers": {
			[]string{"--listen=a=h:0,b=h:0", "--proxy-protocol-from=a=10.0.0.0/8,::ffff:10.1.2.3,b=fd00::1/64"},
			[]Listener{
				{Name: "a", Listen: "h:0", Advertise: "h", ProxyFrom: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("10.1.2.3/32")}},
				{Name: "b", Listen: "h:0", Advertise: "h", ProxyFrom: []netip.Prefix{netip.MustParsePrefix("fd00::/64")}},
			},
		},
		"any free port": {
			[]string{"--listen=a=h:0,b=h:0"},
			[]Listener{{Name: "a", Listen: "h:0", Advertise: "h"}, {Name: "b", Listen: "h:0", Advertise: "h"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := load(t, append(c.args, "--destination=a:1"), nil)
			if c.want == nil {
				require.Error(t, err)
				return
			}
			require.NoError(t, err)
			for i := range c.want {
				c.want[i].SSLClientAuth = ClientAuthNone
				if c.want[i].TLSMinVersion == 0 {
					c.want[i].TLSMinVersion = tls.VersionTLS12
				}
			}
			require.Equal(t, c.want, got.Listeners)
		})
	}
}

func TestListenerErrors(t *testing.T) {
	two := "--listen=a=h:1000,b=h:2000"
	certified := []string{two, "--tls-cert-file=b=c", "--tls-key-file=b=k"}
	for _, c := range []struct {
		args  []string
		wants []string
	}{
		{[]string{"--listen="}, []string{"listen: must not be empty"}},
		{[]string{"--listen=a=h:1,h:2"}, []string{`"h:2" has no name`}},
		{[]string{"--listen=h:1,h:2"}, []string{`"h:1" has no name`}},
		{[]string{"--listen=a=h:1,a=h:2"}, []string{`two listeners are called "a"`}},
		{[]string{"--listen=a=h"}, []string{`listen: "h" is not HOST:PORT`}},
		{[]string{two, "--advertise=c=x"}, []string{`advertise: no listener is called "c"; --listen has a, b`}},
		{[]string{two, "--advertise=a=x,y"}, []string{`"y" has no name of a listener before it`}},
		{[]string{two, "--advertise=a=x,a=y"}, []string{`listener "a" has two values`}},
		{[]string{"--listen=a=h:1000,b=:2000"}, []string{"advertise: listener b: must be set", "wildcard address"}},
		{[]string{two, "--advertise=b=x:1"}, []string{"advertise: listener b:", "not a host name"}},
		{[]string{two, "--tls-cert-file=a=c"}, []string{"tls-cert-file: listener a: must be set together"}},
		{[]string{two, "--tls-cert-file=a=c", "--tls-key-file=b=k"}, []string{"tls-cert-file: listener a: must be set together"}},
		{[]string{two, "--broker-ports=a=5-4"}, []string{`"5-4" is not a range of ports`, "flag --broker-ports"}},
		{[]string{two, "--broker-ports=a=0-4"}, []string{`"0-4" is not a range of ports`}},
		{[]string{"--listen=a=h:1000,b=h:1000"}, []string{"listen: 1000 of listener b overlap with 1000 of listener a"}},
		{[]string{"--listen=a=h:1000,b=0.0.0.0:1000", "--advertise=h"}, []string{"1000 of listener b overlap with 1000 of listener a"}},
		{[]string{"--listen=a=127.0.0.1:1000,b=localhost:1000"}, []string{"1000 of listener b overlap"}},
		{[]string{"--listen=a=h:1000,b=h:1001"}, []string{"broker-ports: listener a has no port for brokers after 1000"}},
		{[]string{"--listen=h:65535"}, []string{"no port for brokers after 65535"}},
		{[]string{two, "--broker-ports=a=1999-2001"}, []string{"broker-ports: 1999-2001 of listener a overlap with 2000 of listener b"}},
		{[]string{two, "--broker-ports=9000-9010"}, []string{"9000-9010 of listener b overlap with 9000-9010 of listener a"}},
		{[]string{"--listen=h:1000", "--broker-ports=1000-1010"}, []string{"1000-1010 of listener default overlap with 1000"}},
		{[]string{two, "--advertise-port=a=0"}, []string{`"0" is not a port`}},
		{[]string{"--listen=h:0", "--advertise-port=5"}, []string{"advertise-port: needs a port other than 0"}},
		{[]string{two, "--advertise-port=a=65535"}, []string{"advertise-port: listener a would advertise ports 65536"}},
		{[]string{"--listen=h:1000", "--broker-ports=500-510", "--advertise-port=100"}, []string{"would advertise ports -400"}},
		{[]string{two, "--proxy-protocol-from=a=10.0.0.0/33"}, []string{`"10.0.0.0/33" is no address`}},
		{[]string{two, "--proxy-protocol-from=a=lb.example"}, []string{`"lb.example" is no address`}},
		{[]string{two, "--sni-broker=a=b-{id}.example"}, []string{"sni-broker: listener a: needs --tls-cert-file"}},
		{append(certified, "--sni-broker=b=b.example"), []string{`"b.example" needs one {id}`}},
		{append(certified, "--sni-broker=b=b{id}.{id}"), []string{`"b{id}.{id}" needs one {id}`}},
		{append(certified, "--sni-broker=b=b{id}..example"), []string{"is no pattern of host names"}},
		{append(certified, "--sni-broker=b=b{id}.example:9093"), []string{"is no pattern of host names"}},
		{append(certified, "--sni-broker=b="+strings.Repeat("example.", 40)+"{id}"), []string{"too long for a host name"}},
		{append(certified, "--sni-broker=b=b{id}.example", "--broker-ports=b=5-6"), []string{"sni-broker: listener b: cannot be set together"}},
		{append(certified, "--sni-broker=b=b{id}.example", "--advertise=b=10.0.0.1"), []string{"sni-broker: listener b: needs a host name in --advertise"}},
		{append(certified, "--tls-min-version=a=TLSv1.3"), []string{"tls-min-version: listener a: has no TLS"}},
		{append(certified, "--tls-min-version=TLSv1.1"), []string{"tls-min-version", "TLSv1.2, TLSv1.3"}},
		{append(certified, "--tls-cipher-suites=a=TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"), []string{"tls-cipher-suites: listener a: has no TLS"}},
		{append(certified, "--tls-cipher-suites=TLS_AES_128_GCM_SHA256"), []string{"TLS_AES_128_GCM_SHA256 is of TLS 1.3", "cannot be chosen"}},
		{append(certified, "--tls-cipher-suites=TLS_RSA_WITH_RC4_128_SHA"), []string{"TLS_RSA_WITH_RC4_128_SHA is not secure"}},
		{append(certified, "--tls-cipher-suites=AES"), []string{"AES is not a known cipher suite", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"}},
		{append(certified, "--tls-min-version=TLSv1.3", "--tls-cipher-suites=TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"), []string{"tls-cipher-suites", "rules out"}},
	} {
		_, err := load(t, append(c.args, "--destination=a:1"), nil)
		require.Error(t, err, c.args)
		for _, want := range c.wants {
			require.ErrorContains(t, err, want, c.args)
		}
	}
}
