// Package kafkaclient turns the properties that Java Kafka clients take (client.properties, a
// link's source.config) into franz-go options, so that one file serves Kafka's own tools and klink.
// It covers the connection: addresses, TLS, SASL, time-outs. Keys it does not know are ignored, as
// a Java client ignores (and warns of) them; who wants to refuse them does so before.
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

// maxFile bounds the size of a properties file in bytes: the keys are few, but
// ssl.truststore.certificates may be long.
const maxFile = 4 << 20

// Properties are client properties by key.
type Properties map[string]string

// harmlessKeys are properties of clients whose values are no secrets.
var (
	harmlessKeys = []string{
		"bootstrap.servers", "client.id", "client.rack", "client.dns.lookup", "group.id", "group.instance.id", "security.protocol",
		"sasl.mechanism", "sasl.kerberos.service.name", "ssl.protocol", "ssl.provider", "ssl.enabled.protocols", "ssl.cipher.suites",
		"ssl.endpoint.identification.algorithm", "ssl.truststore.type", "ssl.truststore.location", "ssl.truststore.certificates",
		"ssl.ca.location", "ssl.keystore.type", "ssl.keystore.location", "ssl.keystore.certificate.chain", "ssl.certificate.location", "ssl.key.location",
		"acks", "compression.type", "isolation.level", "auto.offset.reset", "enable.auto.commit", "enable.idempotence",
	}
	// harmlessSuffixes end the names of times, sizes and numbers.
	harmlessSuffixes = []string{".ms", ".bytes", ".records", ".seconds", ".size"}
)

// Sensitive says whether the value of key must not be shown to people or logged. That is so of
// every key that is not known to be harmless: what is not known may be a secret.
func Sensitive(key string) bool {
	return !slices.Contains(harmlessKeys, key) &&
		!slices.ContainsFunc(harmlessSuffixes, func(suffix string) bool { return strings.HasSuffix(key, suffix) })
}

// Parse reads Java's .properties syntax (java.util.Properties.load) as UTF-8: comments with # and
// !, separators =, : and white space, line continuation, \uXXXX. There is no ${} expansion. Of a
// key given twice the last value counts.
func Parse(r io.Reader) (Properties, error) {
	raw, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read properties: %w", err)
	}
	if len(raw) > maxFile {
		return nil, fmt.Errorf("properties are larger than %d bytes", maxFile)
	}
	// The lexer takes \ + CR for the whole of a line continuation.
	raw = bytes.ReplaceAll(raw, []byte("\r\n"), []byte("\n"))
	raw = bytes.TrimPrefix(raw, []byte("\xef\xbb\xbf"))
	loader := properties.Loader{Encoding: properties.UTF8, DisableExpansion: true}
	parsed, err := loader.LoadBytes(raw)
	if err != nil {
		// The library's errors may quote the text around the fault.
		return nil, errors.New("not in the .properties syntax: check for a \\u that four hex digits do not follow, or a \\ at the end")
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

// With is a copy of p with one key set.
func (p Properties) With(key, value string) Properties {
	c := maps.Clone(p)
	if c == nil {
		c = Properties{}
	}
	c[key] = value
	return c
}
