package main

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"go.yaml.in/yaml/v3"

	"klink/internal/kafkaclient"
)

// contexts are a user's named clusters. They hold secrets, so the file has mode 0600.
type contexts struct {
	path string

	Current  string                            `yaml:"current,omitempty"`
	Contexts map[string]kafkaclient.Properties `yaml:"contexts"`
}

// contextsPath returns the path of the file, in KLINK_CONFIG_DIR or else in klink's part of the
// user's config directory.
func (a *app) contextsPath() (string, error) {
	dir := a.configDir
	if dir == "" {
		user, err := os.UserConfigDir()
		if err != nil {
			return "", fmt.Errorf("could not find a directory for contexts: %w; set KLINK_CONFIG_DIR", err)
		}
		dir = filepath.Join(user, "klink")
	}
	return filepath.Join(dir, "contexts.yaml"), nil
}

// loadContexts reads the file; a missing one is empty.
func (a *app) loadContexts() (*contexts, error) {
	path, err := a.contextsPath()
	if err != nil {
		return nil, err
	}
	c := &contexts{path: path}
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err := yaml.Unmarshal(text, c); err != nil {
		return nil, fmt.Errorf("%s is damaged: repair it or remove it", path)
	}
	if c.Contexts == nil {
		c.Contexts = map[string]kafkaclient.Properties{}
	}
	return c, nil
}

// save replaces the file atomically.
func (c *contexts) save() error {
	text, err := yaml.Marshal(c)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(c.path), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(c.path), "contexts-*.yaml") // with mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if _, err := f.Write(text); err != nil {
		f.Close()
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), c.path)
}

func (c *contexts) names() []string { return slices.Sorted(maps.Keys(c.Contexts)) }
