package admin

import (
	"fmt"
	"strings"
	"testing"

	"klink/admin/aclsync"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// parseACL parses an ACL from "TYPE PATTERN NAME PRINCIPAL HOST OPERATION PERMISSION". Fields that
// are left out at the end have default values.
func parseACL(t testing.TB, text string) aclsync.Binding {
	t.Helper()
	words := strings.Fields(text)
	defaults := []string{"TOPIC", "LITERAL", "orders", "User:alice", "*", "READ", "ALLOW"}
	words = append(words, defaults[len(words):]...)
	a := aclsync.Binding{Name: words[2], Principal: words[3], Host: words[4]}
	var errs [4]error
	a.ResourceType, errs[0] = aclsync.ParseValue[kmsg.ACLResourceType](aclsync.ResourceNames, words[0])
	a.Pattern, errs[1] = aclsync.ParseValue[kmsg.ACLResourcePatternType](aclsync.PatternNames, words[1])
	a.Operation, errs[2] = aclsync.ParseValue[kmsg.ACLOperation](aclsync.OperationNames, words[5])
	a.Permission, errs[3] = aclsync.ParseValue[kmsg.ACLPermissionType](aclsync.PermissionNames, words[6])
	require.Equal(t, [4]error{}, errs)
	require.NoError(t, a.Check())
	return a
}

// aclFiltersOf is the value of acl.filters with one filter.
func aclFiltersOf(resource, access string) string {
	return `{"aclFilters":[{"resourceFilter":{` + resource + `},"accessFilter":{` + access + `}}]}`
}

// numberedACL returns an ACL that differs for each i.
func numberedACL(i int) aclsync.Binding {
	return aclsync.Binding{ResourceType: 2, Pattern: 3, Name: fmt.Sprint("t", i), Principal: "User:a", Host: "*", Operation: 3, Permission: 3}
}
