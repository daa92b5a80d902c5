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

// offsetSync carries the committed offsets of groups from the source of a link to its mirrors,
// once. The task, the final sync of a promote and `klink group migrate` are all made of it; what is
// written is decided by offsetCase.
//
// Requests: the offsets of offsetGroups groups are asked for at once, which the client makes one
// request to each coordinator (one for each group where brokers are older than Kafka 3.0). Kafka
// takes commits only by group, so there is one for each group that has something to be written,
// maxParallel at a time.
type offsetSync struct {
	s      *Service
	link   *Link
	source *source
	memory *offsetMemory
	// mirrors that are synced, by topic at the source; part: the link has more. takes says which
	// may be written in their state.
	mirrors map[string]*Mirror
	part    bool
	takes   func(*Mirror) bool
	// states are the groups at the destination as they were listed.
	states map[string]listedGroup
	// asked: a person wants these groups to be as at the source, so that an offset is raised
	// without news, too.
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

// takesOffsets says whether the task syncs the offsets for a mirror. One that is stopped has
// offsets of its own; one that is being stopped is left to the stop; a FAILED one may have another
// topic at its source.
func takesOffsets(m *Mirror) bool {
	return m.Created && (m.State == MirrorActive || m.State == MirrorPaused || m.State == MirrorSourceUnavailable)
}

// takesLastOffsets is takesOffsets for what is done at the end: of the mirroring, or of a group at
// the source.
func takesLastOffsets(m *Mirror) bool {
	return takesOffsets(m) || m.Created && m.State == MirrorPendingStopped
}

// offsetPatience is how long coordinators are asked again that cannot answer now: one that moves is
// back soon, and a destination that has never had a group makes the topic for their offsets first.
const offsetPatience = 5 * time.Second

// run syncs groups and calls each once for those that have offsets for mirrors, or that could not
// be asked for them. It returns early when ctx ends.
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

// checkSource gives up offsets that would go back because another topic has the name at the source
// now, of which the replicator has yet to learn.
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
		o.s.commitToTheEnd(ctx, g.group, commits)
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

// commitPatience is how long the answer to a commit is waited for that was sent.
const commitPatience = 10 * time.Second

// commitToTheEnd is commit, but that one that is sent has its answer when it returns, also where
// ctx ends meanwhile: nobody may take a sync for over while something of it is on its way. Only the
// end of klink itself is not kept waiting.
func (s *Service) commitToTheEnd(ctx context.Context, group string, commits []*commit) {
	if err := ctx.Err(); err != nil {
		for _, c := range commits {
			c.err = err
		}
		return
	}
	sending, cancel := context.WithTimeout(context.WithoutCancel(ctx), commitPatience)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	s.commit(sending, group, commits)
}

// inUse says whether the destination refuses a commit because the group has members.
func inUse(err error) bool {
	return errors.Is(err, kerr.UnknownMemberID) || errors.Is(err, kerr.StaleMemberEpoch) || errors.Is(err, kerr.IllegalGeneration) || errors.Is(err, kerr.RebalanceInProgress)
}

// remember keeps what is known of a group now. What could not be written is as it was, so that the
// news of it are not lost.
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
