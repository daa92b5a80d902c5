package store

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestGroupRecords: a record that is no key of the group is refused.
func TestGroupRecords(t *testing.T) {
	for _, bad := range []string{`{"version":1,"key":"AAAA"}`, `{"version":1}`, `{"key":"AAAA"}`, `{"version":2}`, `[]`} {
		_, err := decodeGroup([]byte(bad))
		require.Error(t, err, bad)
	}
}
