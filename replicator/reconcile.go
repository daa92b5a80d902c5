package replicator

import (
	"context"
	"reflect"
	"time"

	"klink/admin"

	"golang.org/x/sync/errgroup"
)

const (
	// reconcileInterval is how often the state is compared with what runs without being asked to.
	reconcileInterval = time.Second
	reportTimeout     = 10 * time.Second
	// reportAgain is when a finding that the state does not show yet is reported once more.
	reportAgain = 5 * time.Second
)

// report remembers a finding that was reported, so that it is not repeated before the state shows it.
type report struct {
	event admin.Event
	at    time.Time
}

// reconcileUntil makes what runs match Control's state until ctx ends. It works on levels, not on edges: each round
// compares all that is wanted with all that is, so that a lost wake-up or a failed report costs a round and no more.
func (r *Replicator) reconcileUntil(ctx context.Context) {
	ticks, cancel := r.cfg.Control.Subscribe()
	defer cancel()
	t := time.NewTicker(reconcileInterval)
	defer t.Stop()
	for ctx.Err() == nil {
		r.reconcile(ctx, r.cfg.Control.State())
		select {
		case <-ctx.Done():
		case <-ticks:
		case <-r.kick:
		case <-t.C:
		}
	}
}

func (r *Replicator) reconcile(ctx context.Context, st *admin.State) {
	if r.inherited == nil {
		r.inherited = map[string]bool{}
		for topic := range st.Mirrors {
			r.inherited[topic] = true
		}
	}
	r.followSlots(st)
	r.reconcileSources(st)
	r.reconcileMirrors(st)
	r.letGo(st)
	r.reportLinks(ctx, st)
	r.reportMirrors(ctx, st)
	r.forgetRepairs(st)
}

// wants says whether a mirror is to be run here.
func (r *Replicator) wants(m *admin.Mirror, st *admin.State) bool {
	return r.owner.term(topicSlot(m.Topic)) != 0 && wanted(m, st.Links[m.Link])
}

// wanted says whether a mirror in this state is to be run.
func wanted(m *admin.Mirror, link *admin.Link) bool {
	if link == nil || link.State == admin.LinkPaused || link.State == admin.LinkFailed {
		return false
	}
	switch m.State {
	case admin.MirrorPending, admin.MirrorActive, admin.MirrorSourceUnavailable:
		return true
	}
	return false
}

func (r *Replicator) reconcileSources(st *admin.State) {
	for name, s := range r.sources {
		link := st.Links[name]
		if link != nil && link.State != admin.LinkPaused && fingerprint(link.Configs) == s.fingerprint && r.needsSource(name, st) {
			continue
		}
		s.close()
		delete(r.sources, name)
	}
	for name, link := range st.Links {
		if link.State == admin.LinkPaused || r.sources[name] != nil || !r.needsSource(name, st) {
			continue
		}
		s, err := newSource(r, link)
		if err != nil {
			r.log.Error("the configs of a link do not make a client", "link", name, "error", err)
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

func (r *Replicator) reconcileMirrors(st *admin.State) {
	for _, m := range r.mirrorsNow() {
		am := st.Mirrors[m.topic]
		switch {
		case am == nil || keyOf(am) != m.mirrorKey:
			m.stop(true)
		case !r.wants(am, st) || m.failed() != nil || r.owner.term(topicSlot(m.topic)) != m.term:
			m.stop(false)
		default:
			m.setPolicy(am.CleanupPolicy)
			m.grow(st.Timelines[m.topic])
		}
		// A mirror that failed stays, so that its failure is reported until the state shows it. One that was stopped goes, even if
		// it is wanted again by now: another one takes its place.
		if m.ended() && (am == nil || keyOf(am) != m.mirrorKey || !r.wants(am, st) || m.failed() == nil) {
			if am != nil && am.State == admin.MirrorPendingStopped && (m.closing || m.failed() == nil) && !m.lost.Load() && r.owner.term(topicSlot(m.topic)) == m.term {
				r.closed[m.topic] = true
				r.ends[m.topic] = m.ends()
			}
			r.remove(m)
		}
	}
	r.forgetLast(st)
	partitions := 0
	for topic, am := range st.Mirrors {
		term := r.owner.term(topicSlot(topic))
		if term == 0 {
			continue
		}
		tls := st.Timelines[topic]
		partitions += len(tls)
		if am.State != admin.MirrorPendingStopped {
			delete(r.closed, topic)
			delete(r.ends, topic)
		}
		s := r.sources[am.Link]
		closing := am.State == admin.MirrorPendingStopped && !r.closed[topic]
		if len(tls) == 0 || r.mirror(topic) != nil || !closing && (s == nil || !wanted(am, st.Links[am.Link])) {
			continue
		}
		lingering := r.inherited[topic] || !r.ran[topic] && (closing || am.StateTime.Before(r.began))
		key := keyOf(am)
		r.mu.Lock()
		before := r.last[topic]
		r.mu.Unlock()
		if before.mirrorKey != key {
			before.partitions = nil
		}
		m := newMirror(r, key, am.SourceTopicID, tls, before.partitions, lingering, closing)
		m.term = term
		m.setPolicy(am.CleanupPolicy)
		r.ran[topic] = true
		delete(r.inherited, topic)
		r.mu.Lock()
		r.mirrors[topic] = m
		delete(r.last, topic)
		r.mu.Unlock()
		if r.owner.term(topicSlot(topic)) != term {
			m.lose() // meanwhile
		}
		if closing {
			m.stop(false)
		} else {
			s.add(m)
		}
	}
	r.partitions.Store(int64(partitions))
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

// forgetLast drops the last status of mirrors that are gone, or stopped and so move on without klink.
func (r *Replicator) forgetLast(st *admin.State) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for topic := range r.last {
		if am := st.Mirrors[topic]; am == nil || am.State == admin.MirrorStopped {
			delete(r.last, topic)
		}
	}
	for topic := range r.ran {
		if st.Mirrors[topic] == nil {
			delete(r.ran, topic)
			delete(r.closed, topic)
			delete(r.ends, topic)
		}
	}
}

func keyOf(m *admin.Mirror) mirrorKey {
	return mirrorKey{topic: m.Topic, topicID: m.TopicID, link: m.Link, sourceTopic: m.SourceTopic}
}

// maxReports bounds how many findings are reported at once: each is a durable write.
const maxReports = 32

func (r *Replicator) reportLinks(ctx context.Context, st *admin.State) {
	var reports errgroup.Group
	reports.SetLimit(maxReports)
	defer func() { _ = reports.Wait() }()
	for name, s := range r.sources {
		link := st.Links[name]
		h := s.healthNow()
		switch {
		case link == nil || !h.known || r.owner.term(linkSlot(name)) == 0:
		case h.up && (link.State != admin.LinkActive || h.clusterID != "" && link.SourceClusterID != h.clusterID):
			r.reportIn(ctx, &reports, admin.Event{Kind: admin.EventLinkUp, Link: name, SourceClusterID: h.clusterID})
		case !h.up && (link.State == admin.LinkActive || link.Error != h.code):
			r.reportIn(ctx, &reports, admin.Event{Kind: admin.EventLinkDown, Link: name, Error: h.code, Message: h.message})
		}
	}
}

func (r *Replicator) reportMirrors(ctx context.Context, st *admin.State) {
	var reports errgroup.Group
	reports.SetLimit(maxReports)
	defer func() { _ = reports.Wait() }()
	for topic, am := range st.Mirrors {
		m, term := r.mirror(topic), r.owner.term(topicSlot(topic))
		if term == 0 || m != nil && m.term != term {
			continue // another instance tells
		}
		ev := admin.Event{Link: am.Link, Topic: topic}
		if am.State == admin.MirrorPendingStopped {
			if m == nil && (r.closed[topic] || len(st.Timelines[topic]) == 0) {
				ev.Kind = admin.EventMirrorDrained
				ev.Ends, ev.PhysicalEnds = r.ends[topic].logical, r.ends[topic].physical
				if r.repaired(am, term, st.Timelines[topic], &ev) {
					r.reportIn(ctx, &reports, ev)
				}
			}
			continue
		}
		s := r.sources[am.Link]
		if m == nil || s == nil || keyOf(am) != m.mirrorKey || !wanted(am, st.Links[am.Link]) {
			continue
		}
		if f := m.failed(); f != nil {
			ev.Kind, ev.Error, ev.Message = admin.EventMirrorFailed, f.code, f.message
			r.reportIn(ctx, &reports, ev)
			continue
		}
		unavailable, up := m.unavailable(), s.healthNow().up
		switch h := s.healthNow(); {
		case h.known && !h.up && am.State != admin.MirrorSourceUnavailable && r.owner.term(linkSlot(am.Link)) == 0:
			// Who tells of the link may reach the source, and this instance not.
			ev.Kind, ev.Error, ev.Message = admin.EventMirrorUnavailable, h.code, h.message
			r.reportIn(ctx, &reports, ev)
		case unavailable != nil && up && (am.State != admin.MirrorSourceUnavailable || am.Error != unavailable.code):
			ev.Kind, ev.Error, ev.Message = admin.EventMirrorUnavailable, unavailable.code, unavailable.message
			r.reportIn(ctx, &reports, ev)
		case unavailable != nil || !up:
		case am.State == admin.MirrorPending && m.running():
			ev.Kind = admin.EventMirrorStarted
			r.reportIn(ctx, &reports, ev)
		case am.State == admin.MirrorSourceUnavailable && m.running():
			ev.Kind = admin.EventMirrorRecovered
			r.reportIn(ctx, &reports, ev)
		}
	}
}

// reportIn reports beside others.
func (r *Replicator) reportIn(ctx context.Context, reports *errgroup.Group, ev admin.Event) {
	reports.Go(func() error {
		r.report(ctx, ev)
		return nil
	})
}

// report tells Control, unless it was told the same a moment ago. What fails is tried again in a later round.
func (r *Replicator) report(ctx context.Context, ev admin.Event) {
	key := "link " + ev.Link
	if ev.Topic != "" {
		key = "topic " + ev.Topic
	}
	said := ev
	said.Message, said.Ends, said.PhysicalEnds, said.Unrepaired = "", nil, nil, ""
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
			r.log.Warn("reporting a finding failed, will retry", "link", ev.Link, "topic", ev.Topic, "error", err)
		}
		return
	}
	r.reportMu.Lock()
	r.reported[key] = report{event: said, at: time.Now()}
	r.reportMu.Unlock()
}
