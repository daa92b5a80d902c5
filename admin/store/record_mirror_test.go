package store

import (
	"testing"

	"klink/admin/model"

	"github.com/stretchr/testify/require"
)

// TestPromotionAndOlderKlink: a klink that does not know promotions goes on mirroring. If it
// changes the mirror's state, the promotion ends or waits.
func TestPromotionAndOlderKlink(t *testing.T) {
	for value, promoting := range map[string]bool{
		`"state":"ACTIVE","promotion":{"id":"p","deadline_ms":5}`:                          true,
		`"state":"SOURCE_UNAVAILABLE","promotion":{"id":"p","deadline_ms":5}`:              true,
		`"state":"PAUSED","promotion":{"id":"p","deadline_ms":5}`:                          false,
		`"state":"PENDING_STOPPED","promotion":{"id":"p","deadline_ms":5}`:                 false,
		`"state":"STOPPED","promotion":{"id":"p","deadline_ms":5}`:                         false,
		`"state":"FAILED","promotion":{"id":"p","deadline_ms":5}`:                          false,
		`"state":"ACTIVE","promotion":{"id":"p","deadline_ms":5,"ready":true}`:             false,
		`"state":"ACTIVE","promotion":null`:                                                false,
		`"state":"ACTIVE"`:                                                                 false,
		`"state":"PENDING_STOPPED","promotion":{"id":"p","deadline_ms":5,"ready":true}`:    false,
		`"state":"PENDING_MIRROR","promotion":{"id":"p","deadline_ms":5,"future":"field"}`: true,
	} {
		m, err := decodeMirror([]byte(`{"version":1,"stamp":3,` + value + `}`))
		require.NoError(t, err, value)
		require.Equal(t, promoting, m.View("t").Promotion != "", value)
		require.Equal(t, promoting, m.View("t").Shown() == model.MirrorPendingStopped && m.State != model.MirrorPendingStopped, value)
	}
	for _, value := range []string{`"promotion":{}`, `"promotion":{"id":7}`, `"promotion":"p"`} {
		_, err := decodeMirror([]byte(`{"version":1,"stamp":3,"state":"ACTIVE",` + value + `}`))
		require.Error(t, err, value)
		require.NotErrorIs(t, err, errStampFormat)
	}
}
