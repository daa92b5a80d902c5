package main

import (
	"fmt"
	"path/filepath"
	"strings"

	"klink/internal/kafkaclient"
)

// configValuesHelp is the help on references in config values.
const configValuesHelp = `To keep secrets out of files and of the process list, a value can refer to another place, as with Kafka's config providers:
${env:NAME} is the environment variable NAME, ${file:PATH:KEY} the value of KEY in the properties file PATH, and
${dir:PATH:NAME} the content of the file NAME in the directory PATH. They are read on this machine. Put the argument in
single quotes, or the shell expands ${...} itself.`

// keyValue splits KEY=VALUE of a --config flag, and resolves references in the value. The value may
// be a secret, so errors do not show it.
func keyValue(s string) (key, value string, err error) {
	if key, value, err = cutConfig(s); err != nil {
		return "", "", err
	}
	if value, err = (kafkaclient.Properties{}).ResolveValue(value); err != nil {
		return "", "", fmt.Errorf("--config: %s: %w", key, err)
	}
	return key, value, nil
}

// cutConfig splits KEY=VALUE of a --config flag.
func cutConfig(s string) (key, value string, err error) {
	key, value, ok := strings.Cut(s, "=")
	key = strings.TrimSpace(key)
	if !ok || key == "" {
		return "", "", usagef("--config: want KEY=VALUE")
	}
	return key, value, nil
}

// commandProperties returns the properties of --command-config that make a difference, with the
// references in them, and the names of the others.
func (a *app) commandProperties() (used kafkaclient.Properties, ignored []string, err error) {
	if a.commandConfig == "" {
		return kafkaclient.Properties{}, nil, nil
	}
	file, err := kafkaclient.Load(a.commandConfig)
	if err != nil {
		return nil, nil, fmt.Errorf("--command-config: %w", err)
	}
	if used, ignored, err = file.Check(); err != nil {
		return nil, nil, fmt.Errorf("--command-config: %s: %w", a.commandConfig, err)
	}
	return used, ignored, nil
}

// tellIgnored says which properties klink does not use.
func (a *app) tellIgnored(names []string) {
	if len(names) > 0 {
		fmt.Fprintf(a.err, "Not used by klink: %s\n", strings.Join(names, ", "))
	}
}

// portable returns properties that mean the same in any directory, and that hold no secret which is
// kept elsewhere: files have absolute paths, and only secrets still have references.
func portable(p kafkaclient.Properties) (kafkaclient.Properties, error) {
	stored := kafkaclient.Properties{}
	for key, value := range p {
		var err error
		switch {
		case kafkaclient.Sensitive(key):
			value, err = p.AbsoluteReferences(value)
		default:
			value, err = p.ResolveValue(value)
		}
		if err == nil && strings.HasSuffix(key, ".location") && value != "" && !kafkaclient.IsReference(value) {
			value, err = filepath.Abs(value)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		stored[key] = value
	}
	return stored, nil
}
