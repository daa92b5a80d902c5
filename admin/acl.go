package admin

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

// aclBinding is one ACL: a resource pattern and an access control entry. Brokers compare ACLs by
// exactly these fields, so a binding can be used as a map key.
type aclBinding struct {
	resourceType kmsg.ACLResourceType
	pattern      kmsg.ACLResourcePatternType // literal or prefixed
	name         string
	principal    string // TYPE:NAME
	host         string
	operation    kmsg.ACLOperation
	permission   kmsg.ACLPermissionType
}

// aclSet is a set of ACLs.
type aclSet map[aclBinding]struct{}

func (s aclSet) has(a aclBinding) bool {
	_, ok := s[a]
	return ok
}

func (s aclSet) add(acls ...aclBinding) {
	for _, a := range acls {
		s[a] = struct{}{}
	}
}

func compareACLs(a, b aclBinding) int {
	return cmp.Or(
		cmp.Compare(a.resourceType, b.resourceType), cmp.Compare(a.name, b.name), cmp.Compare(a.pattern, b.pattern),
		cmp.Compare(a.principal, b.principal), cmp.Compare(a.host, b.host), cmp.Compare(a.operation, b.operation),
		cmp.Compare(a.permission, b.permission),
	)
}

// sortedACLs returns the keys of a set or map of ACLs in the order of compareACLs.
func sortedACLs[V any](m map[aclBinding]V) []aclBinding {
	return slices.SortedFunc(maps.Keys(m), compareACLs)
}

// Kafka's names for the values of ACL fields (org.apache.kafka.common.acl and .resource). The index
// of a name is its value on the wire. A broker may know values that this klink does not; klink
// shows and stores those as numbers.
var (
	aclResourceNames   = []string{"UNKNOWN", "ANY", "TOPIC", "GROUP", "CLUSTER", "TRANSACTIONAL_ID", "DELEGATION_TOKEN", "USER"}
	aclPatternNames    = []string{"UNKNOWN", "ANY", "MATCH", "LITERAL", "PREFIXED"}
	aclPermissionNames = []string{"UNKNOWN", "ANY", "DENY", "ALLOW"}
	aclOperationNames  = []string{
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

// parseACLValue is the reverse of aclValueName.
func parseACLValue[V ~int8](names []string, name string) (V, error) {
	if i := slices.Index(names, name); i > 0 {
		return V(i), nil
	}
	n, err := strconv.ParseInt(name, 10, 8)
	if err != nil || aclValueName(names, V(n)) != name {
		return 0, fmt.Errorf("%.40q is not a valid ACL value", name)
	}
	return V(n), nil
}

// check returns an error if a is a filter, or incomplete, instead of one ACL. A request that
// deletes a filter could delete several ACLs.
func (a aclBinding) check() error {
	switch {
	case a.pattern != kmsg.ACLResourcePatternTypeLiteral && a.pattern != kmsg.ACLResourcePatternTypePrefixed,
		a.resourceType <= kmsg.ACLResourceTypeAny, a.operation <= kmsg.ACLOperationAny, a.permission <= kmsg.ACLPermissionTypeAny:
		return errors.New("is an ACL filter, not an ACL")
	case a.name == "" || a.principal == "" || a.host == "":
		return errors.New("is an ACL without a resource, a principal or a host")
	}
	return nil
}

// String describes the ACL for people, on one line.
func (a aclBinding) String() string {
	w := a.wire()
	return fmt.Sprintf("%s %s %s on %s %s %s from host %s", w.Principal, w.PermissionType, w.Operation, w.PatternType, w.ResourceType, w.ResourceName, w.Host)
}

func (a aclBinding) wire() linkapi.SyncedACL {
	return linkapi.SyncedACL{
		ResourceType: aclValueName(aclResourceNames, a.resourceType), ResourceName: a.name,
		PatternType: aclValueName(aclPatternNames, a.pattern), Principal: a.principal, Host: a.host,
		Operation: aclValueName(aclOperationNames, a.operation), PermissionType: aclValueName(aclPermissionNames, a.permission),
	}
}

// bucket returns the number, from 0 to of-1, of the record that remembers the ACL.
func (a aclBinding) bucket(of int32) int32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte{byte(a.resourceType), byte(a.pattern), byte(a.operation), byte(a.permission)})
	for _, s := range []string{a.name, a.principal, a.host} {
		_, _ = h.Write([]byte(s))
		_, _ = h.Write([]byte{0})
	}
	return int32(h.Sum32() % uint32(of))
}
