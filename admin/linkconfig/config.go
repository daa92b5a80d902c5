package linkconfig

import (
	"slices"
)

// Config is one row of the table of link configs. Validation, the answers to DescribeLinks,
// docs/configs.md and the help of the command line all come from this table.
type Config struct {
	Name string
	Type Type
	// Default is the value if the key is not set; "" = none.
	Default string
	// Required keys must be set.
	Required bool
	// Sensitive values are sealed in the store and shown as [hidden].
	Sensitive bool
	// Importance is high, medium or low, as in Kafka's own tables.
	Importance string
	// Allowed describes the allowed values, for people; "" = anything of the type.
	Allowed string
	Doc     string

	// check refuses a value of the right type; the error says what is wrong with it.
	check func(value string) error
	// Connection marks a config that decides how klink reaches the source. klink connects with a
	// change before it stores it.
	Connection bool
	// Custody says how the config concerns the secrets of its link. Every row must set it.
	Custody Custody
}

// Type is the type of a config in Kafka's words.
type Type string

// The types of link configs.
const (
	TypeString   Type = "string"
	TypePassword Type = "password"
	TypeList     Type = "list"
	TypeBoolean  Type = "boolean"
	TypeInt      Type = "int"
)

// ConfigAliases maps other names of link configs, those of the documented product, to the real
// names.
var ConfigAliases = map[string]string{
	ConfigACLFilters + ".json":        ConfigACLFilters,
	ConfigGroupFilters + ".json":      ConfigGroupFilters,
	ConfigAutoCreateFilters + ".json": ConfigAutoCreateFilters,
}

// Name returns the name under which klink keeps a link config: the real name for an
// alias, else name itself.
func Name(name string) string {
	if real, ok := ConfigAliases[name]; ok {
		return real
	}
	return name
}

// Configs lists the table in its own order. The slice is the caller's.
func Configs() []Config { return slices.Clone(table) }

// Lookup finds a row by name.
func Lookup(name string) (Config, bool) {
	i := slices.IndexFunc(table, func(c Config) bool { return c.Name == name })
	if i < 0 {
		return Config{}, false
	}
	return table[i], true
}

// Value returns the value of a config of a link: the one that was set, else the default.
func Value(configs map[string]string, name string) string {
	if v, ok := configs[name]; ok {
		return v
	}
	c, _ := Lookup(name)
	return c.Default
}

// IsSensitive reports whether the value of a config is a secret. It counts a config that this
// version does not know as one: a later version has written it, and may take it for a secret.
func IsSensitive(name string) bool {
	c, known := Lookup(name)
	return !known || c.Sensitive
}
