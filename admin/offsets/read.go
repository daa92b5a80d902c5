package offsets

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"klink/admin/model"
	"klink/internal/kafkaclient"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// The input of an Sync: the offsets that are committed at both clusters, and the ends of the
// mirrors.

// atSource asks for the offsets of groups at the source and leaves out groups that have none for
// the mirrors.
func (o *Sync) atSource(ctx context.Context, groups []string) (synced []*Group) {
	fetched := o.Source.Admin.FetchManyOffsets(ctx, groups...)
	for _, group := range groups {
		f, ok := fetched[group]
		if !ok {
			f.Err = errors.New("no answer from the coordinator")
		}
		g := &Group{Group: group}
		switch {
		case errors.Is(f.Err, kerr.GroupIDNotFound):
			continue // deleted since it was listed
		case f.Err != nil:
			g.Err = fmt.Errorf("could not read the offsets at the source: %w", kafkaclient.NotOffered(f.Err, kmsg.OffsetFetch))
			synced = append(synced, g)
			continue
		}
		for topic, m := range o.Mirrors {
			for partition, c := range f.Fetched[topic] {
				if c.Err != nil {
					g.Err = fmt.Errorf("could not read the offsets of topic '%s' at the source: %w", topic, c.Err)
				}
				if c.Err != nil || c.At < 0 || partition < 0 || partition >= m.Partitions {
					continue
				}
				g.Offsets = append(g.Offsets, &Offset{
					Case: Case{Source: c.At, committed: -1, epoch: -1, End: -1, last: nothingSeen},
					At:   Partition{m.Topic, partition}, metadata: c.Metadata,
				})
			}
		}
		if len(g.Offsets) > 0 || g.Err != nil {
			slices.SortFunc(g.Offsets, func(a, b *Offset) int { return comparePartitions(a.At, b.At) })
			synced = append(synced, g)
		}
	}
	return synced
}

// atDestination fills in what is committed at the destination.
func (o *Sync) atDestination(ctx context.Context, synced []*Group) {
	var ask []string
	for _, g := range synced {
		if g.Offsets != nil {
			ask = append(ask, g.Group)
		}
	}
	fetched := o.To.Admin.FetchManyOffsets(ctx, ask...)
	for _, g := range synced {
		if g.Offsets == nil {
			continue
		}
		f, ok := fetched[g.Group]
		if !ok {
			f.Err = errors.New("no answer from the coordinator")
		}
		if f.Err != nil && !errors.Is(f.Err, kerr.GroupIDNotFound) {
			g.Err, g.Offsets = fmt.Errorf("could not read the offsets at the destination: %w", kafkaclient.NotOffered(f.Err, kmsg.OffsetFetch)), nil
			continue
		}
		g.Offsets = slices.DeleteFunc(g.Offsets, func(c *Offset) bool {
			there, ok := f.Fetched.Lookup(c.At.Topic, c.At.Partition)
			switch {
			case !ok:
				return false
			case there.Err != nil:
				g.Err = fmt.Errorf("could not read the offsets of topic '%s' at the destination: %w", c.At.Topic, there.Err)
				return true
			}
			c.committed, c.epoch = there.At, there.LeaderEpoch
			c.Case.metadata = there.Metadata != c.metadata
			return false
		})
	}
}

// learnEnds fills in where the mirrors end for readers. The replicator of this process may report
// an old end if another instance owns the partition, but never one that is too high. So klink asks
// the destination only if the reported end is below an offset that is to be synced.
func (o *Sync) learnEnds(ctx context.Context, synced []*Group) {
	status := map[string][]model.PartitionStatus{}
	ask := map[string][]int32{}
	for _, g := range synced {
		for _, c := range g.Offsets {
			known, ok := status[c.At.Topic]
			if !ok {
				known = o.To.Status(c.At.Topic)
				status[c.At.Topic] = known
			}
			end, ok := o.ends[c.At]
			if !ok {
				end = -1
			}
			if int(c.At.Partition) < len(known) {
				end = max(end, known[c.At.Partition].MirrorEnd)
			}
			o.ends[c.At] = end
			if end < c.Source && !o.found[c.At] {
				o.found[c.At] = true
				ask[c.At.Topic] = append(ask[c.At.Topic], c.At.Partition)
			}
		}
	}
	for at, end := range o.To.Ends(ctx, ask) {
		o.ends[at] = max(o.ends[at], end)
	}
	for _, g := range synced {
		for _, c := range g.Offsets {
			c.End = o.ends[c.At]
		}
	}
}
