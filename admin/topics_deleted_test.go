package admin

import (
	"testing"

	"klink/router"

	"github.com/stretchr/testify/require"
)

// deletedNow names the topics' current mirrors.
func deletedNow(s *Service, topics ...string) (mirrors []router.DeletedMirror) {
	for _, topic := range topics {
		d := router.DeletedMirror{Topic: topic}
		if m := s.State().Mirrors[topic]; m != nil {
			d.ID = m.ID
		}
		mirrors = append(mirrors, d)
	}
	return mirrors
}

// TestDeletionSparesTheNextMirror: two clients delete a mirror's topic at the same time, and a
// third one creates a mirror of that name in between. The second deletion does not end the new
// mirror.
func TestDeletionSparesTheNextMirror(t *testing.T) {
	w := newWorld(t)
	w.sourceTopic("orders", 1, nil)
	require.Zero(t, w.link("l").ErrorCode)
	require.Zero(t, w.mirror("orders", "l").ErrorCode)
	first := deletedNow(w.service, "orders")
	require.Equal(t, first[0].ID, w.snapshot().Mirrors["orders"].ID)

	_, err := w.destAdmin.DeleteTopics(t.Context(), "orders")
	require.NoError(t, err)
	require.NoError(t, w.service.TopicsDeleted(t.Context(), first))
	require.Nil(t, w.service.State().Mirrors["orders"])
	require.Zero(t, w.mirror("orders", "l").ErrorCode)

	require.NoError(t, w.service.TopicsDeleted(t.Context(), first)) // the other client's deletion
	m := w.service.State().Mirrors["orders"]
	require.NotNil(t, m, "the mirror that was created meanwhile is gone, and its topic writable")
	require.True(t, w.snapshot().Mirrors["orders"].ReadOnly)
	require.NoError(t, w.service.TopicsDeleted(t.Context(), deletedNow(w.service, "orders")))
	require.Nil(t, w.service.State().Mirrors["orders"])
}
