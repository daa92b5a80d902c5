// Package kafkaclient turns the properties of Java Kafka clients (client.properties, a link's
// source.config) into franz-go options, so that one file serves Kafka's own tools and klink. It
// covers the connection: addresses, TLS, SASL, time-outs. Properties.Check refuses keys that klink
// does not know, and Properties.Resolve replaces references to secrets that are kept elsewhere.
// Properties.Options does neither: it ignores what it does not know.
//
// keys.go is the table of keys, check.go looks into it. providers.go resolves references on this
// machine; references.go has what links may refer to, and admin/linkconfig the rest of their rules.
//
// No error of this package contains a value that may be a secret.
package kafkaclient

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/magiconair/properties"
)

// maxFile bounds the size of a properties file in bytes. The keys are few, but
// ssl.truststore.certificates may be long.
const maxFile = 4 << 20

// Properties are client properties by key.
type Properties map[string]string

// harmlessKeys are client properties whose values are not secret.
var (
	harmlessKeys = []string{
		"bootstrap.servers", "client.id", "client.rack", "client.dns.lookup", "group.id", "group.instance.id", "security.protocol",
		"sasl.mechanism", "sasl.kerberos.service.name", "ssl.protocol", "ssl.provider", "ssl.enabled.protocols", "ssl.cipher.suites",
		"ssl.endpoint.identification.algorithm", "ssl.truststore.type", "ssl.truststore.location", "ssl.truststore.certificates",
		"ssl.ca.location", "ssl.keystore.type", "ssl.keystore.location", "ssl.keystore.certificate.chain", "ssl.certificate.location", "ssl.key.location",
		"acks", "compression.type", "isolation.level", "auto.offset.reset", "enable.auto.commit", "enable.idempotence",
	}
	// harmlessSuffixes are the endings of keys that hold times, sizes and numbers.
	harmlessSuffixes = []string{".ms", ".bytes", ".records", ".seconds", ".size"}
)

// Sensitive reports whether the value of key must not be shown to people or logged. That is true of
// every key that is not known to be harmless: an unknown key may hold a secret.
func Sensitive(key string) bool {
	t, _ := Treat(key, "")
	return t != Providers && !slices.Contains(harmlessKeys, key) &&
		!slices.ContainsFunc(harmlessSuffixes, func(suffix string) bool { return strings.HasSuffix(key, suffix) })
}

// Parse reads Java's .properties syntax (java.util.Properties.load) as UTF-8: comments with # and
// !, separators =, : and white space, line continuation, \uXXXX. It does not expand ${}. If a key
// occurs twice, the last value counts.
func Parse(r io.Reader) (Properties, error) {
	raw, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read properties: %w", err)
	}
	if len(raw) > maxFile {
		return nil, fmt.Errorf("properties are larger than %d bytes", maxFile)
	}
	// The lexer would consume only \ and CR as a line continuation, and leave the LF.
	raw = bytes.ReplaceAll(raw, []byte("\r\n"), []byte("\n"))
	raw = bytes.TrimPrefix(raw, []byte("\xef\xbb\xbf"))
	loader := properties.Loader{Encoding: properties.UTF8, DisableExpansion: true}
	parsed, err := loader.LoadBytes(raw)
	if err != nil {
		// The library's errors may quote the text around the mistake.
		return nil, errors.New("invalid .properties syntax: check for a \\u without four hex digits after it, or a \\ at the end")
	}
	return Properties(parsed.Map()), nil
}

// Load reads a properties file; the error names the file.
func Load(path string) (Properties, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	p, err := Parse(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return p, nil
}

// With returns a copy of p with one key set.
func (p Properties) With(key, value string) Properties {
	c := maps.Clone(p)
	if c == nil {
		c = Properties{}
	}
	c[key] = value
	return c
}
