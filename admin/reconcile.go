package admin

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"klink/admin/model"
	"klink/admin/store"
	"klink/admin/transactions"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

// reconcile compares the mirrors with the topics of the destination until Close. It finishes what a
// crash or an error has interrupted, and finds out what was done to mirror topics around klink.
// Each mirror's owner does this. Two instances may do it for one mirror, while its ownership moves
// or a request creates it. That does no harm: each step is a compare-and-set, or sets the topic to
// what the record says.
func (s *Service) reconcile() {
	for {
		if err := s.reconcileOnce(s.ctx); err != nil && s.ctx.Err() == nil {
			s.log.Warn("could not compare mirrors with the topics of the destination, will retry", "error", err)
		}
		select {
		case <-s.ctx.Done():
			return
		case <-s.kick:
		case <-time.After(s.cfg.ReconcileInterval):
		}
	}
}

func (s *Service) reconcileOnce(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	mirrors := map[string]*store.MirrorRecord{}
	var topics []string
	if err := s.update(ctx, func(tx *store.Tx) error {
		clear(mirrors)
		topics = tx.Mirrors()
		for _, topic := range topics {
			mirrors[topic], _ = tx.Mirror(topic)
		}
		return nil
	}); err != nil || len(topics) == 0 {
		return err
	}
	uncreated := map[string]bool{}
	for _, m := range mirrors {
		if m != nil && !m.Created {
			uncreated[m.ID] = true
		}
	}
	maps.DeleteFunc(s.uncreated, func(id string, _ time.Time) bool { return !uncreated[id] })
	maps.DeleteFunc(s.unseen, func(id string, _ *seenWait) bool { return !uncreated[id] })
	meta, err := s.admin.Metadata(ctx, topics...)
	if err != nil {
		return fmt.Errorf("could not read the metadata of the destination: %w", err)
	}
	var errs []error
	var stopped []string // topics that do not have the source's configs yet
	for _, topic := range topics {
		if !s.ownsTopic(topic) {
			delete(s.gone, topic)
			continue // its owner checks it
		}
		t, ok := meta.Topics[topic]
		missing := !ok || errors.Is(t.Err, kerr.UnknownTopicOrPartition)
		if !missing && t.Err != nil {
			continue // not known now
		}
		if err := s.reconcileMirror(ctx, topic, mirrors[topic], t, missing); err != nil {
			errs = append(errs, fmt.Errorf("mirror topic '%s': %w", topic, err))
		}
		if m := mirrors[topic]; !missing && m.State == model.MirrorStopped && m.RestorePending {
			stopped = append(stopped, topic)
		}
	}
	return errors.Join(append(errs, s.holdWhereNobodyLooks(ctx, mirrors), s.restoreConfigs(ctx, stopped...))...)
}

// missingLooks is how many times in a row klink must not find a topic before the topic counts as
// deleted: a broker that has just started may not know all topics yet.
const missingLooks = 2

func (s *Service) reconcileMirror(ctx context.Context, topic string, m *store.MirrorRecord, t kadm.TopicDetail, missing bool) error {
	if !m.Created {
		return s.reconcileCreation(ctx, topic, m, missing)
	}
	recreated := !missing && m.TopicID != store.TopicID{} && t.ID != kadm.TopicID{} && store.TopicID(t.ID) != m.TopicID
	if missing {
		s.gone[topic]++
	} else {
		delete(s.gone, topic)
	}
	switch {
	case recreated || s.gone[topic] >= missingLooks:
		delete(s.gone, topic)
		return s.topicGone(ctx, topic, m, recreated)
	case missing:
		s.wakeAfter(pollInterval)
		return nil
	case m.TopicGone, m.State == model.MirrorStopped:
		return nil
	case int32(len(t.Partitions)) < m.Partitions:
		// GrowMirror was interrupted.
		return s.createPartitions(ctx, topic, m.Partitions)
	}
	return nil
}

// wakeAfter wakes the reconciler after d.
func (s *Service) wakeAfter(d time.Duration) {
	time.AfterFunc(d, s.wakeReconciler)
}

// reconcileCreation finishes the creation of a mirror that was interrupted.
func (s *Service) reconcileCreation(ctx context.Context, topic string, m *store.MirrorRecord, missing bool) error {
	if !s.beginCreating(topic) {
		return nil // a request is creating it in this process
	}
	defer s.endCreating(topic)
	if s.owner.Load() != nil && s.uncreatedFor(m.ID) < creationHeadStart {
		s.wakeAfter(creationHeadStart)
		return nil // a request may be creating it on another instance
	}
	switch m.State {
	case model.MirrorStopped:
		// It was stopped before its topic was created. A topic of its name, if there is one, is an
		// ordinary one.
		return s.removeMirror(ctx, topic, m.ID)
	case model.MirrorPendingStopped, model.MirrorFailed:
		return nil
	}
	plan, err := s.recordedPlan(ctx, topic, m.ID)
	if err != nil || plan == nil {
		return err
	}
	// If the topic exists, an earlier attempt or somebody else has created it, or it is to be
	// converted.
	plan.convert = !missing
	if s.unseen[m.ID] == nil {
		s.unseen[m.ID] = newSeenWait()
	}
	err = s.finishMirror(ctx, plan, s.unseen[m.ID], 0)
	if errors.As(err, new(*errUnseen)) {
		s.wakeAfter(seenPatience)
		return nil
	}
	if err == nil || uncertain(err) || errors.As(err, new(transactions.StillOpen)) {
		return err
	}
	if created, gone, asked := s.isCreated(ctx, topic, m.ID); created || gone || asked != nil {
		return asked
	}
	return s.failMirror(ctx, topic, m.ID, model.ErrPolicyViolation, fmt.Sprintf("its topic could not be created: %s; delete the topic and re-create the mirror", err), false)
}

// isCreated reports whether a mirror is complete, or gone. Another instance may be creating it too,
// and may have been faster. Then what stood in the way here may be the mirror's own records.
func (s *Service) isCreated(ctx context.Context, topic, id string) (created, gone bool, err error) {
	if err := s.store.Sync(ctx); err != nil {
		return false, false, err
	}
	err = s.update(ctx, func(tx *store.Tx) error {
		m, err := tx.Mirror(topic)
		gone = err == nil && (m == nil || m.ID != id)
		created = err == nil && !gone && m.Created
		return err
	})
	return created, gone, err
}

// creationHeadStart is how long the reconciler leaves the creation of a mirror to the instance that
// has the request for it.
const creationHeadStart = 2 * time.Second

// uncreatedFor returns how long this instance has known that a mirror's topic does not exist yet.
func (s *Service) uncreatedFor(id string) time.Duration {
	since, ok := s.uncreated[id]
	if !ok {
		since = time.Now()
		s.uncreated[id] = since
	}
	return time.Since(since)
}

// recordedPlan returns the plan of a recorded mirror whose topic does not exist yet; nil = the
// mirror is gone or complete.
func (s *Service) recordedPlan(ctx context.Context, topic, id string) (*mirrorPlan, error) {
	var plan *mirrorPlan
	err := s.update(ctx, func(tx *store.Tx) error {
		plan = nil
		m, err := tx.Mirror(topic)
		if err != nil || m == nil || m.ID != id || m.Created {
			return err
		}
		p := &mirrorPlan{topic: topic, record: m}
		for i := range m.Partitions {
			t, err := tx.Timeline(topic, i)
			if err != nil {
				return err
			}
			if t == nil {
				return fmt.Errorf("partition %d has no timeline in %s", i, store.StateTopic)
			}
			p.starts = append(p.starts, *t)
		}
		plan = p
		return nil
	})
	if err != nil {
		return nil, err // update may still evaluate a change that was given up, and write plan
	}
	return plan, nil
}

// topicGone ends the mirror of a topic that was deleted around klink. It removes a stopped mirror.
// Any other mirror becomes FAILED and stays read-only: a topic that has its name now, or gets it
// later, is a different one, with offsets of its own.
func (s *Service) topicGone(ctx context.Context, topic string, m *store.MirrorRecord, recreated bool) error {
	if m.State == model.MirrorStopped {
		s.log.Warn("the topic of a stopped mirror was deleted, not through klink", "topic", topic, "recreated", recreated)
		return s.removeMirror(ctx, topic, m.ID)
	}
	if m.TopicGone {
		return nil
	}
	s.log.Error("the topic of a mirror was deleted, not through klink", "topic", topic, "recreated", recreated)
	return s.failMirror(ctx, topic, m.ID, model.ErrMirrorTopicDeleted, "the topic was deleted at the destination, not through klink: re-create the mirror, or fail it over if you want an ordinary topic of this name", true)
}

func (s *Service) failMirror(ctx context.Context, topic, id string, code model.Error, message string, gone bool) error {
	return s.update(ctx, func(tx *store.Tx) error {
		m, err := tx.Mirror(topic)
		if err != nil || m == nil || m.ID != id {
			return err
		}
		m = m.Clone()
		m.TopicGone = m.TopicGone || gone
		return moveMirror(tx, topic, m, model.MirrorInput{Kind: model.InputFailed, Error: code, Message: message, Link: linkStatusOf(tx, m.Link)}, s.cfg.Now())
	})
}

func (s *Service) removeMirror(ctx context.Context, topic, id string) error {
	return s.update(ctx, func(tx *store.Tx) error {
		if m, err := tx.Mirror(topic); err != nil || m == nil || m.ID != id {
			return err
		}
		tx.DeleteMirror(topic)
		return nil
	})
}

// TopicsSeen takes topic ids that were just learned from the destination. If one is not that of the
// mirror of this name, it wakes the reconciler: the topic was deleted and created again around
// klink.
func (s *Service) TopicsSeen(topics map[[16]byte]string) {
	state := s.State()
	for id, topic := range topics {
		if m := state.Mirrors[topic]; m != nil && m.Created && m.TopicID != [16]byte{} && m.TopicID != id && m.Error != model.ErrMirrorTopicDeleted {
			s.wakeReconciler()
			return
		}
	}
}
