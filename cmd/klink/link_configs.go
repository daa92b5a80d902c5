package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"klink/admin/filter"
	"klink/admin/linkconfig"
	"klink/internal/kafkaclient"
)

const (
	keepReferencesUsage = "leave ${file:PATH:KEY} and ${dir:PATH:NAME} to klink's own machine"

	keepReferencesHelp = `With --keep-references, klink looks up ${file:PATH:KEY} and ${dir:PATH:NAME} itself, each time it logs in at the source, in
its --link-file-directories: a password that changes there needs no update of the link. This is for secrets only. Next to
the secret, in the same file or directory, there must be the link's bootstrap.servers, security.protocol and
sasl.mechanism, and how it trusts the source: klink sends a secret only to the servers that it was put there for.`
)

// linkSource is where a command takes link configs from.
type linkSource struct {
	file  string
	pairs []string
	keep  bool // references to files
}

// configs collects the configs of --config-file and, on top, those of --config. A pair may also be
// the bare JSON of filters, which itself tells which config it is. It leaves out the properties
// that links do not use, and says so.
func (s linkSource) configs(a *app) (map[string]string, error) {
	fromFile := kafkaclient.Properties{}
	if s.file != "" {
		var err error
		if fromFile, err = kafkaclient.Load(s.file); err != nil {
			return nil, fmt.Errorf("--config-file: %w", err)
		}
	}
	sent := map[string]string{}
	ignored, err := s.add(sent, "--config-file", fromFile, fromFile)
	if err != nil {
		return nil, err
	}
	given := kafkaclient.Properties{}
	for _, pair := range s.pairs {
		key, value, err := linkConfig(pair)
		if err != nil {
			return nil, err
		}
		// Drop the file's value, under whichever name the file has it. If the pairs give both names
		// of a config, the server refuses that.
		for name := range fromFile {
			if linkconfig.Name(name) == linkconfig.Name(key) {
				delete(sent, name)
			}
		}
		given[key] = value
	}
	providers := maps.Clone(fromFile)
	maps.Copy(providers, given)
	more, err := s.add(sent, "--config", given, providers)
	if err != nil {
		return nil, err
	}
	ignored = append(ignored, more...)
	slices.Sort(ignored)
	a.tellIgnored(slices.Compact(ignored))
	return sent, nil
}

// add adds the properties that are to be sent to configs, with what their references stand for. It
// returns the names of those that links do not use.
func (s linkSource) add(configs map[string]string, flag string, p, providers kafkaclient.Properties) (ignored []string, err error) {
	for _, key := range slices.Sorted(maps.Keys(p)) {
		value := p[key]
		if _, own := linkconfig.Lookup(linkconfig.Name(key)); !own {
			switch treatment, why := kafkaclient.Treat(key, value); {
			case linkconfig.Ignored(key, value):
				ignored = append(ignored, key)
				continue
			case treatment == kafkaclient.Refused:
				return nil, fmt.Errorf("%s: %s: %s", flag, key, why)
			case treatment == kafkaclient.Providers && !s.keep:
				continue
			}
		}
		if !s.keep {
			if value, err = providers.ResolveValue(value); err != nil {
				return nil, fmt.Errorf("%s: %s: %w", flag, key, err)
			}
		}
		configs[key] = value
	}
	return ignored, nil
}

// linkConfig parses a value of --config.
func linkConfig(pair string) (key, value string, err error) {
	if text := strings.TrimSpace(pair); strings.HasPrefix(text, "{") {
		key, err := filter.ConfigName(text)
		if err != nil {
			return "", "", usagef("--config: %s", err)
		}
		return key, text, nil
	}
	return cutConfig(pair)
}
