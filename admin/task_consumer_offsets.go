package admin

import (
	"context"
	"errors"
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
	"klink/admin/store"
)

// consumerOffsetTask copies committed offsets of groups from the source to mirrors. See
// offsets.Case for which offsets it writes, and offsets.Sync for how.
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
	return s.syncGroups(ctx, s.offsetSync(r.link, r.source, offsets.MirrorsOf(s.State(), r.link.Name, offsets.Takes)))
}

// syncOffsetsOf copies the committed offsets of some mirrors of a link, as its group filters say.
// It is for mirrors that have all records of their source and are about to stop. It does nothing if
// the link syncs no offsets. ctx bounds how long it tries; the errors say what it could not do.
func (s *Service) syncOffsetsOf(ctx context.Context, l *model.Link, topics []string) []model.TaskError {
	if !syncsOffsets(l) {
		return nil
	}
	mirrors := offsets.MirrorsOf(s.State(), l.Name, func(m *model.Mirror) bool { return offsets.TakesLast(m) && slices.Contains(topics, m.Topic) })
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
	o.Part, o.Takes = true, offsets.TakesLast
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

func (s *Service) offsetSync(l *model.Link, source *sources.Source, mirrors map[string]*model.Mirror) *offsets.Sync {
	return &offsets.Sync{To: s.offsetDestination(), Link: l, Source: source, Mirrors: mirrors, Takes: offsets.Takes, Memory: s.offsetMemory(l)}
}

// offsetDestination is this service's destination for an offsets.Sync.
func (s *Service) offsetDestination() offsets.Destination {
	return offsets.Destination{
		Admin: s.admin, State: s.State, Ends: s.endsForReaders, Commit: s.commitToTheEnd,
		Status: func(topic string) []model.PartitionStatus {
			if r := s.reporter.Load(); r != nil && *r != nil {
				return (*r).Status(topic)
			}
			return nil
		},
	}
}

// commitPatience is how long klink waits for the answer to a commit that it has sent.
const commitPatience = 10 * time.Second

// commitToTheEnd is Send to the destination, except that the end of ctx does not cancel a commit
// that was sent: klink still waits for its answer. Nobody may take a sync for finished while one of
// its commits is in flight. Only the shutdown of klink interrupts the wait.
func (s *Service) commitToTheEnd(ctx context.Context, group string, commits []*groups.Commit) {
	if err := ctx.Err(); err != nil {
		for _, c := range commits {
			c.Err = err
		}
		return
	}
	sending, cancel := context.WithTimeout(context.WithoutCancel(ctx), commitPatience)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	groups.Send(sending, s.client, group, commits)
}

// endsForReaders returns the logical ends of partitions at the destination. Partitions whose end
// cannot be found out are missing.
func (s *Service) endsForReaders(ctx context.Context, partitions map[string][]int32) map[offsets.Partition]int64 {
	ends := map[offsets.Partition]int64{}
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
				ends[offsets.Partition{Topic: topic, Partition: p}] = logical
			}
		}
	}
	return ends
}

// syncGroups syncs the groups that the link's filters name.
func (s *Service) syncGroups(ctx context.Context, o *offsets.Sync) []model.TaskError {
	filters, err := filter.ParseGroups(linkconfig.Value(o.Link.Configs, linkconfig.ConfigGroupFilters))
	if err != nil {
		return []model.TaskError{{Code: model.ErrInternal, Message: linkconfig.ConfigGroupFilters + ": " + err.Error()}}
	}
	if len(o.Mirrors) == 0 {
		return nil
	}
	var found offsetErrors
	listed, err := groups.List(ctx, o.Source.Client)
	if err != nil {
		found.add("", o.Source.Failed("list groups", err))
	}
	complete := err == nil
	o.States, err = groups.List(ctx, s.client)
	if err != nil {
		// If a group is active, the destination refuses what klink commits for it.
		s.log.Debug("could not list all groups of the destination", "error", err)
	}
	var groups []string
	for group, g := range listed {
		if g.Kind != "share" && filters.Match(group) {
			groups = append(groups, group)
		}
	}
	slices.Sort(groups)
	begun, wrote := time.Now(), 0
	o.Run(ctx, groups, func(g *offsets.Group) {
		for _, c := range g.Offsets {
			if c.Written {
				wrote++
			}
		}
		switch {
		case g.Active:
			found.inUse(g.Group, o.States[g.Group].State)
		case g.Err != nil:
			found.add(g.Group, g.Err)
		}
	})
	if ctx.Err() != nil {
		return append(found.list(), taskError(fmt.Errorf("could not check all committed offsets: %w", ctx.Err())))
	}
	if wrote > 0 {
		s.log.Debug("carried over committed offsets from the source", "link", o.Link.Name, "groups", len(groups), "offsets", wrote, "took", time.Since(begun))
	}
	if complete && !o.Part {
		if unlock, err := o.Memory.Take(ctx); err == nil {
			o.Memory.Retain(groups)
			unlock()
		}
	}
	if err := s.saveOffsets(ctx, o.Link, o.Memory); err != nil {
		s.log.Warn("could not store which committed offsets were synced, will retry", "link", o.Link.Name, "error", err)
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
			err.Message = fmt.Sprintf("groups %.1000s: %s", groups.Named(of.groups), message)
			if n == 1 {
				err.Message = fmt.Sprintf("group '%.260s': %s", of.groups[0], message)
			}
		}
		errs = append(errs, err)
	}
	return append(errs, e.active...)
}

// offsetMemory returns what this instance remembers of a link's offsets.
func (s *Service) offsetMemory(l *model.Link) *offsets.Memory {
	s.offsetsMu.Lock()
	defer s.offsetsMu.Unlock()
	m := s.offsets[l.ID]
	if m == nil {
		m = offsets.NewMemory(s.store.Offsets(l.Name, l.ID))
		if s.offsets == nil {
			s.offsets = map[string]*offsets.Memory{}
		}
		s.offsets[l.ID] = m
		ids := map[string]bool{l.ID: true}
		for _, other := range s.State().Links {
			ids[other.ID] = true
		}
		maps.DeleteFunc(s.offsets, func(id string, _ *offsets.Memory) bool { return !ids[id] })
	}
	return m
}

// rereadOffsets replaces what this instance remembers of a link's offsets with what is stored.
func (s *Service) rereadOffsets(ctx context.Context, l *model.Link) error {
	m := s.offsetMemory(l)
	unlock, err := m.Take(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	m.Reset(s.store.Offsets(l.Name, l.ID))
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
func (s *Service) saveOffsets(ctx context.Context, l *model.Link, m *offsets.Memory) error {
	unlock, err := m.Take(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if !m.Due() {
		return nil
	}
	record, changed := m.Record(l.ID)
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
	m.WasSaved(record)
	return nil
}
