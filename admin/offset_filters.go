package admin

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"time"

	"klink/admin/linkconfig"
	"klink/admin/model"
	"klink/admin/store"
	"klink/internal/retry"
	"klink/protocol"

	"github.com/twmb/franz-go/pkg/kerr"
)

// The offset sync of a link runs on one instance, while `klink group migrate` may reach any
// instance. Once the migration has answered, the group's consumers start at the destination. From
// then on a sync that still works with filters from before the group was excluded must not commit
// for it, or it would set the consumers back. Kafka has no fence for commits by non-members, so the
// filters have one:
//
//  1. The owner of a link syncs groups only with filters that it has announced. It stores them
//     beside the memory of the offsets, by a compare-and-set that fails if the link has other
//     filters or another owner now.
//  2. It announces new filters only when nothing is under way with the old ones: each commit that
//     it sent has its answer.
//
// So when an instance has excluded a group and then sees the link's current filters announced,
// everything that was decided before is done. It then looks once more at what is committed. One gap
// remains: a commit that a former owner sent at the moment in which it lost the link, if the broker
// handles it only after all that.

// syncedFilters returns a hash of the group filters that the offset sync of a link with these
// configs works with; "" = it syncs no groups.
func syncedFilters(configs map[string]string) string {
	if !wantsOffsets(configs) {
		return ""
	}
	sum := sha256.Sum256([]byte(linkconfig.Value(configs, linkconfig.ConfigGroupFilters)))
	return hex.EncodeToString(sum[:8])
}

// errFiltersChanged keeps a sync from starting with filters that the link no longer has.
var errFiltersChanged = protocol.Errorf(kerr.InvalidRequest, "the link was changed, or moved to another instance, in the meantime")

// announceFilters stores which filters the offset sync of a link works with from now on.
func (s *Service) announceFilters(ctx context.Context, l *model.Link) error {
	filters := syncedFilters(l.Configs)
	return s.update(ctx, func(tx *store.Tx) error {
		now, err := tx.Link(l.Name)
		switch {
		case err != nil:
			return err
		case now == nil || now.ID != l.ID || syncedFilters(now.Configs) != filters || !s.ownsLink(l.Name):
			return errFiltersChanged
		}
		next := store.OffsetsRecord{Version: store.RecordVersion, Link: l.ID}
		if r := tx.Offsets(l.Name, l.ID); r != nil {
			next = *r
		}
		if next.Filters == filters {
			return nil
		}
		next.Filters = filters
		return tx.PutOffsets(l.Name, &next)
	})
}

// awaitFilters returns when the offset sync of a link works with the link's current filters.
func (s *Service) awaitFilters(ctx context.Context, l *model.Link) error {
	for {
		now := s.State().Links[l.Name]
		if now == nil || now.ID != l.ID {
			return linkMissing(l.Name)
		}
		announced := ""
		if r := s.store.Offsets(l.Name, l.ID); r != nil {
			announced = r.Filters
		}
		if announced == syncedFilters(now.Configs) {
			return nil
		}
		if retry.Sleep(ctx, 10*time.Millisecond) != nil {
			return protocol.Errorf(kerr.RequestTimedOut, "the instance of klink that syncs the offsets of link %q has not confirmed in the time allowed that it uses the current filters", l.Name)
		}
	}
}
