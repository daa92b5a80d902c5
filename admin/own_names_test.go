package admin

import (
	"sync"
	"testing"

	"klink/protocol/linkapi"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
)

// TestGroupsOfKlinkAreNotSynced: a source may have a klink of its own, or an owner who means harm.
// klink never syncs offsets of its own groups, whatever the filters say and whoever asks.
func TestGroupsOfKlinkAreNotSynced(t *testing.T) {
	w := offsetWorld(t)
	w.atSource("_klink_tasks", "orders", "", 20)
	w.atSource("app", "orders", "", 20)
	w.awaitOffset("app", "orders", 0, 20)
	w.service.offsetTask(t, "l")
	w.none("_klink_tasks")
	for _, force := range []bool{false, true} {
		r := w.migrate("_klink_tasks", func(r *linkapi.MigrateGroupsRequest) { r.Groups[0].Force = force })
		require.Equal(t, kerr.InvalidGroupID.Code, r.ErrorCode, text(r.ErrorMessage))
		require.Contains(t, text(r.ErrorMessage), "belongs to klink")
	}
	w.none("_klink_tasks")
}

// TestGroupKey: all instances of a destination have the same secret, whoever asks first, also after
// a restart.
func TestGroupKey(t *testing.T) {
	w := newWorld(t)
	second := w.start()
	var both sync.WaitGroup
	keys := make([][]byte, 2)
	for i, s := range []*Service{w.service, second} {
		both.Go(func() {
			var err error
			if keys[i], err = s.GroupKey(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	both.Wait()
	require.Len(t, keys[0], 32)
	require.Equal(t, keys[0], keys[1])
	third, err := w.start().GroupKey(t.Context())
	require.NoError(t, err)
	require.Equal(t, keys[0], third)
}

// unowned is a Reporter that says of every mirror that no instance copies it.
type unowned struct{ *fakeReplicator }

func (unowned) Unowned(topic string) string { return "nobody copies " + topic }

// TestUnownedMirrorsAreShown: a mirror that should be copied, but that no instance copies, is not
// shown as ACTIVE.
func TestUnownedMirrorsAreShown(t *testing.T) {
	w := newWorld(t)
	w.replicator()
	require.Zero(t, w.link("l").ErrorCode)
	w.plainMirror("orders", 1)
	w.plainMirror("paused", 1)
	require.Zero(t, w.alter("paused", linkapi.MirrorPause).ErrorCode)
	shown := func() map[string]string {
		states := map[string]string{}
		list := w.service.HandleLink(t.Context(), &linkapi.ListMirrorsRequest{}).(*linkapi.ListMirrorsResponse)
		for _, m := range list.Mirrors {
			states[m.Topic] = m.State + " " + m.Error
		}
		for _, m := range w.service.HandleLink(t.Context(), &linkapi.DescribeMirrorsRequest{}).(*linkapi.DescribeMirrorsResponse).Mirrors {
			states[m.Topic] += " " + m.State + " " + m.Error + " " + m.StateMessage
		}
		return states
	}
	require.Equal(t, map[string]string{"orders": "ACTIVE  ACTIVE  ", "paused": "PAUSED  PAUSED  "}, shown())
	w.service.SetReporter(unowned{w.reporter})
	require.Equal(t, map[string]string{"orders": "UNOWNED NO_INSTANCE UNOWNED NO_INSTANCE nobody copies orders", "paused": "PAUSED  PAUSED  "}, shown())
}
