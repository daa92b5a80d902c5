package offsets

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"klink/admin/groups"
	"klink/admin/model"
	"klink/admin/sources"
	"klink/internal/parallel"
	"klink/internal/retry"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

// Sync carries the committed offsets of groups from the source of a link to its mirrors,
// once. The task, the final sync of a promotion and `klink group migrate` all use it; Case
// decides what is written.
//
// Requests: klink asks for the offsets of GroupsAtOnce groups at once, which the client turns into
// one request to each coordinator (one for each group if brokers are older than Kafka 3.0). Kafka
// takes commits only by group, so klink sends one for each group that needs a change, some (package
// parallel) at a time.
type Sync struct {
	To     Destination
	Link   *model.Link
	Source *sources.Source
	Memory *Memory
	// Mirrors are those to sync, by topic at the source; Part: the link has more. Takes reports
	// whether the state of a mirror allows klink to write its offsets.
	Mirrors map[string]*model.Mirror
	Part    bool
	Takes   func(*model.Mirror) bool
	// States are the groups at the destination as they were listed.
	States map[string]groups.Listed
	// Asked: a person asked for the sync of these groups, so an offset is raised even if the group
	// has not moved at the source since klink last looked.
	Asked bool
	Dry   bool // decides, and writes nothing

	ends  map[Partition]int64
	found map[Partition]bool // partitions whose end klink has asked the destination for
}

// Destination is the destination as a Sync sees it.
type Destination struct {
	Admin *kadm.Client // of the cluster
	// State returns the mirrors as they are now.
	State func() *model.State
	// Status returns what the replicator of this process reports about a mirror; nil = nothing.
	Status func(topic string) []model.PartitionStatus
	// Ends returns where partitions end for readers. Those whose end cannot be found out are
	// missing.
	Ends func(ctx context.Context, partitions map[string][]int32) map[Partition]int64
	// Commit commits offsets of one group, and sets the error of each. Once it has sent them, the
	// end of ctx does not keep it from waiting for the answer.
	Commit func(ctx context.Context, group string, commits []*groups.Commit)
}

// GroupsAtOnce is how many groups' offsets are asked for at once.
const GroupsAtOnce = 500

// Group is the result for a group that has offsets for mirrors at the source.
type Group struct {
	Group   string
	Offsets []*Offset
	// Active: nothing is written, as the group is active at the destination.
	Active bool
	Err    error // some or all of the offsets could not be handled
}

// Offset is the result for one offset.
type Offset struct {
	Case
	At       Partition // of the mirror
	metadata string    // at the source
	Write    bool      // To is to be written
	To       int64
	Written  bool
}

// Now returns what is committed at the destination after the sync.
func (o *Offset) Now() int64 {
	if o.Written {
		return o.To
	}
	return o.committed
}

// MirrorsOf returns the mirrors of a link that fit, by topic at the source.
func MirrorsOf(state *model.State, link string, fits func(*model.Mirror) bool) map[string]*model.Mirror {
	mirrors := map[string]*model.Mirror{}
	for _, m := range state.Mirrors {
		if m.Link == link && fits(m) {
			mirrors[m.SourceTopic] = m
		}
	}
	return mirrors
}

// Takes reports whether the task syncs the offsets for a mirror. A stopped mirror has
// offsets of its own. The stop syncs those of a mirror that is being stopped. A FAILED mirror may
// have another topic at its source.
func Takes(m *model.Mirror) bool {
	return m.Created && (m.State == model.MirrorActive || m.State == model.MirrorPaused || m.State == model.MirrorSourceUnavailable)
}

// TakesLast is Takes for the last sync: at the end of the mirroring, or of a group at
// the source.
func TakesLast(m *model.Mirror) bool {
	return Takes(m) || m.Created && m.State == model.MirrorPendingStopped
}

// patience is how long klink retries coordinators that cannot answer now. A coordinator that
// moves is back soon, and a destination that has never had a group first creates the topic for
// their offsets.
const patience = 5 * time.Second

// Run syncs groups. It calls each once for every group that has offsets for mirrors, or whose
// offsets could not be read. It returns early when ctx ends.
func (o *Sync) Run(ctx context.Context, names []string, each func(*Group)) {
	o.ends, o.found = map[Partition]int64{}, map[Partition]bool{}
	for until := (time.Time{}); ; {
		var again []string
		for chunk := range slices.Chunk(names, GroupsAtOnce) {
			for _, g := range o.chunk(ctx, chunk) {
				if (until.IsZero() || time.Now().Before(until)) && groups.TryAgain(ctx, g.Err) {
					again = append(again, g.Group)
				} else {
					each(g)
				}
			}
			if ctx.Err() != nil {
				return
			}
		}
		if until.IsZero() {
			until = time.Now().Add(patience)
		}
		names = again
		if len(names) == 0 || retry.Sleep(ctx, groups.Pause) != nil {
			return
		}
	}
}

func (o *Sync) chunk(ctx context.Context, names []string) []*Group {
	if len(o.Mirrors) == 0 {
		return nil
	}
	unlock, err := o.Memory.Take(ctx)
	if err != nil {
		return nil
	}
	defer unlock()
	synced := o.atSource(ctx, names)
	o.atDestination(ctx, synced)
	o.learnEnds(ctx, synced)
	for _, g := range synced {
		o.decide(g)
	}
	o.checkSource(ctx, synced)
	o.write(ctx, synced)
	if !o.Dry {
		for _, g := range synced {
			if g.Offsets != nil {
				o.remember(g)
			}
		}
	}
	return synced
}

func (o *Sync) decide(g *Group) {
	source, committed := make(map[Partition]int64, len(g.Offsets)), make(map[Partition]int64, len(g.Offsets))
	for _, c := range g.Offsets {
		source[c.At], committed[c.At] = c.Source, c.committed
	}
	seen := o.Memory.seen(g.Group, source, committed)
	for _, c := range g.Offsets {
		if last, ok := seen[c.At]; ok {
			c.last = last
		}
		if o.Asked {
			c.last.Source = -1
		}
		c.To, c.Write = c.decide()
	}
}

// checkSource drops offsets that would go back because the name belongs to another topic at the
// source now, which the replicator may not have noticed yet.
func (o *Sync) checkSource(ctx context.Context, synced []*Group) {
	var back []*Offset
	topics := map[string]bool{}
	byMirror := map[string]*model.Mirror{}
	for _, m := range o.Mirrors {
		byMirror[m.Topic] = m
	}
	for _, g := range synced {
		for _, c := range g.Offsets {
			if m := byMirror[c.At.Topic]; c.Write && c.To < c.committed && m.SourceTopicID != (kadm.TopicID{}) {
				back = append(back, c)
				topics[m.SourceTopic] = true
			}
		}
	}
	if len(back) == 0 {
		return
	}
	meta, err := o.Source.Admin.Metadata(ctx, slices.Sorted(maps.Keys(topics))...)
	for _, c := range back {
		m := byMirror[c.At.Topic]
		if t, ok := meta.Topics[m.SourceTopic]; err != nil || !ok || t.Err != nil || t.ID != m.SourceTopicID {
			c.Write = false
		}
	}
}

// Write commits what was decided, for groups that are not active.
func (o *Sync) write(ctx context.Context, synced []*Group) {
	var due []*Group
	for _, g := range synced {
		g.Active = len(g.Offsets) > 0 && o.States[g.Group].Active()
		if !g.Active && !o.Dry && slices.ContainsFunc(g.Offsets, func(c *Offset) bool { return c.Write }) {
			due = append(due, g)
		}
	}
	parallel.ForEach(len(due), func(i int) { o.commit(ctx, due[i]) })
}

// maxCommitBytes bounds one commit: the coordinator writes it as one batch.
const maxCommitBytes = 256 << 10

// Commit commits the offsets of one group.
func (o *Sync) commit(ctx context.Context, g *Group) {
	mirrors := o.To.State().Mirrors
	var commits []*groups.Commit
	var of []*Offset
	size := 0
	flush := func() {
		if len(commits) == 0 || g.Active {
			return
		}
		o.To.Commit(ctx, g.Group, commits)
		for i, c := range commits {
			switch {
			case c.Err == nil:
				of[i].Written = true
			case inUse(c.Err):
				g.Active = true
			default:
				g.Err = fmt.Errorf("could not commit offsets of topic '%s' at the destination: %w", c.Topic, c.Err)
			}
		}
		commits, of, size = nil, nil, 0
	}
	for _, c := range g.Offsets {
		// The mirror may have been stopped, or made anew, since the offsets were read.
		now := mirrors[c.At.Topic]
		if !c.Write || now == nil || o.Mirrors[now.SourceTopic] == nil || now.TopicID != o.Mirrors[now.SourceTopic].TopicID || !o.Takes(now) {
			continue
		}
		commits = append(commits, &groups.Commit{
			Group: g.Group, Topic: c.At.Topic, TopicID: now.TopicID, Partition: c.At.Partition, Committed: c.committed, End: c.To, Metadata: c.metadata,
		})
		of = append(of, c)
		if size += 64 + len(c.At.Topic) + len(c.metadata); size > maxCommitBytes {
			flush()
		}
	}
	flush()
}

// inUse reports whether the destination refuses a commit because the group has members.
func inUse(err error) bool {
	return errors.Is(err, kerr.UnknownMemberID) || errors.Is(err, kerr.StaleMemberEpoch) || errors.Is(err, kerr.IllegalGeneration) || errors.Is(err, kerr.RebalanceInProgress)
}

// remember stores what is known about a group now. For an offset that could not be written it keeps
// the old memory, so that the next run still sees the change at the source.
func (o *Sync) remember(g *Group) {
	seen := make(map[Partition]Seen, len(g.Offsets))
	for _, c := range g.Offsets {
		switch {
		case c.Written:
			seen[c.At] = Seen{c.Source, c.To}
		case c.Write:
			seen[c.At] = c.last
		default:
			seen[c.At] = c.left()
		}
	}
	o.Memory.Keep(g.Group, seen, o.Part)
}

// Behind reports whether the destination lacks this offset: whether the sync would write it if the
// mirror had every record.
func (o *Offset) Behind() bool {
	whole := o.Case
	whole.End = max(whole.End, whole.Source)
	to, write := whole.decide()
	// Going down counts only if the sync itself would lower the offset: checkSource may have
	// refused that.
	return write && to != o.committed && (to > o.committed || o.Write)
}
