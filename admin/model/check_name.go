package model

import (
	"errors"
	"fmt"
	"strings"
)

// CheckName applies Kafka's rule for topic names
// (org.apache.kafka.common.internals.Topic.validate), which links share.
func CheckName(name string) error {
	switch {
	case name == "":
		return errors.New("a name must not be empty")
	case name == "." || name == "..":
		return fmt.Errorf("invalid name %q", name)
	case len(name) > 249:
		return fmt.Errorf("the name has %d characters; at most 249 are allowed", len(name))
	}
	for i := range len(name) {
		c := name[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '.' && c != '_' && c != '-' {
			return fmt.Errorf("%q has characters other than a-z, A-Z, 0-9, '.', '_' and '-'", name)
		}
	}
	return nil
}

// ownPrefix is the prefix of klink's own topics, groups and transactional ids, at any cluster.
const ownPrefix = "_klink_"

// IsOwnName reports whether a name is reserved for klink, at this cluster or for a klink in front
// of another one.
func IsOwnName(name string) bool { return strings.HasPrefix(name, ownPrefix) }
