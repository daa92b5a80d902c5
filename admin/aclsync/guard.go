package aclsync

import (
	"fmt"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// The administrators of the destination need not trust those of the source. Without this guard ACL
// sync would force them to: a source ACL that allows ALTER on the cluster, or that covers every
// topic, would also cover the destination's cluster and klink's own topics. A DENY could lock klink
// out. So ACL sync leaves such ACLs out, unless a filter of the link names them. Only the
// destination's administrators set filters.

// internalNames is the prefix of klink's own topics, groups and transactional ids.
const internalNames = "_klink_"

// Guard decides which ACLs of a source are never copied.
type Guard struct {
	Own []string // klink's own principals at the destination
}

// leftOut returns why an ACL that the filters match is not copied, or "" if it is copied.
func (g Guard) leftOut(a Binding, filters []Filter) string {
	named := func(by func(f *Filter) bool) bool {
		return slices.ContainsFunc(filters, func(f Filter) bool { return f.Matches(a) && by(&f) })
	}
	everybody := strings.HasSuffix(a.Principal, ":*")
	switch {
	case slices.Contains(g.Own, a.Principal):
		return "they apply to klink's own principal at the destination"
	case a.ofKlink():
		return "they apply to klink's own topics, groups or transactional ids"
	case a.ResourceType == kmsg.ACLResourceTypeCluster && !named(func(f *Filter) bool { return f.resourceType == a.ResourceType }):
		return `they apply to the whole cluster, and no filter names "resourceType": "CLUSTER"`
	case a.ResourceType == kmsg.ACLResourceTypeUser && !named(func(f *Filter) bool { return f.resourceType == a.ResourceType }):
		return `they let one user create tokens for another, and no filter names "resourceType": "USER"`
	case a.Permission == kmsg.ACLPermissionTypeDeny && everybody && !named(func(f *Filter) bool {
		return f.permission == a.Permission && f.principal != nil
	}):
		return fmt.Sprintf(`they deny everybody, including klink, and no filter names "permissionType": "DENY" and "principal": %q`, a.Principal)
	case a.Permission != kmsg.ACLPermissionTypeDeny && a.coversKlink() && !named(func(f *Filter) bool { return f.name != nil && *f.name == a.Name }):
		return fmt.Sprintf(`they also cover klink's own names, and no filter names "name": %q`, a.Name)
	}
	return ""
}

// named reports whether a is for topics, groups or transactional ids. klink has some of each, and
// they are recognised by name.
func (a Binding) named() bool {
	switch a.ResourceType {
	case kmsg.ACLResourceTypeTopic, kmsg.ACLResourceTypeGroup, kmsg.ACLResourceTypeTransactionalId:
		return true
	}
	return false
}

// ofKlink reports whether a covers resources of klink and nothing else.
func (a Binding) ofKlink() bool { return a.named() && strings.HasPrefix(a.Name, internalNames) }

// coversKlink reports whether a covers resources of klink besides others, and allows or denies more
// than DESCRIBE or DESCRIBE_CONFIGS.
func (a Binding) coversKlink() bool {
	if !a.named() || a.Operation == kmsg.ACLOperationDescribe || a.Operation == kmsg.ACLOperationDescribeConfigs {
		return false
	}
	return a.Pattern == kmsg.ACLResourcePatternTypePrefixed && strings.HasPrefix(internalNames, a.Name) || a.Name == "*"
}

// Split returns the ACLs of the source to sync, and for each of the others the reason why it is
// left out.
func (g Guard) Split(acls Set, filters []Filter) (wanted Set, out map[Binding]string) {
	wanted, out = Set{}, map[Binding]string{}
	for a := range acls {
		if reason := g.leftOut(a, filters); reason != "" {
			out[a] = reason
			continue
		}
		wanted.Add(a)
	}
	return wanted, out
}
