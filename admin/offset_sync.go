package admin

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"klink/admin/model"
	"klink/admin/sources"
	"klink/internal/parallel"
	"klink/internal/retry"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

// offsetSync carries the committed offsets of groups from the source of a link to its mirrors,
// once. The task, the final sync of a promotion and `klink group migrate` all use it; offsetCase
// decides what is written.
//
// Requests: klink asks for the offsets of offsetGroups groups at once, which the client turns into
// one request to each coordinator (one for each group if brokers are older than Kafka 3.0). Kafka
// takes commits only by group, so klink sends one for each group that needs a change, maxParallel
// at a time.
type offsetSync struct {
	s      *Service
	link   *model.Link
	source *sources.Source
	memory *offsetMemory
	// mirrors are those to sync, by topic at the source; part: the link has more. takes reports
	// whether the state of a mirror allows klink to write its offsets.
	mirrors map[string]*model.Mirror
	part    bool
	takes   func(*model.Mirror) bool
	// states are the groups at the destination as they were listed.
	states map[string]listedGroup
	// asked: a person asked for the sync of these groups, so an offset is raised even if the group
	// has not moved at the source since klink last looked.
	asked bool
	dry   bool // decides, and writes nothing

	ends  map[partitionOf]int64
	found map[partitionOf]bool // partitions whose end klink has asked the destination for
}

// offsetGroups is how many groups' offsets are asked for at once.
const offsetGroups = 500

// syncedGroup is the result for a group that has offsets for mirrors at the source.
type syncedGroup struct {
	group   string
	offsets []*syncedOffset
	// active: nothing is written, as the group is active at the destination.
	active bool
	err    error // some or all of the offsets could not be handled
}

// syncedOffset is the result for one offset.
type syncedOffset struct {
	offsetCase
	at       partitionOf // of the mirror
	metadata string      // at the source
	write    bool        // to is to be written
	to       int64
	written  bool
}

// now returns what is committed at the destination after the sync.
func (o *syncedOffset) now() int64 {
	if o.written {
		return o.to
	}
	return o.committed
}

// mirrorsOf returns the mirrors of a link that fit, by topic at the source.
func mirrorsOf(state *model.State, link string, fits func(*model.Mirror) bool) map[string]*model.Mirror {
	mirrors := map[string]*model.Mirror{}
	for _, m := range state.Mirrors {
		if m.Link == link && fits(m) {
			mirrors[m.SourceTopic] = m
		}
	}
	return mirrors
}

// takesOffsets reports whether the task syncs the offsets for a mirror. A stopped mirror has
// offsets of its own. The stop syncs those of a mirror that is being stopped. A FAILED mirror may
// have another topic at its source.
func takesOffsets(m *model.Mirror) bool {
	return m.Created && (m.State == model.MirrorActive || m.State == model.MirrorPaused || m.State == model.MirrorSourceUnavailable)
}

// takesLastOffsets is takesOffsets for the last sync: at the end of the mirroring, or of a group at
// the source.
func takesLastOffsets(m *model.Mirror) bool {
	return takesOffsets(m) || m.Created && m.State == model.MirrorPendingStopped
}

// offsetPatience is how long klink retries coordinators that cannot answer now. A coordinator that
// moves is back soon, and a destination that has never had a group first creates the topic for
// their offsets.
const offsetPatience = 5 * time.Second

// Run syncs groups. It calls each once for every group that has offsets for mirrors, or whose
// offsets could not be read. It returns early when ctx ends.
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
		if len(groups) == 0 || retry.Sleep(ctx, clampPause) != nil {
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

// checkSource drops offsets that would go back because the name belongs to another topic at the
// source now, which the replicator may not have noticed yet.
func (o *offsetSync) checkSource(ctx context.Context, synced []*syncedGroup) {
	var back []*syncedOffset
	topics := map[string]bool{}
	byMirror := map[string]*model.Mirror{}
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
	meta, err := o.source.Admin.Metadata(ctx, slices.Sorted(maps.Keys(topics))...)
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
	parallel.ForEach(len(due), func(i int) { o.commit(ctx, due[i]) })
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
				g.err = fmt.Errorf("could not commit offsets of topic '%s' at the destination: %w", c.topic, c.err)
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

// commitPatience is how long klink waits for the answer to a commit that it has sent.
const commitPatience = 10 * time.Second

// commitToTheEnd is commit, except that the end of ctx does not cancel a commit that was sent:
// klink still waits for its answer. Nobody may take a sync for finished while one of its commits is
// in flight. Only the shutdown of klink interrupts the wait.
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

// inUse reports whether the destination refuses a commit because the group has members.
func inUse(err error) bool {
	return errors.Is(err, kerr.UnknownMemberID) || errors.Is(err, kerr.StaleMemberEpoch) || errors.Is(err, kerr.IllegalGeneration) || errors.Is(err, kerr.RebalanceInProgress)
}

// remember stores what is known about a group now. For an offset that could not be written it keeps
// the old memory, so that the next run still sees the change at the source.
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
