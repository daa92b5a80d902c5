package admin

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"klink/admin/filter"
	"klink/admin/groups"
	"klink/admin/linkconfig"
	"klink/admin/model"
	"klink/admin/offsets"
	"klink/admin/sources"
	"klink/admin/store"
	"klink/internal/parallel"
	"klink/internal/retry"
	"klink/protocol"
	"klink/protocol/linkapi"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// A group is moved in this order:
//  1. A person stops its consumers at the source.
//  2. klink carries its offsets over once more.
//  3. klink excludes it from the link's sync, and waits until the instance that runs the sync has
//     stopped syncing it (see announceFilters).
//  4. A person starts its consumers at the destination.
//
// klink checks that the first step has happened and the last has not. Each step may be repeated:
// after an error in the middle the group is as it was.

// migratePatience is how long a migration waits for mirrors that end below the offsets of the
// group.
const migratePatience = 5 * time.Second

func (s *Service) migrateGroups(ctx context.Context, req *linkapi.MigrateGroupsRequest) *linkapi.MigrateGroupsResponse {
	ctx, cancel := withTimeout(ctx, req.TimeoutMs)
	defer cancel()
	resp := &linkapi.MigrateGroupsResponse{Results: make([]linkapi.MigratedGroup, len(req.Groups))}
	var links []string
	byLink := map[string][]int{}
	for i, g := range req.Groups {
		resp.Results[i] = linkapi.MigratedGroup{Group: g.Group, Link: g.Link}
		if byLink[g.Link] == nil {
			links = append(links, g.Link)
		}
		byLink[g.Link] = append(byLink[g.Link], i)
	}
	parallel.ForEach(len(links), func(i int) {
		of := byLink[links[i]]
		m, err := s.startMigration(ctx, links[i], req.ValidateOnly)
		if err != nil {
			for _, i := range of {
				resp.Results[i].ErrorCode, resp.Results[i].ErrorMessage = wire(asError(err))
			}
			return
		}
		defer m.source.Close()
		parallel.ForEach(len(of), func(i int) {
			result := &resp.Results[of[i]]
			partitions, err := m.group(ctx, req.Groups[of[i]])
			result.Partitions = partitions
			result.ErrorCode, result.ErrorMessage = wire(asError(err))
		})
	})
	return resp
}

// migration moves groups through one link.
type migration struct {
	s         *Service
	link      *model.Link
	source    *sources.Source
	dry       bool
	groups    map[string]groups.Listed // at the source
	notListed error                    // why groups may be missing in it
	there     map[string]groups.Listed // at the destination
}

func (s *Service) startMigration(ctx context.Context, link string, dry bool) (*migration, error) {
	if err := s.waitReady(ctx); err != nil {
		return nil, err
	}
	l := s.State().Links[link]
	switch {
	case l == nil:
		return nil, linkMissing(link)
	case l.State == model.LinkPaused || l.State == model.LinkFailed:
		return nil, protocol.Errorf(kerr.InvalidRequest, "link %q is %s, so its offsets cannot be carried over: `klink link describe %s` shows why", link, l.State, link)
	}
	source, failed := sources.Connect(ctx, s.cfg.LinkFiles, link, l.Configs)
	if failed != nil {
		return nil, failed
	}
	if l.SourceClusterID != "" && source.ClusterID != l.SourceClusterID {
		source.Close()
		return nil, protocol.Errorf(kerr.InvalidConfig, "cluster %s answers at bootstrap.servers of link %q, but the link was created for cluster %s", source.ClusterID, link, l.SourceClusterID)
	}
	if err := s.offsetsElsewhere(ctx, l); err != nil {
		source.Close()
		return nil, err
	}
	m := &migration{s: s, link: l, source: source, dry: dry}
	m.groups, m.notListed = groups.List(ctx, source.Client)
	var err error
	if m.there, err = groups.List(ctx, s.client); err != nil {
		// Not fatal: the destination refuses klink's commits for a group that is active.
		s.log.Debug("could not list all groups of the destination", "error", err)
	}
	return m, nil
}

func (m *migration) group(ctx context.Context, g linkapi.MigrateGroup) ([]linkapi.MigratedPartition, error) {
	if err := m.check(ctx, g); err != nil {
		return nil, err
	}
	synced, err := m.sync(ctx, g.Group)
	if err != nil {
		return nil, err
	}
	partitions, err := m.carried(g.Group, synced)
	if err != nil || m.dry {
		return partitions, err
	}
	if err := m.s.excludeGroup(ctx, m.link, g.Group); err != nil {
		return partitions, err
	}
	// A sync of the link, on whichever instance, may still commit offsets that it decided before it
	// knew of the exclusion. They may be older than those carried over here. Wait until it is done;
	// after that only this command writes.
	if err := m.s.awaitFilters(ctx, m.link); err != nil {
		e := asError(err)
		return partitions, protocol.Errorf(e.Code, "group '%.260s' was carried over and excluded from the sync, but its consumers must not start yet: %s: run the command again", g.Group, e.Message)
	}
	synced, err = m.syncOnce(ctx, g.Group)
	if err != nil {
		return partitions, err
	}
	return m.carried(g.Group, synced)
}

// carried returns the result for each partition of a group, and an error unless all offsets were
// carried over.
func (m *migration) carried(group string, synced *offsets.Group) ([]linkapi.MigratedPartition, error) {
	partitions := make([]linkapi.MigratedPartition, len(synced.Offsets))
	for i, c := range synced.Offsets {
		now := c.Now()
		if m.dry && c.Write {
			now = c.To
		}
		partitions[i] = linkapi.MigratedPartition{Topic: c.At.Topic, Partition: c.At.Partition, SourceOffset: c.Source, DestinationOffset: now, ClampedBy: -1}
		if c.End >= 0 {
			partitions[i].ClampedBy = max(0, c.Source-c.End)
		}
	}
	// A mirror that has not begun takes no offsets, and the group's offsets for it would stay
	// behind for good.
	left := slices.IndexFunc(synced.Offsets, func(c *offsets.Offset) bool { return c.End < 0 || c.Write && !c.Written && !m.dry })
	switch {
	case synced.Active:
		return partitions, m.busy(group, m.there[group].State)
	case synced.Err != nil:
		return partitions, fmt.Errorf("group '%.260s': %w", group, synced.Err)
	case left >= 0:
		c := synced.Offsets[left]
		return partitions, protocol.Errorf(kerr.CoordinatorNotAvailable, "the offset of group '%.260s' for partition %d of mirror topic '%s' was not carried over, because the mirror cannot accept it now (`klink mirror describe %s` shows its state): try again", group, c.At.Partition, c.At.Topic, c.At.Topic)
	}
	return partitions, nil
}

// check returns an error if a group cannot be moved, or cannot be moved now.
func (m *migration) check(ctx context.Context, g linkapi.MigrateGroup) error {
	if g.Group == "" || g.Group == "*" {
		return protocol.Errorf(kerr.InvalidGroupID, "%q cannot be moved: no filter can exclude only this group", g.Group)
	}
	if model.IsOwnName(g.Group) {
		return protocol.Errorf(kerr.InvalidGroupID, "group '%.260s' belongs to klink and cannot be moved", g.Group)
	}
	listed, ok := m.groups[g.Group]
	switch {
	case !ok && m.notListed != nil:
		return m.source.Failed("list groups", m.notListed)
	case !ok:
		return protocol.Errorf(kerr.GroupIDNotFound, "the source of link %q has no group '%.260s' that the link's user may describe", m.link.Name, g.Group)
	case listed.Kind == "share":
		return protocol.Errorf(kerr.InvalidGroupID, "group '%.260s' is a share group; klink carries over the offsets of consumer groups", g.Group)
	}
	if !g.Force {
		state, err := stateOf(ctx, m.source, g.Group, listed)
		if err != nil {
			return m.source.Failed("describe the group '"+g.Group+"'", err)
		}
		if (groups.Listed{State: state}).Active() {
			return protocol.Errorf(kerr.NonEmptyGroup, "group '%.260s' is active at the source (%s): stop its consumers there first, or what they commit from now on is not carried over", g.Group, state)
		}
	}
	if there := m.there[g.Group]; there.Active() {
		return m.busy(g.Group, there.State)
	}
	return nil
}

func (m *migration) busy(group, state string) error {
	moved := ""
	if filters, err := filter.ParseGroups(linkconfig.Value(m.link.Configs, linkconfig.ConfigGroupFilters)); err == nil && excludes(filters, group) {
		moved = "; the link already excludes it, so it was moved before"
	}
	if state == "" {
		state = "it has members"
	}
	return protocol.Errorf(kerr.NonEmptyGroup, "%s: group '%.260s' is active at the destination (%s), so klink cannot set its offsets: stop its consumers there first%s", model.ErrGroupInUse, group, state, moved)
}

// stateOf returns the state of a group. It asks for it where ListGroups did not tell (brokers
// before Kafka 2.6).
func stateOf(ctx context.Context, source *sources.Source, group string, listed groups.Listed) (string, error) {
	if listed.State != "" {
		return listed.State, nil
	}
	// kadm would also decode the members' metadata, which may be anything of any size.
	req := kmsg.NewPtrDescribeGroupsRequest()
	req.Groups = []string{group}
	resp, err := req.RequestWith(ctx, source.Client)
	if err != nil {
		return "", err
	}
	if len(resp.Groups) != 1 {
		return "", fmt.Errorf("the source answered with %d groups for group '%.260s'", len(resp.Groups), group)
	}
	return resp.Groups[0].State, kerr.ErrorForCode(resp.Groups[0].ErrorCode)
}

// sync carries over the offsets of a group. It repeats that while mirrors end below them, for at
// most migratePatience.
func (m *migration) sync(ctx context.Context, group string) (synced *offsets.Group, err error) {
	for until := time.Now().Add(migratePatience); ; {
		if synced, err = m.syncOnce(ctx, group); err != nil {
			return nil, err
		}
		behind := slices.ContainsFunc(synced.Offsets, func(c *offsets.Offset) bool { return c.End < c.Source })
		if synced.Active || synced.Err != nil || !behind || m.dry || time.Now().After(until) {
			return synced, nil
		}
		if retry.Sleep(ctx, 100*time.Millisecond) != nil {
			return synced, nil
		}
	}
}

// syncOnce carries over the offsets of a group as far as the mirrors have got.
func (m *migration) syncOnce(ctx context.Context, group string) (synced *offsets.Group, err error) {
	o := m.s.offsetSync(m.link, m.source, offsets.MirrorsOf(m.s.State(), m.link.Name, func(m *model.Mirror) bool { return offsets.TakesLast(m) || m.State == model.MirrorPending }))
	o.States, o.Asked, o.Dry, o.Takes = m.there, true, m.dry, offsets.TakesLast
	o.Run(ctx, []string{group}, func(g *offsets.Group) { synced = g })
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("the offsets of group '%.260s' were not carried over in time: %w", group, err)
	}
	if synced == nil {
		return nil, protocol.Errorf(kerr.GroupIDNotFound, "group '%.260s' has no committed offset at the source for a mirror topic of link %q that is not stopped", group, m.link.Name)
	}
	return synced, nil
}

// excludes reports whether a filter excludes exactly this group.
func excludes(filters filter.Names, group string) bool {
	return slices.Contains(filters, filter.Name{Name: group, PatternType: filter.Literal, FilterType: filter.Exclude})
}

// excludeGroup adds a filter that excludes a group to the filters of a link. Concurrent changes of
// the link are kept.
func (s *Service) excludeGroup(ctx context.Context, l *model.Link, group string) error {
	err := s.update(ctx, func(tx *store.Tx) error {
		r, err := tx.Link(l.Name)
		if err != nil {
			return err
		}
		if r == nil || r.ID != l.ID {
			return linkMissing(l.Name)
		}
		filters, err := filter.ParseGroups(r.Configs[linkconfig.ConfigGroupFilters])
		if err != nil {
			return protocol.Errorf(kerr.InvalidConfig, "%s: %s", linkconfig.ConfigGroupFilters, err)
		}
		if excludes(filters, group) {
			return nil
		}
		value := append(filters, filter.Name{Name: group, PatternType: filter.Literal, FilterType: filter.Exclude}).Encode(filter.GroupField)
		if err := linkconfig.ValidateOne(linkconfig.ConfigGroupFilters, value); err != nil {
			return err
		}
		r = r.Clone()
		r.Configs[linkconfig.ConfigGroupFilters] = value
		return tx.PutLink(l.Name, r)
	})
	if err != nil && !errors.As(err, new(*protocol.Error)) {
		err = fmt.Errorf("group '%.260s' was carried over, but could not be excluded from the sync: %w", group, err)
	}
	return err
}
