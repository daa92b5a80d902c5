package kafkaclient

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// configProviders is the property that names config providers.
const configProviders = "config.providers"

// The providers of Kafka, by the names that they have if properties set up none.
const (
	providerEnv  = "env"
	providerFile = "file"
	providerDir  = "dir"
)

// providerClasses are the providers of Kafka.
var providerClasses = map[string]string{
	"org.apache.kafka.common.config.provider.EnvVarConfigProvider":    providerEnv,
	"org.apache.kafka.common.config.provider.FileConfigProvider":      providerFile,
	"org.apache.kafka.common.config.provider.DirectoryConfigProvider": providerDir,
}

// provider is a config provider that reads from this machine.
type provider struct {
	kind      string
	allowlist *regexp.Regexp // of names of environment variables; nil = all
	paths     []string       // below which files must be; nil = anywhere
}

// Reference is a reference to a value that is kept elsewhere, ${PROVIDER:[PATH:]KEY}.
type Reference struct{ Provider, Path, Key string }

// references matches what Kafka takes for references (ConfigTransformer.DEFAULT_PATTERN): the path
// ends at the first colon. The key may have colons, the path may not.
var references = regexp.MustCompile(`\$\{([^}]*?):(([^}]*?):)?([^}]*?)\}`)

// IsReference reports whether a value has a reference, to whatever provider, in it.
func IsReference(value string) bool { return references.MatchString(value) }

// ReplaceReferences replaces the references in a value. lookUp returns what replaces one; ok is
// false if the text is to stay. What replaces a reference is not searched for references. An error
// names the reference, never a value.
func ReplaceReferences(value string, lookUp func(Reference) (text string, ok bool, err error)) (string, error) {
	var failed error
	replaced := references.ReplaceAllStringFunc(value, func(text string) string {
		m := references.FindStringSubmatch(text)
		v, ok, err := lookUp(Reference{Provider: m[1], Path: m[3], Key: m[4]})
		if err != nil && failed == nil {
			failed = fmt.Errorf("%s: %w", text, err)
		}
		if !ok {
			return text
		}
		return v
	})
	if failed != nil {
		return "", failed
	}
	return replaced, nil
}

// Resolve returns the properties with what their references stand for, and without those that set
// up config providers. References are to this process's environment and to any file of this
// machine; the properties may say otherwise with config.providers, as for Kafka's clients. Without
// that, the names env, file and dir stand for Kafka's three providers. Text that looks like a
// reference to another provider is no reference, as for Kafka.
func (p Properties) Resolve() (Properties, error) {
	resolved := Properties{}
	for _, key := range slices.Sorted(maps.Keys(p)) {
		if t, _ := Treat(key, ""); t == Providers {
			continue
		}
		text, err := p.ResolveValue(p[key])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		if t, why := Treat(key, text); t == Refused {
			return nil, fmt.Errorf("%s: %s", key, why)
		}
		resolved[key] = text
	}
	return resolved, nil
}

// ResolveValue returns a value with what its references stand for, under the providers of p.
func (p Properties) ResolveValue(value string) (string, error) {
	providers, err := p.providers()
	if err != nil {
		return "", err
	}
	return ReplaceReferences(value, func(r Reference) (string, bool, error) {
		source, ok := providers[r.Provider]
		if !ok {
			return "", false, nil
		}
		text, err := source.get(r)
		return text, true, err
	})
}

// HasReferences reports whether a property has a reference that Resolve replaces.
func (p Properties) HasReferences() bool { return len(p.references()) > 0 }

// ReferencedFiles returns the files that the references lead to.
func (p Properties) ReferencedFiles() (paths []string) {
	for _, source := range p.references() {
		switch source.kind {
		case providerFile:
			paths = append(paths, source.Path)
		case providerDir:
			paths = append(paths, filepath.Join(source.Path, source.Key))
		}
	}
	return paths
}

// sourced is a reference with its provider.
type sourced struct {
	Reference
	provider
}

func (p Properties) references() (found []sourced) {
	providers, err := p.providers()
	if err != nil {
		return nil
	}
	for _, value := range p {
		for _, m := range references.FindAllStringSubmatch(value, -1) {
			if source, ok := providers[m[1]]; ok {
				found = append(found, sourced{Reference{Provider: m[1], Path: m[3], Key: m[4]}, source})
			}
		}
	}
	return found
}

// providers returns the config providers by name.
func (p Properties) providers() (map[string]provider, error) {
	all := map[string]provider{}
	for name := range strings.SplitSeq(p[configProviders], ",") {
		if name = strings.TrimSpace(name); name == "" {
			continue
		}
		key := configProviders + "." + name + ".class"
		kind, ok := providerClasses[strings.TrimSpace(p[key])]
		if !ok {
			return nil, fmt.Errorf("%s: klink has only the config providers of Kafka: want %s", key, strings.Join(slices.Sorted(maps.Keys(providerClasses)), " or "))
		}
		all[name] = provider{kind: kind}
	}
	for _, key := range slices.Sorted(maps.Keys(p)) {
		rest, ok := strings.CutPrefix(key, configProviders+".")
		if !ok {
			continue
		}
		name, param, _ := strings.Cut(rest, ".")
		source, ok := all[name]
		switch {
		case !ok:
			return nil, fmt.Errorf("%s: %s does not name this provider", key, configProviders)
		case param == "class":
			continue
		}
		if err := source.set(param, strings.TrimSpace(p[key])); err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		all[name] = source
	}
	if len(all) == 0 {
		all = map[string]provider{providerEnv: {kind: providerEnv}, providerFile: {kind: providerFile}, providerDir: {kind: providerDir}}
	}
	return all, nil
}

// set sets a parameter of a provider.
func (s *provider) set(param, value string) error {
	switch {
	case param == "param.allowlist.pattern" && s.kind == providerEnv:
		pattern, err := regexp.Compile(`^(?:` + value + `)$`)
		if err != nil {
			return errors.New("this is no regular expression that klink can read")
		}
		s.allowlist = pattern
	case param == "param.allowed.paths" && s.kind != providerEnv:
		s.paths = []string{}
		for path := range strings.SplitSeq(value, ",") {
			if path = strings.TrimSpace(path); !filepath.IsAbs(path) {
				return errors.New("want absolute paths, separated by commas")
			}
			s.paths = append(s.paths, filepath.Clean(path))
		}
	default:
		return errors.New("this provider has no such parameter: an EnvVarConfigProvider has param.allowlist.pattern, the others have param.allowed.paths")
	}
	return nil
}

// get returns what a reference stands for.
func (s provider) get(r Reference) (string, error) {
	if s.kind == providerEnv {
		if r.Path != "" {
			return "", fmt.Errorf("want ${%s:NAME}", r.Provider)
		}
		if s.allowlist != nil && !s.allowlist.MatchString(r.Key) {
			return "", errors.New("its param.allowlist.pattern does not allow this variable")
		}
		v, ok := os.LookupEnv(r.Key)
		if !ok {
			return "", fmt.Errorf("environment variable %s is not set", r.Key)
		}
		return v, nil
	}
	if r.Path == "" || r.Key == "" {
		return "", fmt.Errorf("want ${%s:PATH:NAME}", r.Provider)
	}
	if !s.allows(r.Path) {
		return "", errors.New("its param.allowed.paths do not allow this path")
	}
	if s.kind == providerFile {
		p, err := Load(r.Path)
		if err != nil {
			return "", err
		}
		v, ok := p[r.Key]
		if !ok {
			return "", fmt.Errorf("%s has no key %s", r.Path, r.Key)
		}
		return v, nil
	}
	if !isFileName(r.Key) {
		return "", fmt.Errorf("%q is not the name of a file in a directory", r.Key)
	}
	f, err := os.Open(filepath.Join(r.Path, r.Key))
	if err != nil {
		return "", err
	}
	defer f.Close()
	return secretText(f)
}

// allows reports whether a path may be read.
func (s provider) allows(path string) bool {
	if s.paths == nil {
		return true
	}
	path, err := filepath.Abs(path)
	return err == nil && slices.ContainsFunc(s.paths, func(dir string) bool {
		_, inside := below(dir, path)
		return inside || dir == path
	})
}

// isFileName reports whether a name is that of a file in a directory, and leads nowhere else.
func isFileName(name string) bool {
	return name != "" && name == filepath.Base(name) && name != "." && name != ".." && name != string(filepath.Separator)
}

// secretText reads a file that has one value in it. Editors and `echo` end a file with a line
// break, which is not part of a password.
func secretText(r io.Reader) (string, error) {
	text, err := readAtMost(r)
	return strings.TrimRight(string(text), "\r\n"), err
}

// AbsoluteReferences returns a value with the paths of its references made absolute.
func (p Properties) AbsoluteReferences(value string) (string, error) {
	providers, err := p.providers()
	if err != nil {
		return "", err
	}
	return ReplaceReferences(value, func(r Reference) (string, bool, error) {
		if source, ok := providers[r.Provider]; !ok || source.kind == providerEnv || r.Path == "" {
			return "", false, nil
		}
		path, err := filepath.Abs(r.Path)
		return "${" + r.Provider + ":" + path + ":" + r.Key + "}", true, err
	})
}
