// Package kafkaclient turns the properties that Java Kafka clients take (client.properties, a link's source.config) into
// franz-go options, so that one file serves Kafka's own tools and klink. It covers the connection: addresses, TLS, SASL,
// time-outs. Keys it does not know are ignored, as a Java client ignores (and warns of) them; who wants to refuse them
// does so before.
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
	"regexp"

	"github.com/magiconair/properties"
)

// maxFile bounds the size of a properties file in bytes: the keys are few, but ssl.truststore.certificates may be long.
const maxFile = 4 << 20

// Properties are client properties by key.
type Properties map[string]string

// secretKeys matches the names of properties whose values must never be shown.
var secretKeys = regexp.MustCompile(`(?i)(password|jaas|secret|ssl\.keystore\.key|ssl\.key$|ssl\.key\.pem)`)

// Sensitive says whether the value of key must not be shown to people or logged.
func Sensitive(key string) bool { return secretKeys.MatchString(key) }

// Parse reads Java's .properties syntax (java.util.Properties.load) as UTF-8: comments with # and !, separators =, : and
// white space, line continuation, \uXXXX. There is no ${} expansion. Of a key given twice the last value counts.
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
