package linkconfig

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"klink/admin/filter"
	"klink/internal/kafkaclient"
	"klink/protocol"

	"github.com/twmb/franz-go/pkg/kerr"
)

// Validate checks all configs of a link together. The error is INVALID_CONFIG, names the
// key and says what is allowed; it never shows the value of a sensitive one. files are those that
// links may name.
func Validate(configs map[string]string, files kafkaclient.Files) *protocol.Error {
	for _, name := range slices.Sorted(maps.Keys(configs)) {
		if err := ValidateOne(name, configs[name]); err != nil {
			return err
		}
	}
	for _, c := range table {
		if c.Required && configs[c.Name] == "" {
			return protocol.Errorf(kerr.InvalidConfig, "%s must be set: %s", c.Name, c.Allowed)
		}
	}
	// The client itself checks what depends on several keys, or on what is in files.
	if _, err := ClientOptions(SourceProperties(configs), files); err != nil {
		return protocol.Errorf(kerr.InvalidConfig, "%s", err)
	}
	return nil
}

// ValidateOne checks the value of one config by itself: its name, type and bounds.
func ValidateOne(name, value string) *protocol.Error {
	c, ok := Lookup(name)
	if !ok {
		return unknown(name, value)
	}
	if len(value) > filter.MaxValue {
		return protocol.Errorf(kerr.InvalidConfig, "%s has %d bytes; at most %d are allowed", name, len(value), filter.MaxValue)
	}
	if err := c.validate(value); err != nil {
		return protocol.Errorf(kerr.InvalidConfig, "%s: %s", name, err)
	}
	return nil
}

func (c Config) validate(value string) error {
	switch c.Type {
	case TypeBoolean:
		if value != "true" && value != "false" {
			return fmt.Errorf("%s is neither true nor false", c.shown(value))
		}
	case TypeInt:
		if _, err := strconv.ParseInt(value, 10, 32); err != nil {
			return fmt.Errorf("%s is not a whole number%s", c.shown(value), c.allowedSuffix())
		}
	}
	if c.check != nil {
		if err := c.check(value); err != nil {
			why := ""
			if !errors.Is(err, errNotAllowed) && !c.Sensitive {
				why = "; " + err.Error()
			}
			return fmt.Errorf("%s%s%s", c.shown(value), c.allowedSuffix(), why)
		}
	}
	return nil
}

func (c Config) shown(value string) string {
	if c.Sensitive {
		return "its value"
	}
	if len(value) > 80 {
		value = value[:80] + "..."
	}
	return strconv.Quote(value)
}

func (c Config) allowedSuffix() string {
	if c.Allowed == "" {
		return ""
	}
	return " is not allowed; allowed: " + c.Allowed
}

// errNotAllowed is the error of a check that has nothing to add to what is allowed. Any other error
// is shown behind what is allowed.
var errNotAllowed = errors.New("not allowed")

func oneOf(values ...string) func(string) error {
	return func(v string) error {
		if !slices.Contains(values, v) {
			return errNotAllowed
		}
		return nil
	}
}

// oneOfFold is oneOf without regard to case.
func oneOfFold(values ...string) func(string) error {
	is := oneOf(values...)
	return func(v string) error { return is(strings.ToUpper(v)) }
}

func between(low, high int64) func(string) error {
	return func(v string) error {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil || n < low || n > high {
			return errNotAllowed
		}
		return nil
	}
}

func atMostBytes(n int) func(string) error {
	return func(v string) error {
		if len(v) > n {
			return errNotAllowed
		}
		return nil
	}
}

func checkBootstrap(v string) error {
	seeds, err := kafkaclient.Properties{ConfigBootstrapServers: v}.Seeds()
	if err != nil {
		return err
	}
	if len(seeds) == 0 {
		return errNotAllowed
	}
	return nil
}

// Suggestion names the config that was probably meant.
func Suggestion(name string) string {
	own := func(yield func(string) bool) {
		for _, c := range table {
			if !yield(c.Name) {
				return
			}
		}
	}
	if near := kafkaclient.Nearest(name, own); near != "" {
		return fmt.Sprintf("; did you mean %s?", near)
	}
	return "; docs/configs.md lists all link configs"
}

// Ignored reports whether a config is a client property that makes no difference to links. It is
// accepted, so that clients' files can be used as they are, but neither stored nor shown.
func Ignored(name, value string) bool {
	if _, own := Lookup(name); own {
		return false
	}
	t, _ := kafkaclient.Treat(name, value)
	return t == kafkaclient.NoDifference || t == kafkaclient.Honoured && slices.Contains(implied, name)
}

// implied are client properties that links need not store: they have a time of their own to
// connect, and the login module implies its handler.
var implied = []string{"socket.connection.setup.timeout.ms", "sasl.client.callback.handler.class"}

// unknown returns the error for a config that links do not have.
func unknown(name, value string) *protocol.Error {
	switch t, why := kafkaclient.Treat(name, value); t {
	case kafkaclient.Refused:
		return protocol.Errorf(kerr.InvalidConfig, "%s: %s", name, why)
	case kafkaclient.Honoured:
		return protocol.Errorf(kerr.InvalidConfig, "%s: links do not support this client property", name)
	case kafkaclient.Providers:
		return protocol.Errorf(kerr.InvalidConfig, "%s: links have the config providers file and dir, and no others; the command line resolves the references of others", name)
	}
	return protocol.Errorf(kerr.InvalidConfig, "unknown link config %s%s", name, Suggestion(name))
}

// Trimmed returns a value as Java clients read it
// (org.apache.kafka.common.config.ConfigDef.parseType): without the white space around it, which
// counts only in passwords.
func Trimmed(name, value string) string {
	if IsSensitive(name) {
		return value
	}
	return strings.TrimSpace(value)
}

// SourceProperties returns the client properties for a link's source, defaults included.
func SourceProperties(configs map[string]string) kafkaclient.Properties {
	p := kafkaclient.Properties{}
	for _, c := range table {
		if v, ok := configs[c.Name]; ok {
			p[c.Name] = v
		} else if c.Default != "" {
			p[c.Name] = c.Default
		}
	}
	return p
}
