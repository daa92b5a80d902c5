package kafkaclient

import (
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"strings"
)

const (
	keyTLSVersions = "ssl.enabled.protocols"
	keyTLSSuites   = "ssl.cipher.suites"
)

// tlsVersions are the versions that klink uses, by Java's names.
var tlsVersions = map[string]uint16{"TLSV1.2": tls.VersionTLS12, "TLSV1.3": tls.VersionTLS13}

// oldVersions are those that klink leaves out, however a property asks for them.
var oldVersions = []string{"SSLV2HELLO", "SSLV2", "SSLV3", "TLSV1", "TLSV1.1"}

// restrictTLS keeps a configuration to the versions and cipher suites that the properties list. The
// unsafe ones among them it leaves out.
func (p Properties) restrictTLS(config *tls.Config) error {
	config.MinVersion, config.MaxVersion = tls.VersionTLS12, tls.VersionTLS13
	if list := listOf(p[keyTLSVersions]); len(list) > 0 {
		config.MinVersion, config.MaxVersion = 0, 0
		for _, name := range list {
			version, ok := tlsVersions[strings.ToUpper(name)]
			switch {
			case ok && config.MaxVersion == 0:
				config.MinVersion, config.MaxVersion = version, version
			case ok:
				config.MinVersion, config.MaxVersion = min(config.MinVersion, version), max(config.MaxVersion, version)
			case !slices.Contains(oldVersions, strings.ToUpper(name)):
				return fmt.Errorf("%s: %s is not a version of TLS: want TLSv1.2 or TLSv1.3, or both", keyTLSVersions, quoteWord(name))
			}
		}
		if config.MaxVersion == 0 {
			return fmt.Errorf("%s: klink uses nothing older than TLS 1.2: want TLSv1.2 or TLSv1.3, or both", keyTLSVersions)
		}
	}
	return p.restrictSuites(config)
}

// restrictSuites keeps a configuration to the listed cipher suites. Go does not choose among those
// of TLS 1.3: it offers all of them, or TLS 1.3 is not offered.
func (p Properties) restrictSuites(config *tls.Config) error {
	list := listOf(p[keyTLSSuites])
	if len(list) == 0 {
		return nil
	}
	var newest, listed []string
	for _, s := range tls.CipherSuites() {
		if slices.Contains(s.SupportedVersions, tls.VersionTLS13) {
			newest = append(newest, s.Name)
			if slices.Contains(list, s.Name) {
				listed = append(listed, s.Name)
			}
		} else if slices.Contains(list, s.Name) {
			config.CipherSuites = append(config.CipherSuites, s.ID)
		}
	}
	for _, name := range list {
		if !strings.HasPrefix(name, "TLS_") && !strings.HasPrefix(name, "SSL_") {
			return fmt.Errorf("%s: %s is not the name of a cipher suite, such as TLS_AES_128_GCM_SHA256", keyTLSSuites, quoteWord(name))
		}
	}
	switch {
	case len(listed) == 0:
		config.MaxVersion = tls.VersionTLS12
	case len(listed) < len(newest) && config.MaxVersion == tls.VersionTLS13:
		return fmt.Errorf("%s: klink cannot leave out some of the cipher suites of TLS 1.3: list all of them (%s), or none", keyTLSSuites, strings.Join(newest, ", "))
	}
	if len(config.CipherSuites) == 0 {
		config.MinVersion = tls.VersionTLS13
	}
	if config.MinVersion > config.MaxVersion {
		return errors.New(keyTLSSuites + ": klink has none of these cipher suites for the versions of TLS in use: leave it out, or list others")
	}
	return nil
}

func listOf(value string) (list []string) {
	for e := range strings.SplitSeq(value, ",") {
		if e = strings.TrimSpace(e); e != "" {
			list = append(list, e)
		}
	}
	return list
}
