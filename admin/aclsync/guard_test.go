package aclsync

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestACLGuard checks which ACLs of a source klink does not copy, and which filter lets each of
// them through.
func TestACLGuard(t *testing.T) {
	g := Guard{Own: []string{"User:klink"}}
	every := filterText(``, ``)
	for _, c := range []struct {
		acl, filters string
		why          string // "" = it is copied
	}{
		{"TOPIC LITERAL orders User:alice * READ ALLOW", every, ""},
		{"TOPIC PREFIXED ord User:bob * ALL ALLOW", every, ""},
		{"TOPIC LITERAL orders User:bob * WRITE DENY", every, ""},
		{"TOPIC LITERAL * User:bob * WRITE DENY", every, ""},
		{"TOPIC LITERAL * User:carol * DESCRIBE ALLOW", every, ""},
		{"DELEGATION_TOKEN LITERAL t User:carol * DESCRIBE ALLOW", every, ""},

		{"CLUSTER LITERAL kafka-cluster User:mallory * ALTER ALLOW", every, "whole cluster"},
		{"CLUSTER LITERAL kafka-cluster User:mallory * ALL ALLOW", every, "whole cluster"},
		{"CLUSTER LITERAL kafka-cluster User:mallory * IDEMPOTENT_WRITE ALLOW", filterText(`"name":"kafka-cluster"`, `"principal":"User:mallory"`), "whole cluster"},
		{"CLUSTER LITERAL kafka-cluster User:mallory * ALTER DENY", every, "whole cluster"},
		{"CLUSTER LITERAL kafka-cluster User:app * IDEMPOTENT_WRITE ALLOW", filterText(`"resourceType":"cluster"`, `"operation":"IDEMPOTENT_WRITE"`), ""},
		{"USER LITERAL User:admin User:mallory * CREATE_TOKENS ALLOW", every, "tokens"},
		{"USER LITERAL User:admin User:mallory * CREATE_TOKENS ALLOW", filterText(`"resourceType":"user"`, ``), ""},

		{"TOPIC LITERAL orders User:klink * WRITE DENY", every, "own principal"},
		{"TOPIC LITERAL orders User:klink * WRITE ALLOW", filterText(`"resourceType":"topic","name":"orders"`, `"principal":"User:klink"`), "own principal"},
		{"TOPIC LITERAL orders User:klinker * WRITE DENY", every, ""},

		{"TOPIC LITERAL orders User:* * WRITE DENY", every, "everybody"},
		{"GROUP LITERAL * User:* 10.0.0.1 READ DENY", every, "everybody"},
		{"TOPIC LITERAL orders User:* * WRITE DENY", filterText(``, `"permissionType":"deny","principal":"User:*"`), ""},
		{"TOPIC LITERAL orders User:* * WRITE DENY", filterText(``, `"permissionType":"deny"`), "everybody"},
		{"TOPIC LITERAL orders User:* * READ ALLOW", every, ""},

		{"TOPIC LITERAL _klink_state User:mallory * WRITE ALLOW", filterText(`"name":"_klink_state"`, ``), "klink's own topics, groups or transactional ids"},
		{"TOPIC LITERAL _klink_state User:mallory * DESCRIBE ALLOW", every, "klink's own topics, groups or transactional ids"},
		{"GROUP PREFIXED _klink_ User:mallory * READ ALLOW", every, "klink's own topics, groups or transactional ids"},
		{"TRANSACTIONAL_ID PREFIXED _klink_s User:mallory * WRITE ALLOW", every, "klink's own topics, groups or transactional ids"},
		{"TOPIC PREFIXED _ User:mallory * WRITE ALLOW", every, "cover klink's own names"},
		{"TOPIC PREFIXED _klink User:mallory * ALTER_CONFIGS ALLOW", every, "cover klink's own names"},
		{"TOPIC LITERAL * User:mallory * ALL ALLOW", every, "cover klink's own names"},
		{"TOPIC LITERAL * User:mallory * READ ALLOW", every, "cover klink's own names"},
		{"GROUP LITERAL * User:mallory * READ ALLOW", filterText(`"resourceType":"group","patternType":"match","name":"g"`, ``), "cover klink's own names"},
		{"TRANSACTIONAL_ID LITERAL * User:mallory * WRITE ALLOW", every, "cover klink's own names"},
		{"TOPIC LITERAL * User:carol * READ ALLOW", filterText(`"resourceType":"topic","name":"*"`, `"operation":"READ"`), ""},
		{"TOPIC LITERAL _klinik User:carol * READ ALLOW", every, ""},
	} {
		filters, err := ParseFilters(c.filters)
		require.NoError(t, err)
		a := acl(t, c.acl)
		require.True(t, filters[0].Matches(a), "%s is not matched by %s", c.acl, c.filters)
		wanted, out := g.Split(Set{a: {}}, filters)
		if c.why == "" {
			require.Contains(t, wanted, a, "%s: %s", c.acl, out[a])
			continue
		}
		require.Empty(t, wanted, c.acl)
		require.Contains(t, out[a], c.why, c.acl)
	}
}
