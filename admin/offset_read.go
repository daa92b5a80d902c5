package admin

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"klink/admin/model"
	"klink/admin/store"

	"github.com/twmb/franz-go/pkg/kerr"
)

// The input of an offsetSync: the offsets that are committed at both clusters, and the ends of the
// mirrors.

// atSource asks for the offsets of groups at the source and leaves out groups that have none for
// the mirrors.
func (o *offsetSync) atSource(ctx context.Context, groups []string) (synced []*syncedGroup) {
	fetched := o.source.Admin.FetchManyOffsets(ctx, groups...)
	for _, group := range groups {
		f, ok := fetched[group]
		if !ok {
			f.Err = errors.New("no answer from the coordinator")
		}
		g := &syncedGroup{group: group}
		switch {
		case errors.Is(f.Err, kerr.GroupIDNotFound):
			continue // deleted since it was listed
		case f.Err != nil:
			g.err = fmt.Errorf("could not read the offsets at the source: %w", f.Err)
			synced = append(synced, g)
			continue
		}
		for topic, m := range o.mirrors {
			for partition, c := range f.Fetched[topic] {
				if c.Err != nil {
					g.err = fmt.Errorf("could not read the offsets of topic '%s' at the source: %w", topic, c.Err)
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
			f.Err = errors.New("no answer from the coordinator")
		}
		if f.Err != nil && !errors.Is(f.Err, kerr.GroupIDNotFound) {
			g.err, g.offsets = fmt.Errorf("could not read the offsets at the destination: %w", f.Err), nil
			continue
		}
		g.offsets = slices.DeleteFunc(g.offsets, func(c *syncedOffset) bool {
			there, ok := f.Fetched.Lookup(c.at.topic, c.at.partition)
			switch {
			case !ok:
				return false
			case there.Err != nil:
				g.err = fmt.Errorf("could not read the offsets of topic '%s' at the destination: %w", c.at.topic, there.Err)
				return true
			}
			c.committed, c.epoch = there.At, there.LeaderEpoch
			c.offsetCase.metadata = there.Metadata != c.metadata
			return false
		})
	}
}

// learnEnds fills in where the mirrors end for readers. The replicator of this process may report
// an old end if another instance owns the partition, but never one that is too high. So klink asks
// the destination only if the reported end is below an offset that is to be synced.
func (o *offsetSync) learnEnds(ctx context.Context, synced []*syncedGroup) {
	status := map[string][]model.PartitionStatus{}
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

// endsForReaders returns the logical ends of partitions at the destination. Partitions whose end
// cannot be found out are missing.
func (s *Service) endsForReaders(ctx context.Context, partitions map[string][]int32) map[partitionOf]int64 {
	ends := map[partitionOf]int64{}
	if len(partitions) == 0 {
		return ends
	}
	listed, err := s.admin.ListEndOffsets(ctx, slices.Sorted(maps.Keys(partitions))...)
	if err != nil {
		s.log.Debug("could not list the end offsets of mirrors at the destination", "error", err)
	}
	for topic, ps := range partitions {
		timelines := s.State().Timelines[topic]
		for _, p := range ps {
			end, ok := listed.Lookup(topic, p)
			if !ok || end.Err != nil || int(p) >= len(timelines) || timelines[p].Floor() == store.OutOfRange {
				continue
			}
			if logical, ok := s.findEnd(ctx, topic, p, timelines[p], end.Offset); ok {
				ends[partitionOf{topic, p}] = logical
			}
		}
	}
	return ends
}
