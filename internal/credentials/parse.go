package credentials

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v3"

	"klink/internal/kafkaclient"
)

// lineOf finds the line in an error of the YAML parser. Nothing else of such an error is shown: it
// may quote the text around the mistake.
var lineOf = regexp.MustCompile(`line ([0-9]+)`)

// parse reads the file:
//
//	User:alice:
//	  destination: {sasl.mechanism: SCRAM-SHA-512, sasl.jaas.config: '...'}
//	  sources:
//	    east: {sasl.mechanism: PLAIN, sasl.jaas.config: '...'}
//
// Errors name the line and the key, and show no value. shared reports whether links may use a file.
func parse(text []byte, reach kafkaclient.Properties, shared func(path string) bool) (map[string]*Entry, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	var document yaml.Node
	entries := map[string]*Entry{}
	if err := decoder.Decode(&document); errors.Is(err, io.EOF) {
		return entries, nil // an empty map lets nobody in
	} else if err != nil {
		if m := lineOf.FindStringSubmatch(err.Error()); m != nil {
			return nil, fmt.Errorf("line %s: invalid YAML; quote values that have special characters", m[1])
		}
		return nil, errors.New("invalid YAML; quote values that have special characters")
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one YAML document")
	}
	root := document.Content[0]
	if root.Kind == yaml.ScalarNode && root.Tag == "!!null" {
		return entries, nil
	}
	err := fields(root, func(principal string, at int, value *yaml.Node) error {
		if err := checkPrincipal(principal); err != nil {
			return fmt.Errorf("line %d: %w", at, err)
		}
		entry := &Entry{}
		described := false
		err := fields(value, func(key string, at int, value *yaml.Node) (err error) {
			switch key {
			case "destination":
				described = true
				entry.own, entry.Destination, err = destination(value, at, reach, shared)
			case "sources":
				entry.Sources = map[string]kafkaclient.Properties{}
				err = fields(value, func(link string, _ int, value *yaml.Node) (err error) {
					entry.Sources[link], err = properties(value, shared)
					return err
				})
			default:
				err = fmt.Errorf("line %d: %q is neither destination nor sources", at, key)
			}
			return err
		})
		if err == nil && !described {
			err = fmt.Errorf("line %d: %s has no destination", at, principal)
		}
		entries[principal] = entry
		return err
	})
	return entries, err
}

// checkPrincipal refuses what no client can be at klink.
func checkPrincipal(principal string) error {
	if name, ok := strings.CutPrefix(principal, "User:"); !ok || name == "" {
		return fmt.Errorf("%q is no principal: want User:NAME", principal)
	}
	if strings.ContainsFunc(principal, unicode.IsControl) {
		return fmt.Errorf("%q has a control character", principal)
	}
	return nil
}

func destination(node *yaml.Node, at int, reach kafkaclient.Properties, shared func(string) bool) (map[string]string, kafkaclient.Credential, error) {
	own, err := properties(node, shared)
	if err != nil {
		return nil, kafkaclient.Credential{}, err
	}
	all := reach
	for key, value := range own {
		all = all.With(key, value)
	}
	credential, err := all.Credential()
	if err != nil {
		err = fmt.Errorf("line %d: %w", at, err)
	}
	return own, credential, err
}

// properties reads client properties that prove an identity. It refuses files that links may use:
// who may create links could log in with them.
func properties(node *yaml.Node, shared func(path string) bool) (kafkaclient.Properties, error) {
	p := kafkaclient.Properties{}
	err := fields(node, func(key string, at int, value *yaml.Node) error {
		if !kafkaclient.ProvesIdentity(key) {
			return fmt.Errorf("line %d: %q has no place here: only sasl.* and the ssl.keystore of a client certificate; everything else is as in --destination-config", at, key)
		}
		if value.Kind != yaml.ScalarNode || value.Tag == "!!null" {
			return fmt.Errorf("line %d: %s: want one value; quote it if it has special characters", at, key)
		}
		p[key] = value.Value
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, f := range p.LoginFiles() {
		if shared(f.Path) {
			return nil, fmt.Errorf("line %d: the file %s is in one of --link-file-directories, so links could use it: keep it elsewhere", node.Line, f.Path)
		}
	}
	return p, nil
}

// fields calls f for each key of a mapping.
func fields(node *yaml.Node, f func(key string, at int, value *yaml.Node) error) error {
	if node.Kind != yaml.MappingNode {
		return fmt.Errorf("line %d: want KEY: VALUE pairs", node.Line)
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		switch {
		case key.Kind != yaml.ScalarNode:
			return fmt.Errorf("line %d: want a plain key", key.Line)
		case key.Tag == "!!merge", value.Kind == yaml.AliasNode:
			return fmt.Errorf("line %d: references have no place here", key.Line)
		case seen[key.Value]:
			return fmt.Errorf("line %d: %q is there twice", key.Line, key.Value)
		}
		seen[key.Value] = true
		if err := f(key.Value, key.Line, value); err != nil {
			return err
		}
	}
	return nil
}
