package users

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func parsed(t *testing.T, table *Table) *Table {
	t.Helper()
	text, err := json.Marshal(table)
	require.NoError(t, err)
	read, err := Parse(text)
	require.NoError(t, err)
	return read
}

// A user that does not exist looks like one that does: the same each time, other than its
// neighbour, hashed as often as somebody is, and nothing fits.
func TestUnknownUsersLookLikeOthers(t *testing.T) {
	table := New()
	require.NoError(t, table.Set("alice", "a", Mechanisms, 4096))
	require.NoError(t, table.Set("bob", "b", Mechanisms[1:], 16384))
	table = parsed(t, table)
	for _, mechanism := range Mechanisms {
		counts := map[int]bool{}
		for _, name := range strings.Fields("u v w x y z ab cd ef gh") {
			c, known := table.Lookup(name, mechanism)
			require.False(t, known)
			require.NoError(t, c.check(mechanism))
			require.Len(t, c.Salt, 32)
			again, _ := parsed(t, table).Lookup(name, mechanism)
			require.Equal(t, c, again)
			other, _ := table.Lookup(name+"1", mechanism)
			require.NotEqual(t, c.Salt, other.Salt)
			counts[c.Iterations] = true
			require.False(t, table.Check(name, ""))
		}
		want := map[int]bool{4096: true}
		if mechanism == "SCRAM-SHA-512" {
			want[16384] = true
		}
		require.Equal(t, want, counts)
	}
	_, known := table.Lookup("bob", "SCRAM-SHA-256")
	require.False(t, known, "bob has no password for this mechanism")
	require.True(t, table.Check("bob", "b"))
	require.False(t, table.Check("bob", "a"))
	require.False(t, New().Check("bob", "b"))
}

func TestParseRefuses(t *testing.T) {
	table := New()
	require.NoError(t, table.Set("alice", "a", Mechanisms, 4096))
	text, err := json.Marshal(table)
	require.NoError(t, err)
	for name, change := range map[string][2]string{
		"another field":  {`"users"`, `"x":1,"users"`},
		"few iterations": {`"iterations":4096`, `"iterations":4095`},
		"too many":       {`"iterations":4096`, `"iterations":1000000000`},
		"mechanism":      {`SCRAM-SHA-256`, `SCRAM-SHA-1`},
		"short key":      {`"stored_key":"`, `"stored_key":"","x":"`},
		"name":           {`"alice"`, `"a\nb"`},
		"empty name":     {`"alice"`, `""`},
		"end":            {`}}}}`, `}}}} {}`},
	} {
		changed := strings.Replace(string(text), change[0], change[1], 1)
		require.NotEqual(t, string(text), changed, name)
		_, err := Parse([]byte(changed))
		require.Error(t, err, name)
	}
	for _, text := range []string{"", "null", "[]", `{"secret":"AAAA"}`, `{"secret":"AAAAAAAAAAAAAAAAAAAAAAAAAAAA","users":{"a":{}}}`, `{"secret":"AAAAAAAAAAAAAAAAAAAAAAAAAAAA","users":{"a":{"SCRAM-SHA-256":null}}}`} {
		_, err := Parse([]byte(text))
		require.Error(t, err, text)
	}
}
