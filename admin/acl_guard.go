package admin

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

// aclGuard decides which ACLs of a source are never copied.
type aclGuard struct {
	own []string // klink's own principals at the destination
}

// leftOut returns why an ACL that the filters match is not copied, or "" if it is copied.
func (g aclGuard) leftOut(a aclBinding, filters []aclFilter) string {
	named := func(by func(f *aclFilter) bool) bool {
		return slices.ContainsFunc(filters, func(f aclFilter) bool { return f.matches(a) && by(&f) })
	}
	everybody := strings.HasSuffix(a.principal, ":*")
	switch {
	case slices.Contains(g.own, a.principal):
		return "they apply to klink's own principal at the destination"
	case a.ofKlink():
		return "they apply to klink's own topics, groups or transactional ids"
	case a.resourceType == kmsg.ACLResourceTypeCluster && !named(func(f *aclFilter) bool { return f.resourceType == a.resourceType }):
		return `they apply to the whole cluster, and no filter names "resourceType": "CLUSTER"`
	case a.resourceType == kmsg.ACLResourceTypeUser && !named(func(f *aclFilter) bool { return f.resourceType == a.resourceType }):
		return `they let one user create tokens for another, and no filter names "resourceType": "USER"`
	case a.permission == kmsg.ACLPermissionTypeDeny && everybody && !named(func(f *aclFilter) bool {
		return f.permission == a.permission && f.principal != nil
	}):
		return fmt.Sprintf(`they deny everybody, including klink, and no filter names "permissionType": "DENY" and "principal": %q`, a.principal)
	case a.permission != kmsg.ACLPermissionTypeDeny && a.coversKlink() && !named(func(f *aclFilter) bool { return f.name != nil && *f.name == a.name }):
		return fmt.Sprintf(`they also cover klink's own names, and no filter names "name": %q`, a.name)
	}
	return ""
}

// named reports whether a is for topics, groups or transactional ids. klink has some of each, and
// they are recognised by name.
func (a aclBinding) named() bool {
	switch a.resourceType {
	case kmsg.ACLResourceTypeTopic, kmsg.ACLResourceTypeGroup, kmsg.ACLResourceTypeTransactionalId:
		return true
	}
	return false
}

// ofKlink reports whether a covers resources of klink and nothing else.
func (a aclBinding) ofKlink() bool { return a.named() && strings.HasPrefix(a.name, internalNames) }

// coversKlink reports whether a covers resources of klink besides others, and allows or denies more
// than DESCRIBE or DESCRIBE_CONFIGS.
func (a aclBinding) coversKlink() bool {
	if !a.named() || a.operation == kmsg.ACLOperationDescribe || a.operation == kmsg.ACLOperationDescribeConfigs {
		return false
	}
	return a.pattern == kmsg.ACLResourcePatternTypePrefixed && strings.HasPrefix(internalNames, a.name) || a.name == "*"
}

// split returns the ACLs of the source to sync, and for each of the others the reason why it is
// left out.
func (g aclGuard) split(acls aclSet, filters []aclFilter) (wanted aclSet, out map[aclBinding]string) {
	wanted, out = aclSet{}, map[aclBinding]string{}
	for a := range acls {
		if reason := g.leftOut(a, filters); reason != "" {
			out[a] = reason
			continue
		}
		wanted.add(a)
	}
	return wanted, out
}

// leftOutNotes returns the notes for the task's status, one for each reason.
func leftOutNotes(out map[aclBinding]string) (notes []TaskError) {
	of := map[string][]aclBinding{}
	var reasons []string
	for _, a := range sortedACLs(out) {
		if of[out[a]] == nil {
			reasons = append(reasons, out[a])
		}
		of[out[a]] = append(of[out[a]], a)
	}
	for _, reason := range reasons {
		acls := of[reason]
		text := fmt.Sprintf("not copied: %s", acls[0])
		if more := len(acls) - 1; more > 0 {
			text += fmt.Sprintf(" and %d more ACLs", more)
		}
		notes = append(notes, TaskError{ErrLeftOut, text + ": " + reason})
	}
	return notes
}
