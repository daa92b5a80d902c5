package admin

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"klink/admin/filter"
	"klink/admin/linkconfig"
	"klink/admin/model"
	"klink/admin/sources"
	"klink/admin/store"
)

// consumerOffsetTask copies committed offsets of groups from the source to mirrors. See offsetCase
// for which offsets it writes, and offsetSync for how.
var consumerOffsetTask = &task{name: "ConsumerOffsetSync", interval: linkconfig.ConfigOffsetSyncMs, configured: syncsOffsets, begin: (*Service).announceFilters, run: syncConsumerOffsets}

// syncsOffsets reports whether a link syncs the offsets of any group.
func syncsOffsets(l *model.Link) bool { return wantsOffsets(l.Configs) }

func wantsOffsets(configs map[string]string) bool {
	filters, err := filter.ParseGroups(linkconfig.Value(configs, linkconfig.ConfigGroupFilters))
	return linkconfig.Value(configs, linkconfig.ConfigOffsetSync) == "true" &&
		(err != nil || slices.ContainsFunc(filters, func(f filter.Name) bool { return f.FilterType == filter.Include }))
}

func syncConsumerOffsets(ctx context.Context, s *Service, r *taskRun) []model.TaskError {
	if r.memory == nil {
		// Another instance may have synced this link in the past and stored newer offsets.
		if err := s.rereadOffsets(ctx, r.link); err != nil {
			return []model.TaskError{taskError(err)}
		}
		r.memory = true
	}
	return s.syncGroups(ctx, s.offsetSync(r.link, r.source, mirrorsOf(s.State(), r.link.Name, takesOffsets)))
}

// syncOffsetsOf copies the committed offsets of some mirrors of a link, as its group filters say.
// It is for mirrors that have all records of their source and are about to stop. It does nothing if
// the link syncs no offsets. ctx bounds how long it tries; the errors say what it could not do.
func (s *Service) syncOffsetsOf(ctx context.Context, l *model.Link, topics []string) []model.TaskError {
	if !syncsOffsets(l) {
		return nil
	}
	mirrors := mirrorsOf(s.State(), l.Name, func(m *model.Mirror) bool { return takesLastOffsets(m) && slices.Contains(topics, m.Topic) })
	if len(mirrors) == 0 {
		return nil
	}
	source, err := sources.Connect(ctx, s.cfg.LinkFiles, l.Name, l.Configs)
	if err != nil {
		return []model.TaskError{taskError(err)}
	}
	defer source.Close()
	if l.SourceClusterID != "" && source.ClusterID != l.SourceClusterID {
		return []model.TaskError{{Code: model.ErrSourceClusterChanged, Message: "bootstrap.servers points to a different cluster than the one that the link was created for"}}
	}
	if err := s.offsetsElsewhere(ctx, l); err != nil {
		return []model.TaskError{taskError(err)}
	}
	o := s.offsetSync(l, source, mirrors)
	o.part, o.takes = true, takesLastOffsets
	return s.syncGroups(ctx, o)
}

// finalOffsets is syncOffsetsOf for mirrors that are being stopped. It returns, by topic and for
// people, what could not be done.
func (s *Service) finalOffsets(ctx context.Context, link string, topics []string) (notes map[string][]string) {
	l := s.State().Links[link]
	if l == nil {
		return nil
	}
	errs := s.syncOffsetsOf(ctx, l, topics)
	if len(errs) == 0 {
		return nil
	}
	note := fmt.Sprintf("some committed offsets of groups were not carried over from the source: %s: %.500s", errs[0].Code, errs[0].Message)
	if more := len(errs) - 1; more > 0 {
		note += fmt.Sprintf(", and %d more errors", more)
	}
	notes = map[string][]string{}
	for _, topic := range topics {
		notes[topic] = []string{note}
	}
	return notes
}

func (s *Service) offsetSync(l *model.Link, source *sources.Source, mirrors map[string]*model.Mirror) *offsetSync {
	return &offsetSync{s: s, link: l, source: source, mirrors: mirrors, takes: takesOffsets, memory: s.offsetMemory(l)}
}

// syncGroups syncs the groups that the link's filters name.
func (s *Service) syncGroups(ctx context.Context, o *offsetSync) []model.TaskError {
	filters, err := filter.ParseGroups(linkconfig.Value(o.link.Configs, linkconfig.ConfigGroupFilters))
	if err != nil {
		return []model.TaskError{{Code: model.ErrInternal, Message: linkconfig.ConfigGroupFilters + ": " + err.Error()}}
	}
	if len(o.mirrors) == 0 {
		return nil
	}
	var found offsetErrors
	listed, err := listGroupsOf(ctx, o.source.Client)
	if err != nil {
		found.add("", o.source.Failed("list groups", err))
	}
	complete := err == nil
	o.states, err = listGroupsOf(ctx, s.client)
	if err != nil {
		// If a group is active, the destination refuses what klink commits for it.
		s.log.Debug("could not list all groups of the destination", "error", err)
	}
	var groups []string
	for group, g := range listed {
		if g.kind != "share" && filters.Match(group) {
			groups = append(groups, group)
		}
	}
	slices.Sort(groups)
	begun, wrote := time.Now(), 0
	o.run(ctx, groups, func(g *syncedGroup) {
		for _, c := range g.offsets {
			if c.written {
				wrote++
			}
		}
		switch {
		case g.active:
			found.inUse(g.group, o.states[g.group].state)
		case g.err != nil:
			found.add(g.group, g.err)
		}
	})
	if ctx.Err() != nil {
		return append(found.list(), taskError(fmt.Errorf("could not check all committed offsets: %w", ctx.Err())))
	}
	if wrote > 0 {
		s.log.Debug("carried over committed offsets from the source", "link", o.link.Name, "groups", len(groups), "offsets", wrote, "took", time.Since(begun))
	}
	if complete && !o.part {
		if unlock, err := o.memory.take(ctx); err == nil {
			o.memory.retain(groups)
			unlock()
		}
	}
	if err := s.saveOffsets(ctx, o.link, o.memory); err != nil {
		s.log.Warn("could not store which committed offsets were synced, will retry", "link", o.link.Name, "error", err)
	}
	return found.list()
}

// offsetErrors collects the errors of groups: one for each active group, and one for each other
// error, whichever groups share it.
type offsetErrors struct {
	active []model.TaskError
	others map[string]*groupsError
}

type groupsError struct {
	err    error
	groups []string
}

func (e *offsetErrors) inUse(group, state string) {
	if state == "" {
		state = "it has members"
	}
	e.active = append(e.active, model.TaskError{Code: model.ErrGroupInUse, Message: groupInUse(group, state)})
}

func groupInUse(group, state string) string {
	return fmt.Sprintf("group '%.260s' is active at the destination (%s), so klink leaves its offsets alone: stop its consumers there, or exclude it in %s if it has moved", group, state, linkconfig.ConfigGroupFilters)
}

// add adds an error of a group; "" = of all groups.
func (e *offsetErrors) add(group string, err error) {
	if e.others == nil {
		e.others = map[string]*groupsError{}
	}
	of := e.others[taskError(err).Message]
	if of == nil {
		of = &groupsError{err: err}
		e.others[taskError(err).Message] = of
	}
	if group != "" {
		of.groups = append(of.groups, group)
	}
}

func (e *offsetErrors) list() (errs []model.TaskError) {
	for _, message := range slices.Sorted(maps.Keys(e.others)) {
		of := e.others[message]
		err := taskError(of.err)
		if n := len(of.groups); n > 0 {
			err.Message = fmt.Sprintf("groups %.1000s: %s", namedGroups(of.groups), message)
			if n == 1 {
				err.Message = fmt.Sprintf("group '%.260s': %s", of.groups[0], message)
			}
		}
		errs = append(errs, err)
	}
	return append(errs, e.active...)
}

// namedGroups names the first few groups, and says how many more there are.
func namedGroups(groups []string) string {
	named := strings.Join(groups[:min(len(groups), maxNamedGroups)], ", ")
	if more := len(groups) - maxNamedGroups; more > 0 {
		named += fmt.Sprintf(" and %d more", more)
	}
	return named
}

// offsetMemory returns what this instance remembers of a link's offsets.
func (s *Service) offsetMemory(l *model.Link) *offsetMemory {
	s.offsetsMu.Lock()
	defer s.offsetsMu.Unlock()
	m := s.offsets[l.ID]
	if m == nil {
		m = newOffsetMemory(s.store.Offsets(l.Name, l.ID))
		if s.offsets == nil {
			s.offsets = map[string]*offsetMemory{}
		}
		s.offsets[l.ID] = m
		ids := map[string]bool{l.ID: true}
		for _, other := range s.State().Links {
			ids[other.ID] = true
		}
		maps.DeleteFunc(s.offsets, func(id string, _ *offsetMemory) bool { return !ids[id] })
	}
	return m
}

// rereadOffsets replaces what this instance remembers of a link's offsets with what is stored.
func (s *Service) rereadOffsets(ctx context.Context, l *model.Link) error {
	m := s.offsetMemory(l)
	unlock, err := m.take(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	m.reset(s.store.Offsets(l.Name, l.ID))
	return nil
}

// offsetsElsewhere rereads the stored offsets of a link if another instance syncs it. A command
// that handles some of them here must call it first: this instance remembers what was true when it
// last owned the link.
func (s *Service) offsetsElsewhere(ctx context.Context, l *model.Link) error {
	if s.ownsLink(l.Name) {
		return nil
	}
	return s.rereadOffsets(ctx, l)
}

// saveOffsets stores what this instance remembers of a link's offsets. It skips that if they were
// stored just now, or if another instance syncs the link and so knows more.
func (s *Service) saveOffsets(ctx context.Context, l *model.Link, m *offsetMemory) error {
	unlock, err := m.take(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if !m.at.IsZero() && time.Since(m.at) < offsetsEvery {
		return nil
	}
	record, changed := m.record(l.ID)
	if !changed {
		return nil
	}
	err = s.update(ctx, func(tx *store.Tx) error {
		if !s.ownsLink(l.Name) {
			return model.ErrNotOwner
		}
		if r := tx.Offsets(l.Name, l.ID); r != nil {
			record.Filters = r.Filters
		}
		return tx.PutOffsets(l.Name, &record)
	})
	if errors.Is(err, model.ErrNotOwner) {
		return nil
	}
	if err != nil {
		return err
	}
	m.saved, m.at = record, time.Now()
	return nil
}
