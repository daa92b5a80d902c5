package store

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestInstanceRecords: klink refuses a record of an instance that no klink writes, but accepts new
// fields.
func TestInstanceRecords(t *testing.T) {
	for value, good := range map[string]bool{
		`{"version":1,"name":"a","lease_ms":10000,"seen":5}`:             true,
		`{"version":1,"name":"a","lease_ms":600000,"seen":5,"new":[{}]}`: true,
		`{"version":1,"lease_ms":600001}`:                                false,
		`{"version":1,"lease_ms":9223372036854775807}`:                   false,
		`{"version":1,"lease_ms":-1}`:                                    false,
		`{"version":1,"session_ms":-1}`:                                  false,
		`{"version":1,"seen":-1}`:                                        false,
		`{"version":2}`:                                                  false,
		`[]`:                                                             false,
		``:                                                               false,
	} {
		r, err := decodeInstance([]byte(value))
		require.Equal(t, good, err == nil, "%s: %v", value, err)
		if good {
			text, err := r.encode()
			require.NoError(t, err)
			again, err := decodeInstance(text)
			require.NoError(t, err)
			require.Equal(t, r, again)
		}
	}
}
