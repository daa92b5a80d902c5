package replicator

import (
	"cmp"
	"context"
	"reflect"
	"slices"
	"time"

	"klink/admin/linkconfig"
	"klink/admin/model"
	"klink/protocol/timeline"
	"klink/replicator/core"
	"klink/replicator/group"

	"golang.org/x/sync/errgroup"
)

const (
	// reconcileInterval is the time between rounds if nothing asks for one earlier.
	reconcileInterval = time.Second
	reportTimeout     = 10 * time.Second
	// reportAgain is the time after which a finding is reported again if the state does not show
	// it.
	reportAgain = 5 * time.Second
)

// report remembers a finding that was reported, so that it is not reported again before the state
// shows it.
type report struct {
	event model.Event
	at    time.Time
}

// reconcileUntil makes what runs match Control's state until ctx ends. It works on levels, not on
// edges: each round compares everything that should run with everything that runs. So a lost
// wake-up or a failed report costs one round, and no more.
func (r *Replicator) reconcileUntil(ctx context.Context) {
	ticks, cancel := r.cfg.Control.Subscribe()
	defer cancel()
	t := time.NewTicker(reconcileInterval)
	defer t.Stop()
	for ctx.Err() == nil {
		r.reconcile(ctx, r.look())
		select {
		case <-ctx.Done():
		case <-ticks:
		case <-r.kick:
		case <-t.C:
		}
	}
}

func (r *Replicator) reconcile(ctx context.Context, st *model.State) {
	if r.inherited == nil {
		r.inherited = map[partitionAt]bool{}
		for topic, tls := range st.Timelines {
			for p := range tls {
				r.inherited[partitionAt{topic, int32(p)}] = true
			}
		}
	}
	r.followSlots(st)
	r.reconcileSources(st)
	r.reconcileMirrors(st)
	for _, s := range r.sources {
		s.begin() // only now that it has its mirrors, so that its first request is about them
	}
	r.letGo(st)
	r.reportLinks(ctx, st)
	r.reportMirrors(ctx, st)
	r.forgetRepairs(st)
}

// look takes the snapshot of a round. It reads which slots this instance works on before it reads
// the state. So the state includes what was fenced when the slots were given: an instance that
// works on a slot knows everything that the slot's former owners have stored.
func (r *Replicator) look() *model.State {
	r.seen = r.owner.termsNow()
	return r.cfg.Control.State()
}

// term returns the term of a slot that this instance works on in this round, 0 = it does not.
func (r *Replicator) term(slot int) uint64 {
	if r.seen[slot] == 0 || r.owner.term(slot) != r.seen[slot] {
		return 0
	}
	return r.seen[slot]
}

// share returns the partitions of a mirror that this instance works on in this round.
func (r *Replicator) share(topic string, partitions int) (here []int32) {
	first := group.TopicSlot(topic)
	for p := range partitions {
		if r.seen[(first+p)%group.Slots] != 0 {
			here = append(here, int32(p))
		}
	}
	return here
}

// wants reports whether this instance has to run a mirror.
func (r *Replicator) wants(m *model.Mirror, st *model.State) bool {
	return len(r.share(m.Topic, max(int(m.Partitions), len(st.Timelines[m.Topic])))) > 0 && wanted(m, st.Links[m.Link])
}

// wanted reports whether a mirror in this state has to run.
func wanted(m *model.Mirror, link *model.Link) bool {
	if link == nil || link.State == model.LinkPaused || link.State == model.LinkFailed {
		return false
	}
	switch m.State {
	case model.MirrorPending, model.MirrorActive, model.MirrorSourceUnavailable:
		return true
	}
	return false
}

func (r *Replicator) reconcileSources(st *model.State) {
	for name, s := range r.sources {
		link := st.Links[name]
		if link != nil && link.State != model.LinkPaused && linkconfig.Fingerprint(link.Configs) == s.fingerprint && r.needsSource(name, st) {
			continue
		}
		s.close()
		delete(r.sources, name)
	}
	for name, link := range st.Links {
		if link.State == model.LinkPaused || r.sources[name] != nil || !r.needsSource(name, st) {
			continue
		}
		s, err := newSource(r, link)
		if err != nil {
			r.log.Error("could not create a client from the configs of a link", "link", name, "error", err)
			continue
		}
		r.sources[name] = s
		for _, m := range r.mirrorsNow() {
			if m.link == name {
				s.add(m)
			}
		}
	}
}

func (r *Replicator) reconcileMirrors(st *model.State) {
	for _, m := range r.mirrorsNow() {
		am := st.Mirrors[m.topic]
		switch {
		case am == nil || keyOf(am) != m.mirrorKey:
			m.stop(true)
		case !r.wants(am, st) || m.failed() != nil || m.lost.Load():
			m.stop(false)
		default:
			m.setPolicy(am.CleanupPolicy)
			r.fit(m, am, st.Timelines[m.topic], false)
		}
		// A mirror that failed stays, so that its failure is reported until the state shows it. A
		// mirror that was stopped is removed, even if it is wanted again: the next round makes a
		// new one.
		if m.ended() && (am == nil || keyOf(am) != m.mirrorKey || !r.wants(am, st) || m.failed() == nil || m.lost.Load()) {
			if am != nil && keyOf(am) == m.mirrorKey && am.State == model.MirrorPendingStopped && !m.lost.Load() {
				for _, w := range m.all() {
					if (w.closing || m.failed() == nil) && r.term(w.slot) == w.term {
						r.closed[partitionAt{m.topic, w.id}] = closed{m.mirrorKey, w.end()}
					}
				}
			}
			r.remove(m)
		}
	}
	r.forgetLast(st)
	partitions := 0
	for topic, am := range st.Mirrors {
		tls := st.Timelines[topic]
		here := r.share(topic, len(tls))
		partitions += len(here)
		if len(here) == 0 || r.mirror(topic) != nil {
			continue
		}
		s := r.sources[am.Link]
		closing := am.State == model.MirrorPendingStopped && slices.ContainsFunc(here, func(p int32) bool { return !r.hasEnded(am, p) })
		if !closing && (s == nil || !wanted(am, st.Links[am.Link])) {
			continue
		}
		key := keyOf(am)
		r.mu.Lock()
		before := r.last[topic]
		if before.mirrorKey != key {
			before.partitions = nil
		}
		m := newMirror(r, key, am.SourceTopicID, len(tls), before.partitions)
		r.mirrors[topic] = m
		delete(r.last, topic)
		r.mu.Unlock()
		m.setPolicy(am.CleanupPolicy)
		r.fit(m, am, tls, closing)
		if closing {
			m.stop(false)
		} else {
			s.add(m)
		}
	}
	r.partitions.Store(int64(partitions))
}

// hasEnded reports whether nothing more will be appended to a partition of a mirror that is being
// stopped: this instance has settled it, or its owner has stored that it ended.
func (r *Replicator) hasEnded(am *model.Mirror, partition int32) bool {
	_, closed := r.closed[partitionAt{am.Topic, partition}]
	return closed || am.HasEnded(partition)
}

// fit makes a mirror run the partitions whose slots this instance works on, and no others. The
// mirror must be in r.mirrors already, so that loseAll reaches it if the lease ends from now on.
func (r *Replicator) fit(m *mirror, am *model.Mirror, tls []*timeline.Partition, closing bool) {
	m.grow(len(tls))
	var gone []*worker
	run := make([]bool, len(tls))
	for _, w := range m.all() {
		if r.term(w.slot) == w.term {
			run[w.id] = true
			continue
		}
		w.step((*core.Partition).Stop)
		if run[w.id] = true; w.ended() {
			gone, run[w.id] = append(gone, w), false
		}
	}
	if len(gone) > 0 {
		r.remember(m.topic, m.mirrorKey, m.status())
		m.drop(gone)
		r.spawn(func(ctx context.Context) { r.store(ctx, gone, func(*worker) bool { return true }) })
	}
	begun := false
	for _, id := range r.share(m.topic, len(tls)) {
		at := partitionAt{m.topic, id}
		term := r.term(at.slot())
		if term == 0 || run[id] || closing && r.hasEnded(am, id) {
			continue
		}
		m.begin(id, tls[id], term, r.inherited[at] || !r.ran[at] && (closing || am.StateTime.Before(r.began)), closing)
		r.ran[at], begun = true, true
		delete(r.inherited, at)
	}
	if s := r.sources[m.link]; s != nil && (begun || len(gone) > 0) {
		s.refresh()
	}
}

func (r *Replicator) remove(m *mirror) {
	if s := r.sources[m.link]; s != nil {
		s.remove(m)
	}
	r.mu.Lock()
	delete(r.mirrors, m.topic)
	r.mu.Unlock()
	r.remember(m.topic, m.mirrorKey, m.status())
	r.spawn(func(ctx context.Context) { r.checkpoint(ctx, []*mirror{m}) })
	r.dest.forget(m.topic)
}

// forgetLast drops the last status, and whatever else is remembered, of mirrors that are gone or
// stopped. A stopped topic moves on without klink.
func (r *Replicator) forgetLast(st *model.State) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for topic := range r.last {
		if am := st.Mirrors[topic]; am == nil || am.State == model.MirrorStopped {
			delete(r.last, topic)
		}
	}
	for at := range r.ran {
		if st.Mirrors[at.topic] == nil {
			delete(r.ran, at)
		}
	}
	for at, c := range r.closed {
		if am := st.Mirrors[at.topic]; am == nil || am.State != model.MirrorPendingStopped || keyOf(am) != c.mirrorKey {
			delete(r.closed, at)
		}
	}
}

func keyOf(m *model.Mirror) mirrorKey {
	return mirrorKey{topic: m.Topic, topicID: m.TopicID, link: m.Link, sourceTopic: m.SourceTopic}
}

// maxReports bounds how many findings are reported at once: each is a durable write.
const maxReports = 32

func (r *Replicator) reportLinks(ctx context.Context, st *model.State) {
	var reports errgroup.Group
	reports.SetLimit(maxReports)
	defer func() { _ = reports.Wait() }()
	for name, s := range r.sources {
		link := st.Links[name]
		h := s.healthNow()
		switch {
		case link == nil || !h.known || r.term(group.LinkSlot(name)) == 0:
		case h.up && h.brokers != "" && link.State != model.LinkFailed && (h.clusterID == "" || link.SourceClusterID == h.clusterID):
			if link.State == model.LinkActive || link.Error != model.ErrBrokerUnreachable || link.ErrorMessage != h.brokers {
				r.reportIn(ctx, &reports, model.Event{Kind: model.EventLinkDown, Link: name, Error: model.ErrBrokerUnreachable, Message: h.brokers})
			}
		case h.up && (link.State != model.LinkActive || h.clusterID != "" && link.SourceClusterID != h.clusterID):
			r.reportIn(ctx, &reports, model.Event{Kind: model.EventLinkUp, Link: name, SourceClusterID: h.clusterID})
		case !h.up && (link.State == model.LinkActive || link.Error != h.code):
			r.reportIn(ctx, &reports, model.Event{Kind: model.EventLinkDown, Link: name, Error: h.code, Message: h.message})
		}
	}
}

func (r *Replicator) reportMirrors(ctx context.Context, st *model.State) {
	var reports errgroup.Group
	reports.SetLimit(maxReports)
	defer func() { _ = reports.Wait() }()
	for topic, am := range st.Mirrors {
		m, coordinator := r.mirror(topic), r.term(group.TopicSlot(topic)) != 0
		here := r.share(topic, len(st.Timelines[topic]))
		if !coordinator && len(here) == 0 || m != nil && m.lost.Load() {
			continue // other instances report it
		}
		ev := model.Event{Link: am.Link, Topic: topic, Mirror: am.ID, Partition: -1}
		if am.State == model.MirrorPendingStopped {
			if m == nil {
				r.reportEnded(ctx, &reports, am, ev, st.Timelines[topic], coordinator)
			}
			continue
		}
		s := r.sources[am.Link]
		if m == nil || s == nil || keyOf(am) != m.mirrorKey || !wanted(am, st.Links[am.Link]) {
			continue
		}
		if f := m.failed(); f != nil {
			ev.Kind, ev.Error, ev.Message = model.EventMirrorFailed, f.Code, f.Message
			if !coordinator {
				ev.Partition = here[0]
			}
			r.reportIn(ctx, &reports, ev)
			continue
		}
		if !coordinator {
			continue
		}
		unavailable, up := cmp.Or(m.unavailable(), r.toldTrouble(topic)), s.healthNow().up
		switch h := s.healthNow(); {
		case h.known && !h.up && am.State != model.MirrorSourceUnavailable && r.term(group.LinkSlot(am.Link)) == 0:
			// The instance that reports the link's health may reach the source although this one
			// does not.
			ev.Kind, ev.Error, ev.Message = model.EventMirrorUnavailable, h.code, h.message
			r.reportIn(ctx, &reports, ev)
		case unavailable != nil && up && (am.State != model.MirrorSourceUnavailable || am.Error != unavailable.Code):
			ev.Kind, ev.Error, ev.Message = model.EventMirrorUnavailable, unavailable.Code, unavailable.Message
			r.reportIn(ctx, &reports, ev)
		case unavailable != nil || !up:
		case am.State == model.MirrorPending && m.running():
			ev.Kind = model.EventMirrorStarted
			r.reportIn(ctx, &reports, ev)
		case am.State == model.MirrorSourceUnavailable && m.running():
			ev.Kind = model.EventMirrorRecovered
			r.reportIn(ctx, &reports, ev)
		}
	}
}

// reportEnded reports that partitions of a mirror that is being stopped have ended. The coordinator
// reports that all of them have ended, each other owner that its own have.
func (r *Replicator) reportEnded(ctx context.Context, reports *errgroup.Group, am *model.Mirror, ev model.Event, tls []*timeline.Partition, coordinator bool) {
	all, told := true, true
	for p := range int32(len(tls)) {
		c, closed := r.closed[partitionAt{am.Topic, p}]
		switch {
		case closed:
			ev.Ended = append(ev.Ended, c.end)
			told = told && am.HasEnded(p)
		case !am.HasEnded(p):
			all = false
		}
	}
	switch {
	case coordinator && all:
		ev.Kind = model.EventMirrorDrained
		if !r.repaired(am, r.term(group.TopicSlot(am.Topic)), tls, &ev) {
			return
		}
	case coordinator || told:
		return
	default:
		ev.Kind, ev.Partition = model.EventPartitionsEnded, ev.Ended[0].Partition
	}
	r.reportIn(ctx, reports, ev)
}

// reportIn reports ev concurrently with the other reports of the group.
func (r *Replicator) reportIn(ctx context.Context, reports *errgroup.Group, ev model.Event) {
	reports.Go(func() error {
		r.report(ctx, ev)
		return nil
	})
}

// report reports ev to Control, unless it has just reported the same. A later round repeats a
// report that failed.
func (r *Replicator) report(ctx context.Context, ev model.Event) {
	key := "link " + ev.Link
	if ev.Topic != "" {
		key = "topic " + ev.Topic
	}
	said := ev
	said.Message, said.Ended, said.PhysicalEnds, said.Unrepaired = "", nil, nil, ""
	r.reportMu.Lock()
	last, ok := r.reported[key]
	r.reportMu.Unlock()
	if ok && reflect.DeepEqual(last.event, said) && time.Since(last.at) < reportAgain {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	if err := r.cfg.Control.Report(ctx, ev); err != nil {
		if ctx.Err() == nil {
			r.log.Warn("could not report an event, will retry", "link", ev.Link, "topic", ev.Topic, "error", err)
		}
		return
	}
	r.reportMu.Lock()
	r.reported[key] = report{event: said, at: time.Now()}
	r.reportMu.Unlock()
}
