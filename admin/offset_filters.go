package admin

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"time"

	"klink/protocol"

	"github.com/twmb/franz-go/pkg/kerr"
)

// The offset sync of a link runs at one instance, while `klink group migrate` may come to any.
// After it has answered, nothing may be committed for the group any more that was decided with
// filters from before the group was excluded: its consumers are about to start at the destination,
// and would be set back. Kafka has no fence for commits of who is no member, so the filters have
// one:
//
//  1. The owner of a link syncs groups only with filters that it has announced: stored beside the
//     memory of the offsets, by a compare-and-set that fails where the link has other filters by
//     then, or another owner.
//  2. It announces other filters only when nothing is under way with the former: each commit that
//     was sent has its answer.
//
// So who has excluded a group, and sees the filters announced that the link has now, knows that
// what was decided before is done, and looks once more at what is committed. What remains is what a
// former owner has sent in the moment in which it lost the link, if the broker takes it up only
// after all that.

// syncedFilters stands for the filters of groups that the offset sync of a link with these configs
// works with; "" = it syncs none.
func syncedFilters(configs map[string]string) string {
	if !wantsOffsets(configs) {
		return ""
	}
	sum := sha256.Sum256([]byte(LinkConfigValue(configs, ConfigGroupFilters)))
	return hex.EncodeToString(sum[:8])
}

// errFiltersChanged keeps a sync from beginning with filters that the link does not have any more.
var errFiltersChanged = protocol.Errorf(kerr.InvalidRequest, "the link was changed, or moved to another instance, at the same time")

// announceFilters stores which filters the offset sync of a link works with from now on.
func (s *Service) announceFilters(ctx context.Context, l *Link) error {
	filters := syncedFilters(l.Configs)
	return s.update(ctx, func(tx *Tx) error {
		now, err := tx.Link(l.Name)
		switch {
		case err != nil:
			return err
		case now == nil || now.ID != l.ID || syncedFilters(now.Configs) != filters || !s.ownsLink(l.Name):
			return errFiltersChanged
		}
		next := offsetsRecord{Version: recordVersion, Link: l.ID}
		if r := tx.offsets(l.Name, l.ID); r != nil {
			next = *r
		}
		if next.Filters == filters {
			return nil
		}
		next.Filters = filters
		return tx.putOffsets(l.Name, &next)
	})
}

// awaitFilters returns when the offset sync of a link works with the filters that the link has now.
func (s *Service) awaitFilters(ctx context.Context, l *Link) error {
	for {
		now := s.State().Links[l.Name]
		if now == nil || now.ID != l.ID {
			return linkMissing(l.Name)
		}
		announced := ""
		if r := s.store.offsetsRecord(l.Name, l.ID); r != nil {
			announced = r.Filters
		}
		if announced == syncedFilters(now.Configs) {
			return nil
		}
		if sleep(ctx, 10*time.Millisecond) != nil {
			return protocol.Errorf(kerr.RequestTimedOut, "the instance of klink that syncs the offsets of link %q has not confirmed in the time allowed that it works with the filters of now", l.Name)
		}
	}
}
