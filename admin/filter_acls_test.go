package admin

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// acl parses an ACL from "TYPE PATTERN NAME PRINCIPAL HOST OPERATION PERMISSION". Fields that are
// left out at the end have default values.
func acl(t testing.TB, text string) aclBinding {
	t.Helper()
	words := strings.Fields(text)
	defaults := []string{"TOPIC", "LITERAL", "orders", "User:alice", "*", "READ", "ALLOW"}
	words = append(words, defaults[len(words):]...)
	a := aclBinding{name: words[2], principal: words[3], host: words[4]}
	var errs [4]error
	a.resourceType, errs[0] = parseACLValue[kmsg.ACLResourceType](aclResourceNames, words[0])
	a.pattern, errs[1] = parseACLValue[kmsg.ACLResourcePatternType](aclPatternNames, words[1])
	a.operation, errs[2] = parseACLValue[kmsg.ACLOperation](aclOperationNames, words[5])
	a.permission, errs[3] = parseACLValue[kmsg.ACLPermissionType](aclPermissionNames, words[6])
	require.Equal(t, [4]error{}, errs)
	require.NoError(t, a.check())
	return a
}

// aclFilterText is the value of acl.filters with one filter.
func aclFilterText(resource, access string) string {
	return `{"aclFilters":[{"resourceFilter":{` + resource + `},"accessFilter":{` + access + `}}]}`
}

// TestACLFiltersMatch: the rows on patterns are those of Kafka's ResourcePatternFilterTest.
func TestACLFiltersMatch(t *testing.T) {
	for _, c := range []struct {
		resource, access string
		yes, not         []string
	}{
		{``, ``, []string{"TOPIC", "CLUSTER LITERAL kafka-cluster", "GROUP PREFIXED a User:b 10.0.0.1 ALL DENY", "USER LITERAL User:x"}, nil},
		{`"resourceType":"topic"`, ``, []string{"TOPIC", "TOPIC PREFIXED x"}, []string{"GROUP"}},
		// Filters match whatever a source grants on klink's own names; the guard is tested
		// elsewhere.
		{`"resourceType":"transactionalId"`, ``, []string{"TRANSACTIONAL_ID"}, []string{"TOPIC"}},
		{`"resourceType":"TRANSACTIONAL_ID"`, ``, []string{"TRANSACTIONAL_ID"}, []string{"TOPIC"}},
		{`"patternType":"literal"`, ``, []string{"TOPIC LITERAL a"}, []string{"TOPIC PREFIXED a"}},
		{`"patternType":"prefixed"`, ``, []string{"TOPIC PREFIXED a"}, []string{"TOPIC LITERAL a"}},
		{`"patternType":"match"`, ``, []string{"TOPIC PREFIXED a", "TOPIC LITERAL a", "TOPIC LITERAL *"}, nil},

		{`"patternType":"any","name":"Name"`, ``, []string{"TOPIC LITERAL Name", "TOPIC PREFIXED Name"}, []string{"TOPIC LITERAL name", "TOPIC LITERAL *", "TOPIC PREFIXED Nam"}},
		{`"name":"Name"`, ``, []string{"TOPIC LITERAL Name", "TOPIC PREFIXED Name"}, []string{"TOPIC LITERAL *"}},
		{`"patternType":"literal","name":"Name"`, ``, []string{"TOPIC LITERAL Name"}, []string{"TOPIC PREFIXED Name", "TOPIC LITERAL *"}},
		{`"patternType":"prefixed","name":"Name"`, ``, []string{"TOPIC PREFIXED Name"}, []string{"TOPIC LITERAL Name", "TOPIC PREFIXED Nam"}},
		{`"patternType":"literal","name":"*"`, ``, []string{"TOPIC LITERAL *"}, []string{"TOPIC LITERAL Name", "TOPIC PREFIXED *"}},
		{`"patternType":"match","name":"Name"`, ``, []string{"TOPIC LITERAL Name", "TOPIC LITERAL *", "TOPIC PREFIXED Name", "TOPIC PREFIXED Nam"}, []string{"TOPIC LITERAL Nam", "TOPIC PREFIXED NameX", "TOPIC PREFIXED *"}},
		{`"patternType":"match","name":"*"`, ``, []string{"TOPIC LITERAL *", "TOPIC PREFIXED *"}, []string{"TOPIC LITERAL Name", "TOPIC PREFIXED Name"}},

		{``, `"operation":"read"`, []string{"TOPIC"}, []string{"TOPIC LITERAL a User:a * WRITE", "TOPIC LITERAL a User:a * ALL"}},
		{``, `"operation":"DescribeConfigs"`, []string{"TOPIC LITERAL a User:a * DESCRIBE_CONFIGS"}, []string{"TOPIC LITERAL a User:a * DESCRIBE"}},
		{``, `"operation":"two_phase_commit"`, []string{"TRANSACTIONAL_ID LITERAL a User:a * TWO_PHASE_COMMIT"}, []string{"TRANSACTIONAL_ID"}},
		{``, `"permissionType":"deny"`, []string{"TOPIC LITERAL a User:a * READ DENY"}, []string{"TOPIC"}},
		{``, `"permissionType":"ANY","operation":"ANY"`, []string{"TOPIC LITERAL a User:a * READ DENY", "TOPIC"}, nil},
		{``, `"principal":"User:alice"`, []string{"TOPIC"}, []string{"TOPIC LITERAL a User:*", "TOPIC LITERAL a User:bob"}},
		{``, `"principal":"User:*"`, []string{"TOPIC LITERAL a User:*"}, []string{"TOPIC"}},
		{``, `"host":"*"`, []string{"TOPIC"}, []string{"TOPIC LITERAL a User:a 10.0.0.1"}},
		{`"resourceType":"any","patternType":"any"`, `"host":"10.0.0.1"`, []string{"TOPIC LITERAL a User:a 10.0.0.1"}, []string{"TOPIC"}},
	} {
		filters, err := parseACLFilters(aclFilterText(c.resource, c.access))
		require.NoError(t, err)
		require.Len(t, filters, 1)
		for _, a := range c.yes {
			require.True(t, filters[0].matches(acl(t, a)), "%s %s: %s", c.resource, c.access, a)
		}
		for _, a := range c.not {
			require.False(t, filters[0].matches(acl(t, a)), "%s %s: %s", c.resource, c.access, a)
		}
	}
}

func TestACLFilterTextRefused(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{``, ""},
		{`{"aclFilters":[]}`, ""},
		{aclFilterText(``, ``), ""},
		{`{"aclFilters":[{"accessFilter":{},"resourceFilter":{}}]}`, ""},
		{`{}`, `line 1, column 1: the value must have the field "aclFilters"`},
		{`{"aclFilters":[{}]}`, `line 1, column 16: a filter must have the field "resourceFilter"`},
		{`{"aclFilters":[{"resourceFilter":{}}]}`, `line 1, column 16: a filter must have the field "accessFilter"`},
		{`{"aclFilters":[{"resourceFilter":{},"accessFilter":{},"x":1}]}`, `line 1, column 55: a filter has no field "x"; allowed: resourceFilter, accessFilter`},
		{aclFilterText(`"type":"topic"`, ``), `line 1, column 35: a resourceFilter has no field "type"; allowed: resourceType, patternType, name`},
		{aclFilterText(`"resourceType":"queue"`, ``), `line 1, column 50: resourceType "queue" is not allowed; allowed: ANY, TOPIC, GROUP,`},
		{aclFilterText(`"resourceType":"unknown"`, ``), `resourceType "unknown" is not allowed`},
		{aclFilterText(`"resourceType":""`, ``), `resourceType "" is not allowed`},
		{aclFilterText(`"patternType":"suffixed"`, ``), `patternType "suffixed" is not allowed; allowed: ANY, MATCH, LITERAL, PREFIXED`},
		{aclFilterText(`"name":""`, ``), `line 1, column 42: name is empty: omit it to match any`},
		{aclFilterText(`"name":null`, ``), `line 1, column 42: name must be a string`},
		{aclFilterText(``, `"operation":"fly"`), `operation "fly" is not allowed; allowed: ANY, ALL, READ,`},
		{aclFilterText(``, `"permissionType":"maybe"`), `permissionType "maybe" is not allowed; allowed: ANY, DENY, ALLOW`},
		{aclFilterText(``, `"principal":"alice"`), `line 1, column 65: principal "alice" has no type: write "User:alice"`},
		{aclFilterText(``, `"host":"a","host":"b"`), `duplicate field "host"`},
		{"{\"aclFilters\":[\n {\"resourceFilter\":{},\n  \"accessFilter\":{\"hosts\":\"x\"}}]}", `line 3, column 19: an accessFilter has no field "hosts"`},
		{aclFilterText(``, ``) + "x", "unexpected text after the end"},
	} {
		f, err := parseACLFilters(c.text)
		if c.want == "" {
			require.NoError(t, err, c.text)
			require.Equal(t, len(f) > 0, hasACLFilters(map[string]string{ConfigACLFilters: c.text}), c.text)
			continue
		}
		require.ErrorContains(t, err, c.want, c.text)
		require.Nil(t, f)
	}
}

// FuzzACLFilters: reading any text ends. What can be read is either nothing or filters that match
// something.
func FuzzACLFilters(f *testing.F) {
	f.Add(aclFilterText(`"resourceType":"topic","patternType":"match","name":"a"`, `"operation":"read","permissionType":"allow","principal":"User:a","host":"*"`))
	f.Add(aclFilterText(``, ``))
	f.Add(`{"aclFilters":[]}`)
	f.Add(`{"aclFilters":[{"resourceFilter":{"resourceType":"_t_o_p_i_c"},"accessFilter":{}}`)
	f.Fuzz(func(t *testing.T, text string) {
		filters, err := parseACLFilters(text)
		if err != nil {
			return
		}
		if (len(filters) > 0) != hasACLFilters(map[string]string{ConfigACLFilters: text}) {
			t.Fatalf("%d filters in %q", len(filters), text)
		}
		for _, f := range filters {
			// Make the ACL that the filter spells out, with a fixed value for each field that it
			// leaves open.
			a := aclBinding{resourceType: 2, pattern: 3, name: "n", principal: "User:p", host: "h", operation: 3, permission: 3}
			if f.resourceType != kmsg.ACLResourceTypeAny {
				a.resourceType = f.resourceType
			}
			if f.pattern == kmsg.ACLResourcePatternTypePrefixed {
				a.pattern = f.pattern
			}
			if f.operation != kmsg.ACLOperationAny {
				a.operation = f.operation
			}
			if f.permission != kmsg.ACLPermissionTypeAny {
				a.permission = f.permission
			}
			for to, from := range map[*string]*string{&a.name: f.name, &a.principal: f.principal, &a.host: f.host} {
				if from != nil {
					*to = *from
				}
			}
			if err := a.check(); err != nil || !f.matches(a) {
				t.Fatalf("%q does not match %s (%v)", text, a, err)
			}
		}
	})
}
