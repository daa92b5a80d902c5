package aclsync

import (
	"slices"
	"strings"

	"klink/admin/filter"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Filter matches ACLs as Kafka's AclBindingFilter does.
type Filter struct {
	resourceType kmsg.ACLResourceType
	pattern      kmsg.ACLResourcePatternType
	name         *string // nil = any
	principal    *string
	host         *string
	operation    kmsg.ACLOperation
	permission   kmsg.ACLPermissionType
}

// Any matches every ACL.
var Any = Filter{
	resourceType: kmsg.ACLResourceTypeAny, pattern: kmsg.ACLResourcePatternTypeAny,
	operation: kmsg.ACLOperationAny, permission: kmsg.ACLPermissionTypeAny,
}

// ParseFilters reads the value of acl.filters. An empty one has no filters.
//
// Each filter must have the objects resourceFilter and accessFilter. A field that is left out of
// them matches anything. So an empty object matches every resource, or every access.
func ParseFilters(text string) ([]Filter, error) {
	return filter.Parse(text, filter.ACLField, readACLFilter)
}

func readACLFilter(r *filter.Reader) (Filter, error) {
	f := Any
	err := r.Object("a filter", []string{"resourceFilter", "accessFilter"}, func(part string) error {
		if part == "resourceFilter" {
			return r.ObjectWith("a resourceFilter", nil, []string{"resourceType", "patternType", "name"}, func(field string) (err error) {
				switch field {
				case "resourceType":
					f.resourceType, err = readACLValue[kmsg.ACLResourceType](r, field, ResourceNames)
				case "patternType":
					f.pattern, err = readACLValue[kmsg.ACLResourcePatternType](r, field, PatternNames)
				case "name":
					f.name, _, err = readACLText(r, field)
				}
				return err
			})
		}
		return r.ObjectWith("an accessFilter", nil, []string{"operation", "permissionType", "principal", "host"}, func(field string) (err error) {
			switch field {
			case "operation":
				f.operation, err = readACLValue[kmsg.ACLOperation](r, field, OperationNames)
			case "permissionType":
				f.permission, err = readACLValue[kmsg.ACLPermissionType](r, field, PermissionNames)
			case "principal":
				var at int
				f.principal, at, err = readACLText(r, field)
				if err == nil && !strings.Contains(*f.principal, ":") {
					// No ACL has such a principal, so the filter would match nothing.
					err = r.ErrorAt(at, "principal %s has no type: write %s", filter.Clipped(*f.principal), filter.Clipped("User:"+*f.principal))
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
func readACLValue[V ~int8](r *filter.Reader, field string, names []string) (V, error) {
	text, at, err := r.Str(field)
	if err != nil {
		return 0, err
	}
	plain := func(name string) string { return strings.ToUpper(strings.ReplaceAll(name, "_", "")) }
	i := slices.IndexFunc(names, func(name string) bool { return plain(name) == plain(text) })
	if i < 1 { // the first is UNKNOWN
		return 0, r.ErrorAt(at, "%s %s is not allowed; allowed: %s", field, filter.Clipped(text), strings.Join(names[1:], ", "))
	}
	return V(i), nil
}

// readACLText reads a text that a field of an ACL has to equal.
func readACLText(r *filter.Reader, field string) (*string, int, error) {
	text, at, err := r.Str(field)
	if err == nil && text == "" {
		err = r.ErrorAt(at, "%s is empty: omit it to match any", field)
	}
	return &text, at, err
}

// Matches follows org.apache.kafka.common.resource.ResourcePatternFilter and
// org.apache.kafka.common.acl.AccessControlEntryFilter. The guard in acl_guard.go decides which
// ACLs that a filter matches are not copied.
func (f *Filter) Matches(a Binding) bool {
	if f.resourceType != kmsg.ACLResourceTypeAny && f.resourceType != a.ResourceType ||
		f.principal != nil && *f.principal != a.Principal ||
		f.host != nil && *f.host != a.Host ||
		f.operation != kmsg.ACLOperationAny && f.operation != a.Operation ||
		f.permission != kmsg.ACLPermissionTypeAny && f.permission != a.Permission {
		return false
	}
	return f.matchesPattern(a)
}

// matchesPattern reports whether the filter matches the resource pattern of a. MATCH finds every
// pattern that applies to a resource with the filter's name. ANY and the other pattern types find
// patterns with exactly that name.
func (f *Filter) matchesPattern(a Binding) bool {
	switch {
	case f.pattern != kmsg.ACLResourcePatternTypeAny && f.pattern != kmsg.ACLResourcePatternTypeMatch && f.pattern != a.Pattern:
		return false
	case f.name == nil:
		return true
	case f.pattern != kmsg.ACLResourcePatternTypeMatch:
		return *f.name == a.Name
	case a.Pattern == kmsg.ACLResourcePatternTypePrefixed:
		return strings.HasPrefix(*f.name, a.Name)
	}
	return *f.name == a.Name || a.Name == "*"
}

// AnyFilter reports whether a value that parseACLFilters accepts has any filter. It is called
// very often, so it does not parse the JSON: an empty list has at most one object.
func AnyFilter(text string) bool { return strings.Count(text, "{") > 1 }
