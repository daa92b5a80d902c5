package linkconfig

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"klink/admin/model"
	"klink/protocol"

	"github.com/twmb/franz-go/pkg/kerr"
)

// Custody says what a link config has to do with the secrets of its link.
type Custody uint8

const (
	// No row has the custody 0, so that a new row has to name one.
	_ Custody = iota
	// Unconcerned: its value does not change to whom, or how, klink sends the secrets.
	Unconcerned
	// Decides: it decides to whom klink proves who it is, and how. It changes only together with
	// the secrets.
	Decides
	// Secret: it is a secret itself.
	Secret
)

// Hidden stands for the value of a secret.
const Hidden = "[hidden]"

// IsSecret reports whether the value of a config is never shown: it is sensitive, or stored as a
// secret.
func IsSecret(l *model.Link, name string) bool { return IsSensitive(name) || l.Sealed[name] }

// ShownConfig returns what people may see of a config, and whether it is set.
func ShownConfig(l *model.Link, name string) (value string, set bool) {
	value, set = l.Configs[name]
	if set && IsSecret(l, name) {
		value = Hidden
	}
	return value, set
}

// CheckCustody refuses a change of where or how klink proves who it is, unless the same request
// gives the secrets that are used there. Otherwise a client that may alter a link could have its
// password sent to a server of its own. next are the configs as they would be; set and deleted are
// what the request asks for.
func CheckCustody(l *model.Link, next, set map[string]string, deleted map[string]bool) *protocol.Error {
	var changed []string
	for _, c := range table {
		if c.Custody == Decides && Value(l.Configs, c.Name) != Value(next, c.Name) {
			changed = append(changed, c.Name)
		}
	}
	if len(changed) == 0 {
		return nil
	}
	// A secret that this instance cannot open is not in Configs, but an instance that has the key
	// would send it.
	stored := map[string]bool{}
	maps.Copy(stored, l.Sealed)
	for name := range l.Configs {
		if IsSecret(l, name) {
			stored[name] = true
		}
	}
	var missing []string
	for _, name := range slices.Sorted(maps.Keys(stored)) {
		if _, given := set[name]; !given && !deleted[name] {
			missing = append(missing, name)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return protocol.Errorf(kerr.InvalidConfig, "%s decides who receives the secrets of link %q: send them again in the same request, even if they stay the same (%s), or delete them",
		strings.Join(changed, ", "), l.Name, fmt.Sprintf("%.1000s", strings.Join(missing, ", ")))
}
