package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"klink/internal/kafkaclient"
)

// configValuesHelp is the help on references in config values.
const configValuesHelp = `To keep secrets out of the process list, a value can refer to another place: ${env:NAME} is the environment variable
NAME, ${file:PATH:KEY} the value of KEY in the properties file PATH, and ${dir:PATH:NAME} the content of the file NAME in
the directory PATH. They are read on this machine. Put the argument in single quotes, or the shell expands ${...}
itself.`

// reference matches a reference to a value stored elsewhere, in the syntax of Kafka's config
// providers.
var reference = regexp.MustCompile(`\$\{(env|file|dir):([^}]*)\}`)

// maxConfigValue bounds the size of a value that is read from a file, in bytes.
const maxConfigValue = 1 << 20

// resolveConfig replaces the references in a config value. It does not resolve references inside
// the replacements. An error names the reference, never a value.
func resolveConfig(value string) (string, error) {
	var failed error
	resolved := reference.ReplaceAllStringFunc(value, func(text string) string {
		m := reference.FindStringSubmatch(text)
		v, err := lookUp(m[1], m[2])
		if err != nil && failed == nil {
			failed = fmt.Errorf("%s: %w", text, err)
		}
		return v
	})
	return resolved, failed
}

func lookUp(kind, where string) (string, error) {
	if kind == "env" {
		v, ok := os.LookupEnv(where)
		if !ok {
			return "", fmt.Errorf("environment variable %s is not set", where)
		}
		return v, nil
	}
	at := strings.LastIndexByte(where, ':') // a path may have colons
	if at < 1 || at == len(where)-1 {
		return "", usagef("want ${%s:PATH:NAME}", kind)
	}
	path, name := where[:at], where[at+1:]
	if kind == "file" {
		p, err := kafkaclient.Load(path)
		if err != nil {
			return "", err
		}
		v, ok := p[name]
		if !ok {
			return "", fmt.Errorf("%s has no key %s", path, name)
		}
		return v, nil
	}
	if name != filepath.Base(name) || name == "." || name == ".." {
		return "", usagef("%q is not the name of a file in a directory", name)
	}
	f, err := os.Open(filepath.Join(path, name))
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxConfigValue+1))
	if err == nil && len(text) > maxConfigValue {
		err = fmt.Errorf("%s is larger than %d bytes", f.Name(), maxConfigValue)
	}
	// Editors and `echo` end a file with a line break, which is not part of a password.
	return strings.TrimRight(string(text), "\r\n"), err
}
