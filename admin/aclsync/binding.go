package aclsync

import (
	"cmp"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strconv"

	"klink/protocol/linkapi"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Binding is one ACL: a resource pattern and an access control entry. Brokers compare ACLs by
// exactly these fields, so a binding can be used as a map key.
type Binding struct {
	ResourceType kmsg.ACLResourceType
	Pattern      kmsg.ACLResourcePatternType // literal or prefixed
	Name         string
	Principal    string // TYPE:NAME
	Host         string
	Operation    kmsg.ACLOperation
	Permission   kmsg.ACLPermissionType
}

// Set is a set of ACLs.
type Set map[Binding]struct{}

// Has reports whether a is in the set.
func (s Set) Has(a Binding) bool {
	_, ok := s[a]
	return ok
}

// Add puts a into the set.
func (s Set) Add(acls ...Binding) {
	for _, a := range acls {
		s[a] = struct{}{}
	}
}

func compare(a, b Binding) int {
	return cmp.Or(
		cmp.Compare(a.ResourceType, b.ResourceType), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Pattern, b.Pattern),
		cmp.Compare(a.Principal, b.Principal), cmp.Compare(a.Host, b.Host), cmp.Compare(a.Operation, b.Operation),
		cmp.Compare(a.Permission, b.Permission),
	)
}

// Sorted returns the keys of a set or map of ACLs in a fixed order.
func Sorted[V any](m map[Binding]V) []Binding {
	return slices.SortedFunc(maps.Keys(m), compare)
}

// Kafka's names for the values of ACL fields (org.apache.kafka.common.acl and .resource). The index
// of a name is its value on the wire. A broker may know values that this klink does not; klink
// shows and stores those as numbers.
var (
	ResourceNames   = []string{"UNKNOWN", "ANY", "TOPIC", "GROUP", "CLUSTER", "TRANSACTIONAL_ID", "DELEGATION_TOKEN", "USER"}
	PatternNames    = []string{"UNKNOWN", "ANY", "MATCH", "LITERAL", "PREFIXED"}
	PermissionNames = []string{"UNKNOWN", "ANY", "DENY", "ALLOW"}
	OperationNames  = []string{
		"UNKNOWN", "ANY", "ALL", "READ", "WRITE", "CREATE", "DELETE", "ALTER", "DESCRIBE", "CLUSTER_ACTION", "DESCRIBE_CONFIGS", "ALTER_CONFIGS",
		"IDEMPOTENT_WRITE", "CREATE_TOKENS", "DESCRIBE_TOKENS", "TWO_PHASE_COMMIT",
	}
)

func aclValueName[V ~int8](names []string, v V) string {
	if v > 0 && int(v) < len(names) {
		return names[v]
	}
	return strconv.Itoa(int(v))
}

// ParseValue is the reverse of aclValueName.
func ParseValue[V ~int8](names []string, name string) (V, error) {
	if i := slices.Index(names, name); i > 0 {
		return V(i), nil
	}
	n, err := strconv.ParseInt(name, 10, 8)
	if err != nil || aclValueName(names, V(n)) != name {
		return 0, fmt.Errorf("%.40q is not a valid ACL value", name)
	}
	return V(n), nil
}

// Check returns an error if a is a filter, or incomplete, instead of one ACL. A request that
// deletes a filter could delete several ACLs.
func (a Binding) Check() error {
	switch {
	case a.Pattern != kmsg.ACLResourcePatternTypeLiteral && a.Pattern != kmsg.ACLResourcePatternTypePrefixed,
		a.ResourceType <= kmsg.ACLResourceTypeAny, a.Operation <= kmsg.ACLOperationAny, a.Permission <= kmsg.ACLPermissionTypeAny:
		return errors.New("is an ACL filter, not an ACL")
	case a.Name == "" || a.Principal == "" || a.Host == "":
		return errors.New("is an ACL without a resource, a principal or a host")
	}
	return nil
}

// String describes the ACL for people, on one line.
func (a Binding) String() string {
	w := a.Wire()
	return fmt.Sprintf("%s %s %s on %s %s %s from host %s", w.Principal, w.PermissionType, w.Operation, w.PatternType, w.ResourceType, w.ResourceName, w.Host)
}

// Wire returns the ACL as the link API shows it, with Kafka's names.
func (a Binding) Wire() linkapi.SyncedACL {
	return linkapi.SyncedACL{
		ResourceType: aclValueName(ResourceNames, a.ResourceType), ResourceName: a.Name,
		PatternType: aclValueName(PatternNames, a.Pattern), Principal: a.Principal, Host: a.Host,
		Operation: aclValueName(OperationNames, a.Operation), PermissionType: aclValueName(PermissionNames, a.Permission),
	}
}

// Bucket returns the number, from 0 to of-1, of the record that remembers the ACL.
func (a Binding) Bucket(of int32) int32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte{byte(a.ResourceType), byte(a.Pattern), byte(a.Operation), byte(a.Permission)})
	for _, s := range []string{a.Name, a.Principal, a.Host} {
		_, _ = h.Write([]byte(s))
		_, _ = h.Write([]byte{0})
	}
	return int32(h.Sum32() % uint32(of))
}
