package admin

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

// offsetSync carries the committed offsets of groups from the source of a link to its mirrors, once. The task, the final sync
// of a promote and `klink group migrate` are all made of it; what is written is decided by offsetCase.
//
// Requests: the offsets of offsetGroups groups are asked for at once, which the client makes one request to each coordinator
// (one for each group where brokers are older than Kafka 3.0). Kafka takes commits only by group, so there is one for each
// group that has something to be written, maxParallel at a time.
type offsetSync struct {
	s      *Service
	link   *Link
	source *source
	memory *offsetMemory
	// mirrors that are synced, by topic at the source; part: the link has more. takes says which may be written in their state.
	mirrors map[string]*Mirror
	part    bool
	takes   func(*Mirror) bool
	// states are the groups at the destination as they were listed.
	states map[string]listedGroup
	// asked: a person wants these groups to be as at the source, so that an offset is raised without news, too.
	asked bool
	dry   bool // decides, and writes nothing

	ends  map[partitionOf]int64
	found map[partitionOf]bool // ends that the destination was asked for
}

// offsetGroups is how many groups' offsets are asked for at once.
const offsetGroups = 500

// syncedGroup is what became of a group that has offsets for mirrors at the source.
type syncedGroup struct {
	group   string
	offsets []*syncedOffset
	// active: nothing is written, as the group is active at the destination.
	active bool
	err    error // none of the offsets, or not all of them, could be dealt with
}

// syncedOffset is what became of one offset.
type syncedOffset struct {
	offsetCase
	at       partitionOf // of the mirror
	metadata string      // at the source
	write    bool        // to is to be written
	to       int64
	written  bool
}

// now is what is committed at the destination afterwards.
func (o *syncedOffset) now() int64 {
	if o.written {
		return o.to
	}
	return o.committed
}

// mirrorsOf are the mirrors of a link that fit, by topic at the source.
func mirrorsOf(state *State, link string, fits func(*Mirror) bool) map[string]*Mirror {
	mirrors := map[string]*Mirror{}
	for _, m := range state.Mirrors {
		if m.Link == link && fits(m) {
			mirrors[m.SourceTopic] = m
		}
	}
	return mirrors
}

// takesOffsets says whether the task syncs the offsets for a mirror. One that is stopped has offsets of its own; one that is
// being stopped is left to the stop; a FAILED one may have another topic at its source.
func takesOffsets(m *Mirror) bool {
	return m.Created && (m.State == MirrorActive || m.State == MirrorPaused || m.State == MirrorSourceUnavailable)
}

// takesLastOffsets is takesOffsets for what is done at the end: of the mirroring, or of a group at the source.
func takesLastOffsets(m *Mirror) bool {
	return takesOffsets(m) || m.Created && m.State == MirrorPendingStopped
}

// offsetPatience is how long coordinators are asked again that cannot answer now: one that moves is back soon, and a
// destination that has never had a group makes the topic for their offsets first.
const offsetPatience = 5 * time.Second

// run syncs groups and calls each once for those that have offsets for mirrors, or that could not be asked for them. It
// returns early when ctx ends.
func (o *offsetSync) run(ctx context.Context, groups []string, each func(*syncedGroup)) {
	o.ends, o.found = map[partitionOf]int64{}, map[partitionOf]bool{}
	for until := (time.Time{}); ; {
		var again []string
		for chunk := range slices.Chunk(groups, offsetGroups) {
			for _, g := range o.chunk(ctx, chunk) {
				if (until.IsZero() || time.Now().Before(until)) && tryAgain(ctx, g.err) {
					again = append(again, g.group)
				} else {
					each(g)
				}
			}
			if ctx.Err() != nil {
				return
			}
		}
		if until.IsZero() {
			until = time.Now().Add(offsetPatience)
		}
		groups = again
		if len(groups) == 0 || sleep(ctx, clampPause) != nil {
			return
		}
	}
}

func (o *offsetSync) chunk(ctx context.Context, groups []string) []*syncedGroup {
	if len(o.mirrors) == 0 {
		return nil
	}
	unlock, err := o.memory.take(ctx)
	if err != nil {
		return nil
	}
	defer unlock()
	synced := o.atSource(ctx, groups)
	o.atDestination(ctx, synced)
	o.learnEnds(ctx, synced)
	for _, g := range synced {
		o.decide(g)
	}
	o.checkSource(ctx, synced)
	o.write(ctx, synced)
	if !o.dry {
		for _, g := range synced {
			if g.offsets != nil {
				o.remember(g)
			}
		}
	}
	return synced
}

// atSource asks for the offsets of groups at the source and leaves out groups that have none for the mirrors.
func (o *offsetSync) atSource(ctx context.Context, groups []string) (synced []*syncedGroup) {
	fetched := o.source.admin.FetchManyOffsets(ctx, groups...)
	for _, group := range groups {
		f, ok := fetched[group]
		if !ok {
			f.Err = errors.New("the coordinator does not answer for it")
		}
		g := &syncedGroup{group: group}
		switch {
		case errors.Is(f.Err, kerr.GroupIDNotFound):
			continue // deleted meanwhile
		case f.Err != nil:
			g.err = fmt.Errorf("offsets at the source: %w", f.Err)
			synced = append(synced, g)
			continue
		}
		for topic, m := range o.mirrors {
			for partition, c := range f.Fetched[topic] {
				if c.Err != nil {
					g.err = fmt.Errorf("offsets at the source, topic '%s': %w", topic, c.Err)
				}
				if c.Err != nil || c.At < 0 || partition < 0 || partition >= m.Partitions {
					continue
				}
				g.offsets = append(g.offsets, &syncedOffset{
					offsetCase: offsetCase{source: c.At, committed: -1, epoch: -1, end: -1, last: nothingSeen},
					at:         partitionOf{m.Topic, partition}, metadata: c.Metadata,
				})
			}
		}
		if len(g.offsets) > 0 || g.err != nil {
			slices.SortFunc(g.offsets, func(a, b *syncedOffset) int { return comparePartitions(a.at, b.at) })
			synced = append(synced, g)
		}
	}
	return synced
}

// atDestination fills in what is committed at the destination.
func (o *offsetSync) atDestination(ctx context.Context, synced []*syncedGroup) {
	var ask []string
	for _, g := range synced {
		if g.offsets != nil {
			ask = append(ask, g.group)
		}
	}
	fetched := o.s.admin.FetchManyOffsets(ctx, ask...)
	for _, g := range synced {
		if g.offsets == nil {
			continue
		}
		f, ok := fetched[g.group]
		if !ok {
			f.Err = errors.New("the coordinator does not answer for it")
		}
		if f.Err != nil && !errors.Is(f.Err, kerr.GroupIDNotFound) {
			g.err, g.offsets = fmt.Errorf("offsets at the destination: %w", f.Err), nil
			continue
		}
		g.offsets = slices.DeleteFunc(g.offsets, func(c *syncedOffset) bool {
			there, ok := f.Fetched.Lookup(c.at.topic, c.at.partition)
			switch {
			case !ok:
				return false
			case there.Err != nil:
				g.err = fmt.Errorf("offsets at the destination, topic '%s': %w", c.at.topic, there.Err)
				return true
			}
			c.committed, c.epoch = there.At, there.LeaderEpoch
			c.offsetCase.metadata = there.Metadata != c.metadata
			return false
		})
	}
}

// learnEnds fills in where the mirrors end for readers. What the replicator of this process says may be old, where another
// process has the partition, but never too far; so the destination is asked only where that is in the way.
func (o *offsetSync) learnEnds(ctx context.Context, synced []*syncedGroup) {
	status := map[string][]PartitionStatus{}
	ask := map[string][]int32{}
	for _, g := range synced {
		for _, c := range g.offsets {
			known, ok := status[c.at.topic]
			if !ok {
				if r := o.s.reporter.Load(); r != nil && *r != nil {
					known = (*r).Status(c.at.topic)
				}
				status[c.at.topic] = known
			}
			end, ok := o.ends[c.at]
			if !ok {
				end = -1
			}
			if int(c.at.partition) < len(known) {
				end = max(end, known[c.at.partition].MirrorEnd)
			}
			o.ends[c.at] = end
			if end < c.source && !o.found[c.at] {
				o.found[c.at] = true
				ask[c.at.topic] = append(ask[c.at.topic], c.at.partition)
			}
		}
	}
	for at, end := range o.s.endsForReaders(ctx, ask) {
		o.ends[at] = max(o.ends[at], end)
	}
	for _, g := range synced {
		for _, c := range g.offsets {
			c.end = o.ends[c.at]
		}
	}
}

// endsForReaders are the logical ends of partitions as the destination tells them; those that it does not are missing.
func (s *Service) endsForReaders(ctx context.Context, partitions map[string][]int32) map[partitionOf]int64 {
	ends := map[partitionOf]int64{}
	if len(partitions) == 0 {
		return ends
	}
	listed, err := s.admin.ListEndOffsets(ctx, slices.Sorted(maps.Keys(partitions))...)
	if err != nil {
		s.log.Debug("where mirrors end at the destination is not known", "error", err)
	}
	for topic, ps := range partitions {
		timelines := s.State().Timelines[topic]
		for _, p := range ps {
			end, ok := listed.Lookup(topic, p)
			if !ok || end.Err != nil || int(p) >= len(timelines) || timelines[p].Floor() == outOfRange {
				continue
			}
			if logical, ok := s.findEnd(ctx, topic, p, timelines[p], end.Offset); ok {
				ends[partitionOf{topic, p}] = logical
			}
		}
	}
	return ends
}

func (o *offsetSync) decide(g *syncedGroup) {
	source, committed := make(map[partitionOf]int64, len(g.offsets)), make(map[partitionOf]int64, len(g.offsets))
	for _, c := range g.offsets {
		source[c.at], committed[c.at] = c.source, c.committed
	}
	seen := o.memory.seen(g.group, source, committed)
	for _, c := range g.offsets {
		if last, ok := seen[c.at]; ok {
			c.last = last
		}
		if o.asked {
			c.last.source = -1
		}
		c.to, c.write = c.decide()
	}
}

// checkSource gives up offsets that would go back because another topic has the name at the source now, of which the
// replicator has yet to learn.
func (o *offsetSync) checkSource(ctx context.Context, synced []*syncedGroup) {
	var back []*syncedOffset
	topics := map[string]bool{}
	byMirror := map[string]*Mirror{}
	for _, m := range o.mirrors {
		byMirror[m.Topic] = m
	}
	for _, g := range synced {
		for _, c := range g.offsets {
			if m := byMirror[c.at.topic]; c.write && c.to < c.committed && m.SourceTopicID != (kadm.TopicID{}) {
				back = append(back, c)
				topics[m.SourceTopic] = true
			}
		}
	}
	if len(back) == 0 {
		return
	}
	meta, err := o.source.admin.Metadata(ctx, slices.Sorted(maps.Keys(topics))...)
	for _, c := range back {
		m := byMirror[c.at.topic]
		if t, ok := meta.Topics[m.SourceTopic]; err != nil || !ok || t.Err != nil || t.ID != m.SourceTopicID {
			c.write = false
		}
	}
}

// write commits what was decided, for groups that are not active.
func (o *offsetSync) write(ctx context.Context, synced []*syncedGroup) {
	var due []*syncedGroup
	for _, g := range synced {
		g.active = len(g.offsets) > 0 && o.states[g.group].active()
		if !g.active && !o.dry && slices.ContainsFunc(g.offsets, func(c *syncedOffset) bool { return c.write }) {
			due = append(due, g)
		}
	}
	forEach(len(due), func(i int) { o.commit(ctx, due[i]) })
}

// maxCommitBytes bounds one commit: the coordinator writes it as one batch.
const maxCommitBytes = 256 << 10

// commit commits the offsets of one group.
func (o *offsetSync) commit(ctx context.Context, g *syncedGroup) {
	mirrors := o.s.State().Mirrors
	var commits []*commit
	var of []*syncedOffset
	size := 0
	flush := func() {
		if len(commits) == 0 || g.active {
			return
		}
		o.s.commit(ctx, g.group, commits)
		for i, c := range commits {
			switch {
			case c.err == nil:
				of[i].written = true
			case inUse(c.err):
				g.active = true
			default:
				g.err = fmt.Errorf("commit at the destination, topic '%s': %w", c.topic, c.err)
			}
		}
		commits, of, size = nil, nil, 0
	}
	for _, c := range g.offsets {
		// The mirror may have been stopped, or made anew, since the offsets were read.
		now := mirrors[c.at.topic]
		if !c.write || now == nil || o.mirrors[now.SourceTopic] == nil || now.TopicID != o.mirrors[now.SourceTopic].TopicID || !o.takes(now) {
			continue
		}
		commits = append(commits, &commit{
			group: g.group, topic: c.at.topic, topicID: now.TopicID, partition: c.at.partition, committed: c.committed, end: c.to, metadata: c.metadata,
		})
		of = append(of, c)
		if size += 64 + len(c.at.topic) + len(c.metadata); size > maxCommitBytes {
			flush()
		}
	}
	flush()
}

// inUse says whether the destination refuses a commit because the group has members.
func inUse(err error) bool {
	return errors.Is(err, kerr.UnknownMemberID) || errors.Is(err, kerr.StaleMemberEpoch) || errors.Is(err, kerr.IllegalGeneration) || errors.Is(err, kerr.RebalanceInProgress)
}

// remember keeps what is known of a group now. What could not be written is as it was, so that the news of it are not lost.
func (o *offsetSync) remember(g *syncedGroup) {
	seen := make(map[partitionOf]offsetSeen, len(g.offsets))
	for _, c := range g.offsets {
		switch {
		case c.written:
			seen[c.at] = offsetSeen{c.source, c.to}
		case c.write:
			seen[c.at] = c.last
		default:
			seen[c.at] = c.left()
		}
	}
	o.memory.keep(g.group, seen, o.part)
}
