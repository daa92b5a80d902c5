package linkconfig

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"klink/internal/kafkaclient"

	"github.com/twmb/franz-go/pkg/kgo"
)

// errReference refuses a reference. It is the same error whatever the cause, so that it tells
// nothing about the files of klink's machine.
var errReference = errors.New("links cannot use this reference: it must be ${file:PATH:KEY} or ${dir:PATH:NAME} in one of klink's --link-file-directories, " +
	"klink must be able to read it, and next to the secret there must be the same bootstrap.servers, security.protocol, sasl.mechanism and trust as in the link")

// maxReferences bounds the references in one secret: klink reads a file for each.
const maxReferences = 8

// ClientOptions returns the options of a client for a link's source. A reference in a secret is
// looked up on klink's machine, now and for each login.
//
// Somebody who may create or alter links, but may not read that machine's files, must not have a
// secret sent to a server of his own. So whoever keeps a secret in a file says there for whom it
// is: with the configs that decide to whom klink proves who it is, and how. They must be those of
// the link. Only secrets may have references: klink shows other configs, and sends them to anybody.
func ClientOptions(p kafkaclient.Properties, files kafkaclient.Files) ([]kgo.Opt, error) {
	resolve := func() (kafkaclient.Properties, error) { return resolve(p, files) }
	resolved, err := resolve()
	if err != nil {
		return nil, err
	}
	opts, err := resolved.OptionsFrom(files)
	if err == nil && refers(p) {
		opts = kafkaclient.Refreshed(opts, resolved, resolve)
	}
	return opts, err
}

// refers reports whether a client property of a link has a reference.
func refers(p kafkaclient.Properties) bool {
	for _, c := range table {
		if c.Connection && referenceIn(p[c.Name]) {
			return true
		}
	}
	return false
}

// referenceIn reports whether a value has a reference that is klink's to look up, or to refuse.
func referenceIn(value string) (found bool) {
	_, _ = kafkaclient.ReplaceReferences(value, func(r kafkaclient.Reference) (string, bool, error) {
		found = found || slices.Contains([]string{"env", "file", "dir"}, r.Provider)
		return "", false, nil
	})
	return found
}

// resolve returns p with what its references stand for.
func resolve(p kafkaclient.Properties, files kafkaclient.Files) (kafkaclient.Properties, error) {
	resolved := p
	for _, c := range table {
		value := p[c.Name]
		if !c.Connection || !referenceIn(value) {
			continue
		}
		if !c.Sensitive {
			return nil, fmt.Errorf("%s: only secrets of links may have references, since klink shows other configs: give the value itself", c.Name)
		}
		if n := strings.Count(value, "${"); n > maxReferences {
			return nil, fmt.Errorf("%s: %d references are too many; at most %d are allowed", c.Name, n, maxReferences)
		}
		// A login module of another mechanism may name other servers that get the secret.
		if !wholeReference(value) && !(c.Name == "sasl.jaas.config" && brokersOnly(p)) {
			return nil, fmt.Errorf("%s: with this sasl.mechanism, the whole value must be one reference", c.Name)
		}
		text, err := kafkaclient.ReplaceReferences(value, func(r kafkaclient.Reference) (string, bool, error) {
			return lookUp(p, r, files)
		})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.Name, errReference)
		}
		resolved = resolved.With(c.Name, text)
	}
	return resolved, nil
}

// wholeReference reports whether a value is one reference and nothing else.
func wholeReference(value string) bool {
	rest, err := kafkaclient.ReplaceReferences(value, func(kafkaclient.Reference) (string, bool, error) { return "", true, nil })
	return err == nil && strings.TrimSpace(rest) == "" && strings.Count(value, "${") == 1
}

// brokersOnly reports whether a login with p proves something to nobody but the brokers.
func brokersOnly(p kafkaclient.Properties) bool {
	return slices.Contains([]string{"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"}, strings.TrimSpace(p["sasl.mechanism"]))
}

// lookUp returns the secret that a reference stands for, if it is meant for the link's source.
func lookUp(p kafkaclient.Properties, r kafkaclient.Reference, files kafkaclient.Files) (string, bool, error) {
	bundle, err := files.Bundle(r)
	if err != nil {
		return "", true, err
	}
	if bundle == nil { // of another provider
		if r.Provider == "env" {
			return "", true, errReference
		}
		return "", false, nil
	}
	for _, c := range table {
		if c.Custody == Decides && !sameDecision(c, p, bundle) {
			return "", true, errReference
		}
	}
	text, ok := bundle.Value(r.Key)
	if !ok {
		return "", true, errReference
	}
	return text, true, nil
}

// sameDecision reports whether what stands next to a secret agrees with the link in one config.
func sameDecision(c Config, p kafkaclient.Properties, bundle *kafkaclient.Bundle) bool {
	there, ok := bundle.Value(c.Name)
	if !ok {
		there = c.Default
	}
	here := Value(p, c.Name)
	switch c.Name {
	case ConfigBootstrapServers:
	case "security.protocol":
		return strings.EqualFold(strings.TrimSpace(here), strings.TrimSpace(there))
	default:
		return strings.TrimSpace(here) == strings.TrimSpace(there)
	}
	allowed, err := kafkaclient.Properties{c.Name: there}.Seeds()
	if err != nil {
		return false
	}
	seeds, err := kafkaclient.Properties{c.Name: here}.Seeds()
	return err == nil && len(seeds) > 0 && !slices.ContainsFunc(seeds, func(s string) bool { return !slices.Contains(allowed, s) })
}
