package admin

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"klink/admin/filter"
	"klink/admin/groups"
	"klink/admin/linkconfig"
	"klink/admin/model"
	"klink/admin/offsets"
	"klink/admin/sources"
	"klink/internal/parallel"
	"klink/protocol"

	"github.com/twmb/franz-go/pkg/kerr"
)

// groupsPatience bounds how long klink looks at groups before it answers a promotion that is only
// validated.
const groupsPatience = 15 * time.Second

// groupsBehind counts the groups whose offsets a promotion of a mirror would still have to carry
// over.
type groupsBehind struct {
	synced bool // the promotion carries offsets over
	n      int  // groups; -1 = not known
	note   string
}

func groupsUnknown(synced bool, format string, args ...any) groupsBehind {
	return groupsBehind{synced, -1, fmt.Sprintf(format, args...)}
}

func (b groupsBehind) wire() (synced bool, behind int32, message *string) {
	if b.note != "" {
		message = &b.note
	}
	return b.synced, int32(b.n), message
}

// groupsBehind looks at the groups of mirrors that could be promoted, once for all mirrors of a
// link. It writes nothing. It compares the offsets as the final sync would once the mirror has
// every record.
func (s *Service) groupsBehind(ctx context.Context, topics []string) map[string]groupsBehind {
	ctx, cancel := context.WithTimeout(ctx, groupsPatience)
	defer cancel()
	state := s.State()
	found := map[string]groupsBehind{}
	byLink := map[string][]string{}
	for _, topic := range topics {
		switch m := state.Mirrors[topic]; {
		case m == nil: // it was deleted a moment ago
		case m.State == model.MirrorStopped:
			found[topic] = groupsUnknown(false, "the group offsets of a STOPPED topic no longer follow the source")
		case !slices.Contains(byLink[m.Link], topic):
			byLink[m.Link] = append(byLink[m.Link], topic)
		}
	}
	links := slices.Sorted(maps.Keys(byLink))
	results := make([]map[string]groupsBehind, len(links))
	parallel.ForEach(len(links), func(i int) {
		of := byLink[links[i]]
		l := state.Links[links[i]]
		every := func(b groupsBehind) {
			results[i] = map[string]groupsBehind{}
			for _, topic := range of {
				results[i][topic] = b
			}
		}
		switch {
		case l == nil:
			every(groupsUnknown(false, "link %q no longer exists", links[i]))
			return
		case !syncsOffsets(l):
			every(groupsUnknown(false, "its link does not sync group offsets (%s)", linkconfig.ConfigOffsetSync))
			return
		}
		var err error
		if results[i], err = s.groupsBehindOf(ctx, l, of); err != nil {
			every(groupsUnknown(true, "could not find out how far groups are behind: %.500s", taskError(err).Message))
		}
	})
	for _, r := range results {
		maps.Copy(found, r)
	}
	return found
}

// groupsBehindOf is groupsBehind for mirrors of one link that syncs offsets.
func (s *Service) groupsBehindOf(ctx context.Context, l *model.Link, topics []string) (map[string]groupsBehind, error) {
	filters, err := filter.ParseGroups(linkconfig.Value(l.Configs, linkconfig.ConfigGroupFilters))
	if err != nil {
		return nil, protocol.Errorf(kerr.InvalidConfig, "%s: %s", linkconfig.ConfigGroupFilters, err)
	}
	source, failed := sources.Connect(ctx, s.cfg.LinkFiles, l.Name, l.Configs)
	if failed != nil {
		return nil, failed
	}
	defer source.Close()
	defer source.CloseAfter(ctx)()
	if l.SourceClusterID != "" && source.ClusterID != l.SourceClusterID {
		return nil, protocol.Errorf(kerr.InvalidConfig, "bootstrap.servers points to a different cluster than the one that the link was created for")
	}
	if err := s.offsetsElsewhere(ctx, l); err != nil {
		return nil, err
	}
	listed, err := groups.List(ctx, source.Client)
	if err != nil {
		return nil, source.Failed("list groups", err)
	}
	o := s.offsetSync(l, source, offsets.MirrorsOf(s.State(), l.Name, func(m *model.Mirror) bool {
		return slices.Contains(topics, m.Topic) && (offsets.TakesLast(m) || m.State == model.MirrorPending)
	}))
	o.Part, o.Dry = true, true
	if o.States, err = groups.List(ctx, s.client); err != nil {
		return nil, fmt.Errorf("could not list the groups of the destination: %w", err)
	}
	var names []string
	for group, g := range listed {
		if g.Kind != "share" && filters.Match(group) {
			names = append(names, group)
		}
	}
	slices.Sort(names)
	behind, active := map[string]int{}, map[string][]string{}
	var errs offsetErrors
	o.Run(ctx, names, func(g *offsets.Group) {
		if g.Err != nil {
			errs.add(g.Group, g.Err)
		}
		last := ""
		for _, c := range g.Offsets { // in the order of their topics
			if c.At.Topic == last || !c.Behind() {
				continue
			}
			last = c.At.Topic
			if g.Active {
				active[last] = append(active[last], g.Group)
			} else {
				behind[last]++
			}
		}
	})
	switch list := errs.list(); {
	case ctx.Err() != nil:
		return nil, fmt.Errorf("could not check all groups in the time allowed: %w", ctx.Err())
	case len(list) > 0:
		return nil, protocol.Errorf(kerr.UnknownServerError, "%s", list[0].Message)
	}
	found := map[string]groupsBehind{}
	for _, topic := range topics {
		b := groupsBehind{synced: true, n: behind[topic]}
		if busy := active[topic]; len(busy) > 0 {
			b.note = fmt.Sprintf("klink leaves alone the offsets of groups that are active at the destination: %.500s", groups.Named(busy))
		}
		found[topic] = b
	}
	return found, nil
}
