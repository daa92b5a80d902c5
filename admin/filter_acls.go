package admin

import (
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// aclFilter matches ACLs as Kafka's AclBindingFilter does.
type aclFilter struct {
	resourceType kmsg.ACLResourceType
	pattern      kmsg.ACLResourcePatternType
	name         *string // nil = any
	principal    *string
	host         *string
	operation    kmsg.ACLOperation
	permission   kmsg.ACLPermissionType
}

// anyACL matches every ACL.
var anyACL = aclFilter{
	resourceType: kmsg.ACLResourceTypeAny, pattern: kmsg.ACLResourcePatternTypeAny,
	operation: kmsg.ACLOperationAny, permission: kmsg.ACLPermissionTypeAny,
}

// matches follows org.apache.kafka.common.resource.ResourcePatternFilter and org.apache.kafka.common.acl.AccessControlEntryFilter.
func (f *aclFilter) matches(a aclBinding) bool {
	if f.resourceType != kmsg.ACLResourceTypeAny && f.resourceType != a.resourceType ||
		f.principal != nil && *f.principal != a.principal ||
		f.host != nil && *f.host != a.host ||
		f.operation != kmsg.ACLOperationAny && f.operation != a.operation ||
		f.permission != kmsg.ACLPermissionTypeAny && f.permission != a.permission {
		return false
	}
	return f.matchesPattern(a)
}

// matchesPattern: MATCH finds every pattern that would apply to a resource of the name; the other pattern types, and ANY, find
// patterns that have the very name.
func (f *aclFilter) matchesPattern(a aclBinding) bool {
	switch {
	case f.pattern != kmsg.ACLResourcePatternTypeAny && f.pattern != kmsg.ACLResourcePatternTypeMatch && f.pattern != a.pattern:
		return false
	case f.name == nil:
		return true
	case f.pattern != kmsg.ACLResourcePatternTypeMatch:
		return *f.name == a.name
	case a.pattern == kmsg.ACLResourcePatternTypePrefixed:
		return strings.HasPrefix(*f.name, a.name)
	}
	return *f.name == a.name || a.name == "*"
}
