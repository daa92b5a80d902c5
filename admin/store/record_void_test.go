package store

import (
	"testing"

	"klink/admin/model"

	"github.com/stretchr/testify/require"
)

// TestNoteVoid: the finds in one partition are combined, and a find that is known already changes
// nothing.
func TestNoteVoid(t *testing.T) {
	r := &MirrorRecord{Partitions: 3}
	note := func(v model.VoidBatches, changes bool, want ...model.VoidBatches) {
		t.Helper()
		require.Equal(t, changes, r.NoteVoid(v))
		require.Equal(t, want, r.Void)
		require.NoError(t, r.checkVoid())
	}
	first := model.VoidBatches{Partition: 1, From: 10, To: 12, Offsets: 2, Foreign: 1, Safe: true}
	note(first, true, first)
	note(first, false, first)
	second := model.VoidBatches{Partition: 0, From: 5, To: 6, Offsets: 1}
	note(second, true, first, second)
	safe := second
	safe.Safe = true
	note(safe, true, first, safe)
	note(second, false, first, safe) // found anew: it is known to be safe
	more := model.VoidBatches{Partition: 1, From: 20, To: 23, Offsets: 3, Foreign: 3}
	all := model.VoidBatches{Partition: 1, From: 10, To: 23, Offsets: 5, Foreign: 4}
	note(more, true, all, safe)
	note(model.VoidBatches{Partition: 1, From: 15, To: 23, Offsets: 3, Foreign: 3}, false, all, safe) // in a walk that began later
	all.Safe = true
	note(all, true, all, safe)

	r = &MirrorRecord{}
	for p := range int32(maxVoidRecords) {
		require.True(t, r.NoteVoid(model.VoidBatches{Partition: p, To: 1, Offsets: 1}))
	}
	require.True(t, r.NoteVoid(model.VoidBatches{Partition: maxVoidRecords, To: 1, Offsets: 1}))
	require.False(t, r.NoteVoid(model.VoidBatches{Partition: maxVoidRecords + 1, To: 1, Offsets: 1}))
	require.Len(t, r.Void, maxVoidRecords)
	require.True(t, r.VoidElsewhere)
	encoded, err := r.Clone().encode()
	require.NoError(t, err)
	require.Less(t, len(encoded), maxRecordBytes)
	for _, hostile := range []model.VoidBatches{{Partition: -1}, {From: -1}, {From: 2, To: 1}} {
		require.Error(t, (&MirrorRecord{Void: []model.VoidBatches{hostile}}).checkVoid())
	}
}
