package kafkaclient

import (
	"bytes"
	"errors"
	"path/filepath"
	"strings"
)

// Bundle is what a reference of a link leads to: the properties in a file, or the files in a
// directory.
type Bundle struct {
	values Properties                               // of a file
	read   func(name string) (text string, ok bool) // of a directory
}

// Value returns the value of a key; ok reports whether there is one.
func (b Bundle) Value(key string) (value string, ok bool) {
	if b.read != nil {
		return b.read(key)
	}
	value, ok = b.values[key]
	return value, ok
}

// errBundle says nothing about why: see ErrFile.
var errBundle = errors.New("links cannot use this")

// Bundle reads what a reference leads to. It is nil for a provider that links do not have.
func (f Files) Bundle(r Reference) (*Bundle, error) {
	switch r.Provider {
	case providerFile:
		text, err := f.read(r.Path)
		if err != nil {
			return nil, errBundle
		}
		p, err := Parse(bytes.NewReader(text))
		if err != nil {
			return nil, errBundle
		}
		return &Bundle{values: p}, nil
	case providerDir:
		return &Bundle{read: func(name string) (string, bool) {
			if !isFileName(name) {
				return "", false
			}
			text, err := f.read(filepath.Join(r.Path, name))
			return strings.TrimRight(string(text), "\r\n"), err == nil
		}}, nil
	}
	return nil, nil
}
