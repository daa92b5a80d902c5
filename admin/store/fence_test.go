package store

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"klink/admin/model"

	"github.com/stretchr/testify/require"
)

// TestFence: a change that a former owner evaluated before the fence, but did not commit, is
// evaluated again after it.
func TestFence(t *testing.T) {
	opts := storeCluster(t)
	former, next := openStore(t, opts, nil), openStore(t, opts, nil)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	require.NoError(t, former.Update(ctx, increment("east")))
	for _, committed := range []bool{true, false} {
		var owns atomic.Bool
		owns.Store(true)
		evaluations := 0
		former.log.Intercept = func(commit func() error) error {
			former.log.Intercept = nil
			if committed {
				require.NoError(t, commit())
			}
			owns.Store(false)
			if err := next.Fence(ctx); err != nil {
				t.Error(err)
			}
			if committed {
				return nil
			}
			return commit()
		}
		err := former.Update(ctx, func(tx *Tx) error {
			evaluations++
			if !owns.Load() {
				return model.ErrNotOwner
			}
			return increment("east")(tx)
		})
		if committed {
			require.NoError(t, err)
		} else {
			require.ErrorIs(t, err, model.ErrNotOwner)
			require.GreaterOrEqual(t, evaluations, 2)
		}
		// After Fence the next owner has read everything that was committed before it, and nothing
		// else is committed later.
		require.Equal(t, "2", next.State().Links["east"].SourceClusterID)
		require.NoError(t, former.Sync(ctx))
		require.Equal(t, "2", former.State().Links["east"].SourceClusterID)
	}
}
