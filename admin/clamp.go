package admin

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"klink/admin/groups"
	"klink/internal/parallel"
	"klink/internal/retry"

	"github.com/twmb/franz-go/pkg/kerr"
)

// clampGroups is the number of groups whose offsets klink asks for at once.
const clampGroups = 500

// clamp sets committed offsets at the destination that lie beyond the end of a mirror back to that
// end, in all groups. It returns notes for people about what it could not do, by topic. It tries
// until ctx ends.
func (s *Service) clamp(ctx context.Context, ends map[string]mirrorEnds) (notes map[string][]string) {
	notes = map[string][]string{}
	if len(ends) == 0 {
		return notes
	}
	all := func(note string) {
		for topic := range ends {
			notes[topic] = append(notes[topic], note)
		}
	}
	names, err := groups.Names(ctx, s.admin)
	if err != nil {
		all(notChecked(err))
	}
	beyond, failed := s.offsetsBeyond(ctx, ends, names)
	if len(failed) > 0 {
		some := slices.Sorted(maps.Keys(failed))
		all(notChecked(fmt.Errorf("could not read the offsets of %d groups, for example %.260s: %w", len(failed), some[0], failed[some[0]])))
	}
	done, kept := s.setBack(ctx, beyond)
	for topic, n := range done {
		s.log.Info("reset committed offsets beyond the end of a mirror to its end", "topic", topic, "offsets", n)
	}
	for topic, commits := range kept {
		notes[topic] = append(notes[topic], keptNote(commits))
	}
	return notes
}

// offsetsBeyond returns the committed offsets beyond the ends, by group. failed has the groups
// whose offsets it could not read.
func (s *Service) offsetsBeyond(ctx context.Context, ends map[string]mirrorEnds, names []string) (beyond map[string][]*groups.Commit, failed map[string]error) {
	beyond, failed = map[string][]*groups.Commit{}, map[string]error{}
	mirrors := s.State().Mirrors
	ask := names
	for len(ask) > 0 {
		clear(failed)
		var again []string
		for chunk := range slices.Chunk(ask, clampGroups) {
			fetched := s.admin.FetchManyOffsets(ctx, chunk...)
			for _, group := range chunk {
				f, ok := fetched[group]
				if !ok {
					f.Err = errors.New("no answer from the coordinator")
				}
				switch {
				case errors.Is(f.Err, kerr.GroupIDNotFound):
					continue // deleted since it was listed, or of a kind without committed offsets
				case f.Err != nil:
					failed[group] = f.Err
					if groups.TryAgain(ctx, f.Err) {
						again = append(again, group)
					}
					continue
				}
				for topic, offsets := range f.Fetched {
					e := ends[topic] // the zero value if the topic is not one of the mirrors
					for partition, o := range offsets {
						if o.Err == nil && int(partition) < len(e.logical) && e.logical[partition] >= 0 && o.At > e.logical[partition] {
							beyond[group] = append(beyond[group], &groups.Commit{
								Group: group, Topic: topic, TopicID: mirrors[topic].TopicID, Partition: partition,
								Committed: o.At, End: e.logical[partition], Metadata: o.Metadata,
							})
						}
					}
				}
			}
		}
		ask = again
		if len(ask) > 0 && retry.Sleep(ctx, groups.Pause) != nil {
			break
		}
	}
	return beyond, failed
}

// setBack commits the ends, for several groups at a time. By topic, it returns how many offsets it
// committed, and which ones it did not.
func (s *Service) setBack(ctx context.Context, beyond map[string][]*groups.Commit) (done map[string]int, kept map[string][]*groups.Commit) {
	names := slices.Sorted(maps.Keys(beyond))
	var mu sync.Mutex
	done, kept = map[string]int{}, map[string][]*groups.Commit{}
	parallel.ForEach(len(names), func(i int) {
		commits := beyond[names[i]]
		for {
			groups.Send(ctx, s.client, names[i], commits)
			if !slices.ContainsFunc(commits, func(c *groups.Commit) bool { return groups.TryAgain(ctx, c.Err) }) || retry.Sleep(ctx, groups.Pause) != nil {
				break
			}
		}
		mu.Lock()
		defer mu.Unlock()
		for _, c := range commits {
			if c.Err != nil {
				kept[c.Topic] = append(kept[c.Topic], c)
				continue
			}
			done[c.Topic]++
			s.log.Debug("reset a committed offset to the end of a mirror", "group", c.Group, "topic", c.Topic, "partition", c.Partition, "committed", c.Committed, "end", c.End)
		}
	})
	return done, kept
}

// keptNote describes the committed offsets beyond the end of a mirror that are still there.
func keptNote(kept []*groups.Commit) string {
	slices.SortFunc(kept, func(a, b *groups.Commit) int {
		if c := strings.Compare(a.Group, b.Group); c != 0 {
			return c
		}
		return int(a.Partition - b.Partition)
	})
	var names []string
	for _, c := range kept {
		if len(names) == 0 || names[len(names)-1] != c.Group {
			names = append(names, c.Group)
		}
	}
	first := kept[0]
	why := first.Err.Error()
	if errors.Is(first.Err, kerr.UnknownMemberID) || errors.Is(first.Err, kerr.StaleMemberEpoch) {
		why = "the group is active"
	}
	return fmt.Sprintf("could not reset committed offsets beyond the mirror's end, of groups %s: group %s has offset %d in partition %d, which ends at %d (%s); stop the group's consumers and reset its offset",
		groups.Named(names), first.Group, first.Committed, first.Partition, first.End, why)
}
