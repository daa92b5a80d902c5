package admin

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"klink/internal/parallel"
	"klink/internal/retry"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// clampGroups is the number of groups whose offsets klink asks for at once.
const clampGroups = 500

// clampPause is the pause before klink asks again for groups that could not answer.
const clampPause = 200 * time.Millisecond

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
	groups, err := s.listGroups(ctx)
	if err != nil {
		all(notChecked(err))
	}
	beyond, failed := s.offsetsBeyond(ctx, ends, groups)
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

// listGroups lists the groups of the destination. If some brokers do not answer, it returns the
// groups of the others together with an error.
func (s *Service) listGroups(ctx context.Context) ([]string, error) {
	for {
		listed, err := s.admin.ListGroups(ctx)
		if !tryAgain(ctx, err) {
			return listed.Groups(), err
		}
		if retry.Sleep(ctx, clampPause) != nil {
			return listed.Groups(), err
		}
	}
}

// tryAgain reports whether another attempt may help and ctx leaves time for it.
func tryAgain(ctx context.Context, err error) bool {
	if err == nil || ctx.Err() != nil {
		return false
	}
	var shards *kadm.ShardErrors
	if errors.As(err, &shards) {
		return slices.ContainsFunc(shards.Errs, func(e kadm.ShardError) bool { return tryAgain(ctx, e.Err) })
	}
	var code *kerr.Error
	return !errors.As(err, &code) || code.Retriable
}

// commit is an offset to commit for a group.
type commit struct {
	group     string
	topic     string
	topicID   [16]byte
	partition int32
	committed int64
	end       int64
	metadata  string
	err       error // why it was not committed; nil = it was
}

// offsetsBeyond returns the committed offsets beyond the ends, by group. failed has the groups
// whose offsets it could not read.
func (s *Service) offsetsBeyond(ctx context.Context, ends map[string]mirrorEnds, groups []string) (beyond map[string][]*commit, failed map[string]error) {
	beyond, failed = map[string][]*commit{}, map[string]error{}
	mirrors := s.State().Mirrors
	ask := groups
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
					if tryAgain(ctx, f.Err) {
						again = append(again, group)
					}
					continue
				}
				for topic, offsets := range f.Fetched {
					e := ends[topic] // the zero value if the topic is not one of the mirrors
					for partition, o := range offsets {
						if o.Err == nil && int(partition) < len(e.logical) && e.logical[partition] >= 0 && o.At > e.logical[partition] {
							beyond[group] = append(beyond[group], &commit{
								group: group, topic: topic, topicID: mirrors[topic].TopicID, partition: partition,
								committed: o.At, end: e.logical[partition], metadata: o.Metadata,
							})
						}
					}
				}
			}
		}
		ask = again
		if len(ask) > 0 && retry.Sleep(ctx, clampPause) != nil {
			break
		}
	}
	return beyond, failed
}

// setBack commits the ends, for several groups at a time. By topic, it returns how many offsets it
// committed, and which ones it did not.
func (s *Service) setBack(ctx context.Context, beyond map[string][]*commit) (done map[string]int, kept map[string][]*commit) {
	groups := slices.Sorted(maps.Keys(beyond))
	var mu sync.Mutex
	done, kept = map[string]int{}, map[string][]*commit{}
	parallel.ForEach(len(groups), func(i int) {
		commits := beyond[groups[i]]
		for {
			s.commit(ctx, groups[i], commits)
			if !slices.ContainsFunc(commits, func(c *commit) bool { return tryAgain(ctx, c.err) }) || retry.Sleep(ctx, clampPause) != nil {
				break
			}
		}
		mu.Lock()
		defer mu.Unlock()
		for _, c := range commits {
			if c.err != nil {
				kept[c.topic] = append(kept[c.topic], c)
				continue
			}
			done[c.topic]++
			s.log.Debug("reset a committed offset to the end of a mirror", "group", c.group, "topic", c.topic, "partition", c.partition, "committed", c.committed, "end", c.end)
		}
	})
	return done, kept
}

// commit commits the end of each of commits, for one group, as a client that is no member:
// generation -1, no member id. The leader epoch is -1, because the source's epochs mean nothing
// here. It sets err in each of commits.
func (s *Service) commit(ctx context.Context, group string, commits []*commit) {
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group = group
	topics := map[string]int{}
	for _, c := range commits {
		c.err = errors.New("no answer from the coordinator")
		i, ok := topics[c.topic]
		if !ok {
			i = len(req.Topics)
			topics[c.topic] = i
			t := kmsg.NewOffsetCommitRequestTopic()
			t.Topic, t.TopicID = c.topic, c.topicID
			req.Topics = append(req.Topics, t)
		}
		p := kmsg.NewOffsetCommitRequestTopicPartition()
		p.Partition, p.Offset, p.LeaderEpoch = c.partition, c.end, -1
		if c.metadata != "" {
			p.Metadata = &c.metadata
		}
		req.Topics[i].Partitions = append(req.Topics[i].Partitions, p)
	}
	resp, err := req.RequestWith(ctx, s.client)
	if err != nil {
		for _, c := range commits {
			c.err = err
		}
		return
	}
	type place struct {
		topic     string
		id        [16]byte // instead of topic, where the response has only the id
		partition int32
	}
	at := make(map[place]*commit, 2*len(commits))
	for _, c := range commits {
		at[place{topic: c.topic, partition: c.partition}] = c
		at[place{id: c.topicID, partition: c.partition}] = c
	}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			where := place{topic: t.Topic, partition: p.Partition}
			if t.Topic == "" {
				where.id = t.TopicID
			}
			if c := at[where]; c != nil {
				c.err = kerr.ErrorForCode(p.ErrorCode)
			}
		}
	}
}

// maxNamedGroups bounds how many groups a message names.
const maxNamedGroups = 5

// keptNote describes the committed offsets beyond the end of a mirror that are still there.
func keptNote(kept []*commit) string {
	slices.SortFunc(kept, func(a, b *commit) int {
		if c := strings.Compare(a.group, b.group); c != 0 {
			return c
		}
		return int(a.partition - b.partition)
	})
	var groups []string
	for _, c := range kept {
		if len(groups) == 0 || groups[len(groups)-1] != c.group {
			groups = append(groups, c.group)
		}
	}
	named := strings.Join(groups[:min(len(groups), maxNamedGroups)], ", ")
	if more := len(groups) - maxNamedGroups; more > 0 {
		named += fmt.Sprintf(" and %d more", more)
	}
	first := kept[0]
	why := first.err.Error()
	if errors.Is(first.err, kerr.UnknownMemberID) || errors.Is(first.err, kerr.StaleMemberEpoch) {
		why = "the group is active"
	}
	return fmt.Sprintf("could not reset committed offsets beyond the mirror's end, of groups %s: group %s has offset %d in partition %d, which ends at %d (%s); stop the group's consumers and reset its offset",
		named, first.group, first.committed, first.partition, first.end, why)
}
