package aclsync

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// acl parses an ACL from "TYPE PATTERN NAME PRINCIPAL HOST OPERATION PERMISSION". Fields that are
// left out at the end have default values.
func acl(t testing.TB, text string) Binding {
	t.Helper()
	words := strings.Fields(text)
	defaults := []string{"TOPIC", "LITERAL", "orders", "User:alice", "*", "READ", "ALLOW"}
	words = append(words, defaults[len(words):]...)
	a := Binding{Name: words[2], Principal: words[3], Host: words[4]}
	var errs [4]error
	a.ResourceType, errs[0] = ParseValue[kmsg.ACLResourceType](ResourceNames, words[0])
	a.Pattern, errs[1] = ParseValue[kmsg.ACLResourcePatternType](PatternNames, words[1])
	a.Operation, errs[2] = ParseValue[kmsg.ACLOperation](OperationNames, words[5])
	a.Permission, errs[3] = ParseValue[kmsg.ACLPermissionType](PermissionNames, words[6])
	require.Equal(t, [4]error{}, errs)
	require.NoError(t, a.Check())
	return a
}

// filterText is the value of acl.filters with one filter.
func filterText(resource, access string) string {
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
		filters, err := ParseFilters(filterText(c.resource, c.access))
		require.NoError(t, err)
		require.Len(t, filters, 1)
		for _, a := range c.yes {
			require.True(t, filters[0].Matches(acl(t, a)), "%s %s: %s", c.resource, c.access, a)
		}
		for _, a := range c.not {
			require.False(t, filters[0].Matches(acl(t, a)), "%s %s: %s", c.resource, c.access, a)
		}
	}
}

func TestACLFilterTextRefused(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{``, ""},
		{`{"aclFilters":[]}`, ""},
		{filterText(``, ``), ""},
		{`{"aclFilters":[{"accessFilter":{},"resourceFilter":{}}]}`, ""},
		{`{}`, `line 1, column 1: the value must have the field "aclFilters"`},
		{`{"aclFilters":[{}]}`, `line 1, column 16: a filter must have the field "resourceFilter"`},
		{`{"aclFilters":[{"resourceFilter":{}}]}`, `line 1, column 16: a filter must have the field "accessFilter"`},
		{`{"aclFilters":[{"resourceFilter":{},"accessFilter":{},"x":1}]}`, `line 1, column 55: a filter has no field "x"; allowed: resourceFilter, accessFilter`},
		{filterText(`"type":"topic"`, ``), `line 1, column 35: a resourceFilter has no field "type"; allowed: resourceType, patternType, name`},
		{filterText(`"resourceType":"queue"`, ``), `line 1, column 50: resourceType "queue" is not allowed; allowed: ANY, TOPIC, GROUP,`},
		{filterText(`"resourceType":"unknown"`, ``), `resourceType "unknown" is not allowed`},
		{filterText(`"resourceType":""`, ``), `resourceType "" is not allowed`},
		{filterText(`"patternType":"suffixed"`, ``), `patternType "suffixed" is not allowed; allowed: ANY, MATCH, LITERAL, PREFIXED`},
		{filterText(`"name":""`, ``), `line 1, column 42: name is empty: omit it to match any`},
		{filterText(`"name":null`, ``), `line 1, column 42: name must be a string`},
		{filterText(``, `"operation":"fly"`), `operation "fly" is not allowed; allowed: ANY, ALL, READ,`},
		{filterText(``, `"permissionType":"maybe"`), `permissionType "maybe" is not allowed; allowed: ANY, DENY, ALLOW`},
		{filterText(``, `"principal":"alice"`), `line 1, column 65: principal "alice" has no type: write "User:alice"`},
		{filterText(``, `"host":"a","host":"b"`), `duplicate field "host"`},
		{"{\"aclFilters\":[\n {\"resourceFilter\":{},\n  \"accessFilter\":{\"hosts\":\"x\"}}]}", `line 3, column 19: an accessFilter has no field "hosts"`},
		{filterText(``, ``) + "x", "unexpected text after the end"},
	} {
		f, err := ParseFilters(c.text)
		if c.want == "" {
			require.NoError(t, err, c.text)
			require.Equal(t, len(f) > 0, AnyFilter(c.text), c.text)
			continue
		}
		require.ErrorContains(t, err, c.want, c.text)
		require.Nil(t, f)
	}
}

// FuzzACLFilters: reading any text ends. What can be read is either nothing or filters that match
// something.
func FuzzACLFilters(f *testing.F) {
	f.Add(filterText(`"resourceType":"topic","patternType":"match","name":"a"`, `"operation":"read","permissionType":"allow","principal":"User:a","host":"*"`))
	f.Add(filterText(``, ``))
	f.Add(`{"aclFilters":[]}`)
	f.Add(`{"aclFilters":[{"resourceFilter":{"resourceType":"_t_o_p_i_c"},"accessFilter":{}}`)
	f.Fuzz(func(t *testing.T, text string) {
		filters, err := ParseFilters(text)
		if err != nil {
			return
		}
		if (len(filters) > 0) != AnyFilter(text) {
			t.Fatalf("%d filters in %q", len(filters), text)
		}
		for _, f := range filters {
			// Make the ACL that the filter spells out, with a fixed value for each field that it
			// leaves open.
			a := Binding{ResourceType: 2, Pattern: 3, Name: "n", Principal: "User:p", Host: "h", Operation: 3, Permission: 3}
			if f.resourceType != kmsg.ACLResourceTypeAny {
				a.ResourceType = f.resourceType
			}
			if f.pattern == kmsg.ACLResourcePatternTypePrefixed {
				a.Pattern = f.pattern
			}
			if f.operation != kmsg.ACLOperationAny {
				a.Operation = f.operation
			}
			if f.permission != kmsg.ACLPermissionTypeAny {
				a.Permission = f.permission
			}
			for to, from := range map[*string]*string{&a.Name: f.name, &a.Principal: f.principal, &a.Host: f.host} {
				if from != nil {
					*to = *from
				}
			}
			if err := a.Check(); err != nil || !f.Matches(a) {
				t.Fatalf("%q does not match %s (%v)", text, a, err)
			}
		}
	})
}
