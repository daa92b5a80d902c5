package config

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/env/v2"
	"github.com/knadh/koanf/providers/file"
	"github.com/knadh/koanf/providers/posflag"
	"github.com/knadh/koanf/v2"
	"github.com/spf13/pflag"

	"klink/internal/kafkaclient"
)

// AddFlags defines a flag for every setting. Their values stay text until Load parses them.
func AddFlags(flags *pflag.FlagSet) {
	for _, s := range Settings {
		v := textValue{text: s.Default, kind: s.Type}
		flags.Var(&v, s.Name, s.Doc+" ["+s.Env()+"]")
		if s.Type == "bool" {
			flags.Lookup(s.Name).NoOptDefVal = "true"
		}
	}
}

// textValue is a flag whose value is checked later, together with those of other origins.
type textValue struct{ text, kind string }

func (v *textValue) String() string     { return v.text }
func (v *textValue) Set(s string) error { v.text = s; return nil }
func (v *textValue) Type() string       { return v.kind }

// Load collects the settings from flags, the environment (entries KEY=VALUE, as os.Environ) and the
// YAML file that one of them names, and checks them. Every error is an *Error, unless the file
// cannot be read.
func Load(flags *pflag.FlagSet, environ []string) (*Serve, error) {
	o, err := readOrigins(flags, environ)
	if err != nil {
		return nil, err
	}
	c := &Serve{}
	for _, s := range Settings {
		value, origin := o.value(s)
		if err := s.set(c, value); err != nil {
			return nil, &Error{Setting: s.Name, Origin: origin, Problem: err.Error()}
		}
	}
	return c, c.check()
}

// origins are the places that values come from. No key contains a dot, so nested YAML shows up as
// an unknown key.
type origins struct {
	flags, env, file *koanf.Koanf
	path             string // of the file
}

func readOrigins(flags *pflag.FlagSet, environ []string) (*origins, error) {
	byEnv := map[string]string{}
	for _, s := range Settings {
		byEnv[s.Env()] = s.Name
	}
	o := &origins{flags: koanf.New("."), env: koanf.New("."), file: koanf.New(".")}
	if err := o.flags.Load(posflag.Provider(flags, ".", nil), nil); err != nil {
		return nil, err
	}
	if err := o.env.Load(env.Provider(".", env.Opt{
		Prefix:        "KLINK_",
		TransformFunc: func(k, v string) (string, any) { return byEnv[k], v },
		EnvironFunc:   func() []string { return environ },
	}), nil); err != nil {
		return nil, err
	}
	o.path = o.env.String("config")
	if o.flags.Exists("config") {
		o.path = o.flags.String("config")
	}
	if o.path == "" {
		return o, nil
	}
	return o, loadFile(o.file, o.path)
}

// value returns the value of a setting and its origin; origin "" = the default.
func (o *origins) value(s Setting) (value, origin string) {
	switch {
	case o.flags.Exists(s.Name):
		return o.flags.String(s.Name), "flag --" + s.Name
	case o.env.Exists(s.Name):
		return o.env.String(s.Name), "environment " + s.Env()
	case o.file.Get(s.Name) != nil:
		return fmt.Sprint(o.file.Get(s.Name)), "file " + o.path
	}
	return s.Default, ""
}

func loadFile(k *koanf.Koanf, path string) error {
	if err := k.Load(file.Provider(path), yaml.Parser()); err != nil {
		return fmt.Errorf("config file %s: %w", path, err)
	}
	origin := "file " + path
	for _, key := range k.Keys() {
		if key == "config" {
			return &Error{Setting: key, Origin: origin, Problem: "a config file cannot name another"}
		}
		if !slices.ContainsFunc(Settings, func(s Setting) bool { return s.Name == key }) {
			return &Error{Setting: key, Origin: origin, Problem: "unknown key"}
		}
		if _, isList := k.Get(key).([]any); isList {
			return &Error{Setting: key, Origin: origin, Problem: "want one value, not a list (addresses are comma separated)"}
		}
	}
	return nil
}

// check finds contradictions between settings, and derives settings from others.
func (c *Serve) check() error {
	if len(c.Destination) == 0 && c.DestinationConfig == "" {
		return &Error{Setting: "destination", Problem: "must be set to HOST:PORT of a destination broker"}
	}
	if err := c.resolveListeners(); err != nil {
		return err
	}
	if c.RequestMemory < 2*c.MaxRequestBytes {
		return &Error{Setting: "request-memory", Problem: fmt.Sprintf("%d bytes are less than twice --max-request-bytes (%d)", c.RequestMemory, c.MaxRequestBytes)}
	}
	if c.PProf && c.HTTP == "" {
		return &Error{Setting: "pprof", Problem: "needs --http"}
	}
	return c.checkIdentity()
}

// DestinationProperties returns the client properties for klink's own connections to the
// destination: the file of --destination-config, with --destination as bootstrap.servers if given.
// They still have the references that the file has. ignored are those that klink does not use.
func (c *Serve) DestinationProperties() (p kafkaclient.Properties, ignored []string, err error) {
	p = kafkaclient.Properties{}
	if c.DestinationConfig != "" {
		file, err := kafkaclient.Load(c.DestinationConfig)
		if err == nil {
			p, ignored, err = file.Check()
		}
		if err != nil {
			return nil, nil, &Error{Setting: "destination-config", Problem: err.Error()}
		}
	}
	if len(c.Destination) > 0 {
		p = p.With("bootstrap.servers", strings.Join(c.Destination, ","))
	}
	resolved, err := p.Resolve()
	if err != nil {
		return nil, nil, &Error{Setting: "destination-config", Problem: err.Error()}
	}
	seeds, err := resolved.Seeds()
	if err != nil {
		return nil, nil, &Error{Setting: "destination-config", Problem: err.Error()}
	}
	if len(seeds) == 0 {
		return nil, nil, &Error{Setting: "destination", Problem: fmt.Sprintf("must be set to HOST:PORT of a destination broker, or %s must have bootstrap.servers", c.DestinationConfig)}
	}
	return p, ignored, nil
}

// OwnPrincipals returns klink's own principals at the destination as far as klink knows them: the
// configured one, and the one that the properties imply.
func (c *Serve) OwnPrincipals(p kafkaclient.Properties) ([]string, error) {
	var own []string
	if c.OwnPrincipal != "" {
		own = append(own, c.OwnPrincipal)
	}
	told, err := p.Principal()
	if err != nil {
		return nil, &Error{Setting: "destination-config", Problem: err.Error()}
	}
	if told != "" && told != c.OwnPrincipal {
		own = append(own, told)
	}
	return own, nil
}

// LoadOS is Load with the environment of the process.
func LoadOS(flags *pflag.FlagSet) (*Serve, error) { return Load(flags, os.Environ()) }
