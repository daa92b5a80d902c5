package admin

import (
	"slices"
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

// parseACLFilters reads the value of acl.filters. An empty one has no filters.
//
// Each filter must have the objects resourceFilter and accessFilter. A field that is left out of
// them matches anything. So an empty object matches every resource, or every access.
func parseACLFilters(text string) (filters []aclFilter, err error) {
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	r, err := newFilterReader(text)
	if err != nil {
		return nil, err
	}
	err = r.object("the value", []string{aclFiltersField}, func(string) error {
		return r.array("the value of "+aclFiltersField, func() error {
			f, err := readACLFilter(r)
			filters = append(filters, f)
			return err
		})
	})
	if err == nil {
		err = r.end()
	}
	if err != nil {
		return nil, err
	}
	return filters, nil
}

func readACLFilter(r *filterReader) (aclFilter, error) {
	f := anyACL
	err := r.object("a filter", []string{"resourceFilter", "accessFilter"}, func(part string) error {
		if part == "resourceFilter" {
			return r.objectWith("a resourceFilter", nil, []string{"resourceType", "patternType", "name"}, func(field string) (err error) {
				switch field {
				case "resourceType":
					f.resourceType, err = readACLValue[kmsg.ACLResourceType](r, field, aclResourceNames)
				case "patternType":
					f.pattern, err = readACLValue[kmsg.ACLResourcePatternType](r, field, aclPatternNames)
				case "name":
					f.name, _, err = readACLText(r, field)
				}
				return err
			})
		}
		return r.objectWith("an accessFilter", nil, []string{"operation", "permissionType", "principal", "host"}, func(field string) (err error) {
			switch field {
			case "operation":
				f.operation, err = readACLValue[kmsg.ACLOperation](r, field, aclOperationNames)
			case "permissionType":
				f.permission, err = readACLValue[kmsg.ACLPermissionType](r, field, aclPermissionNames)
			case "principal":
				var at int
				f.principal, at, err = readACLText(r, field)
				if err == nil && !strings.Contains(*f.principal, ":") {
					// No ACL has such a principal, so the filter would match nothing.
					err = r.errorAt(at, "principal %s has no type: write %s", clipped(*f.principal), clipped("User:"+*f.principal))
				}
			case "host":
				f.host, _, err = readACLText(r, field)
			}
			return err
		})
	})
	return f, err
}

// readACLValue reads one of Kafka's names, in upper or lower case, with or without its underscores.
func readACLValue[V ~int8](r *filterReader, field string, names []string) (V, error) {
	text, at, err := r.str(field)
	if err != nil {
		return 0, err
	}
	plain := func(name string) string { return strings.ToUpper(strings.ReplaceAll(name, "_", "")) }
	i := slices.IndexFunc(names, func(name string) bool { return plain(name) == plain(text) })
	if i < 1 { // the first is UNKNOWN
		return 0, r.errorAt(at, "%s %s is not allowed; allowed: %s", field, clipped(text), strings.Join(names[1:], ", "))
	}
	return V(i), nil
}

// readACLText reads a text that a field of an ACL has to equal.
func readACLText(r *filterReader, field string) (*string, int, error) {
	text, at, err := r.str(field)
	if err == nil && text == "" {
		err = r.errorAt(at, "%s is empty: omit it to match any", field)
	}
	return &text, at, err
}

// matches follows org.apache.kafka.common.resource.ResourcePatternFilter and
// org.apache.kafka.common.acl.AccessControlEntryFilter. The guard in acl_guard.go decides which
// ACLs that a filter matches are not copied.
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

// matchesPattern reports whether the filter matches the resource pattern of a. MATCH finds every
// pattern that applies to a resource with the filter's name. ANY and the other pattern types find
// patterns with exactly that name.
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
