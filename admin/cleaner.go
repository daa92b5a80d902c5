package admin

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"time"

	"klink/admin/linkconfig"
	"klink/admin/model"
	"klink/admin/store"
	"klink/admin/topicconfig"
)

// Mirrors and the log cleaner of the destination.
//
// The cleaner keeps the last record of each key, and does not know stamps. If a void batch stands
// behind a batch that counts, and has the same key, the cleaner removes the record that counts,
// klink hides the void one, and the key is gone. So klink must find a void batch before the cleaner
// gets to it:
//
//   - A compacted mirror has a min.compaction.lag.ms of at least MinCompactionLag, and the owner
//     reads the end of its log every 30 seconds (replicator/idle_look.go).
//   - When the owner finds a void batch, klink notes it in the mirror's record (Void) and pauses
//     compaction: it sets the lag to noCompaction. Nothing else about the topic changes.
//   - klink also pauses compaction while nobody reads the log: while the mirror or its link is
//     paused, or after the mirror has FAILED.
//   - When mirroring stops, the replicator appends again, for each key in void batches, the record
//     that counts, before the topic gets its source's configs (replicator/repair.go).
//
// The lag counts from the timestamps of records. If those are old, it delays nothing. So the
// replicator finds out whether the cleaner has been faster (replicator/examine.go); if so, the
// mirror FAILS.

const (
	// noCompaction is a min.compaction.lag.ms at which the cleaner never compacts a record,
	// whatever its timestamp.
	noCompaction = math.MaxInt64
)

// holdsCompaction reports whether the topic of a mirror must not be compacted now, because its log
// has void batches or because nobody reads it.
func holdsCompaction(state model.MirrorState, void bool) bool {
	switch state {
	case model.MirrorStopped:
		return false
	case model.MirrorPaused, model.MirrorLinkPaused, model.MirrorFailed:
		return true
	}
	return void
}

// keepFromCleaner raises the compaction lags of a compacted mirror. It puts the source's own values
// into atStop, which the topic gets when mirroring stops.
func keepFromCleaner(configs map[string]string, atStop map[string]*string, known map[string]linkconfig.TopicConfig, hold bool) {
	if !model.Compacts(configs["cleanup.policy"]) {
		return
	}
	least := int64(model.MinCompactionLag / time.Millisecond)
	if hold {
		least = noCompaction
	}
	// Raise the maximum, too: brokers refuse a maximum below the minimum.
	for name, unset := range map[string]string{linkconfig.MinLagConfig: "0", linkconfig.MaxLagConfig: strconv.FormatInt(noCompaction, 10)} {
		if _, knows := known[name]; !knows {
			continue
		}
		own, ok := configs[name]
		if !ok {
			own = unset
		}
		configs[name] = linkconfig.AtLeast(own, least)
		if atStop[name] = nil; ok {
			atStop[name] = &own // even if it is high enough: klink may raise it later
		}
	}
}

// neverCompacted returns the configs of a topic that must not be compacted.
func neverCompacted() map[string]*string {
	never := strconv.FormatInt(noCompaction, 10)
	return map[string]*string{linkconfig.MinLagConfig: &never, linkconfig.MaxLagConfig: &never}
}

// holdCompaction pauses compaction for those of the topics that have a cleanup policy with it.
func (s *Service) holdCompaction(ctx context.Context, topics ...string) error {
	var errs []error
	for chunk := range slices.Chunk(topics, topicconfig.AtOnce) {
		of, err := topicconfig.DescribeAll(ctx, s.admin, chunk)
		if err != nil {
			return errors.Join(append(errs, fmt.Errorf("could not read the configs of mirrors at the destination: %w", err))...)
		}
		for _, topic := range chunk {
			now := of[topic]
			if now.Err != nil {
				errs = append(errs, fmt.Errorf("could not read the configs of mirror topic '%s': %w", topic, now.Err))
				continue
			}
			if !model.Compacts(now.Configs["cleanup.policy"].Value) {
				continue
			}
			change := map[string]*string{}
			for name, never := range neverCompacted() {
				if c, knows := now.Configs[name]; knows && c.Value != *never {
					change[name] = never
				}
			}
			if len(change) == 0 {
				continue
			}
			if err := topicconfig.Alter(ctx, s.admin, topic, change); err != nil {
				errs = append(errs, fmt.Errorf("could not pause compaction of mirror topic '%s': %w", topic, err))
				continue
			}
			s.log.Info("paused compaction of a mirror", "topic", topic)
		}
	}
	return errors.Join(errs...)
}

// holdAgain is how often klink checks the configs of a topic that must not be compacted.
const holdAgain = 30 * time.Second

// heldSince is when klink last checked a topic, and the StateTimeMs that its mirror had then.
type heldSince struct {
	at    time.Time
	state int64
}

// holdWhereNobodyLooks pauses compaction for the mirrors of this instance that must not be
// compacted now. If something prevents that, or somebody resets the configs, a later round finds
// out.
func (s *Service) holdWhereNobodyLooks(ctx context.Context, mirrors map[string]*store.MirrorRecord) error {
	now := time.Now()
	var due []string
	for topic, m := range mirrors {
		if m == nil || !m.Created || m.TopicGone || !model.Compacts(m.CleanupPolicy) || !s.ownsTopic(topic) || !holdsCompaction(m.State, m.HasVoid()) {
			delete(s.heldAt, topic)
			continue
		}
		// The state has changed since, so the configs may have been reset in between.
		if held := s.heldAt[topic]; now.Sub(held.at) >= holdAgain || held.state != m.StateTimeMs {
			due = append(due, topic)
		}
	}
	maps.DeleteFunc(s.heldAt, func(topic string, _ heldSince) bool { return mirrors[topic] == nil })
	if len(due) == 0 {
		return nil
	}
	slices.Sort(due)
	if err := s.holdCompaction(ctx, due...); err != nil {
		return err
	}
	for _, topic := range due {
		s.heldAt[topic] = heldSince{now, mirrors[topic].StateTimeMs}
	}
	return nil
}

// foundVoid notes void batches in a mirror's record, and pauses compaction. It returns no error if
// only the latter fails, because the reconciler tries that again.
func (s *Service) foundVoid(ctx context.Context, ev model.Event) error {
	if err := s.waitReady(ctx); err != nil {
		return err
	}
	changed := false
	if err := s.update(ctx, func(tx *store.Tx) error {
		changed = false
		m, err := tx.Mirror(ev.Topic)
		if err != nil || m == nil || m.State == model.MirrorStopped {
			return err
		}
		if err := s.ownPartition(ev.Topic, ev.Void.Partition); err != nil {
			return err
		}
		m = m.Clone()
		if changed = m.NoteVoid(ev.Void); !changed {
			return nil
		}
		return tx.PutMirror(ev.Topic, m)
	}); err != nil {
		return err
	}
	if !changed {
		return nil
	}
	if err := s.holdCompaction(ctx, ev.Topic); err != nil {
		s.log.Error("could not pause compaction of a mirror with void batches, will retry", "topic", ev.Topic, "error", err)
	}
	s.wakeReconciler()
	return nil
}

// settleVoid returns the record of a mirror that is being stopped, with its void batches settled.
// If the replicator has appended the records again that the void batches could hide, the record
// forgets them. Otherwise the topic is not compacted until a person changes its configs, and note
// says why.
func settleVoid(m *store.MirrorRecord, ev model.Event) (settled *store.MirrorRecord, note string) {
	m = m.Clone()
	if ev.Unrepaired == "" || m.TopicGone {
		m.Void, m.VoidElsewhere = nil, false
		for name := range neverCompacted() {
			if _, known := m.SourceConfigs[name]; known || !model.Compacts(m.CleanupPolicy) {
				continue // the rest is for records of earlier versions, which did not save the lags
			}
			if m.SourceConfigs == nil {
				m.SourceConfigs = map[string]*string{}
			}
			m.SourceConfigs[name] = nil
			if own, ok := m.Configs[name]; ok {
				m.SourceConfigs[name] = &own
			}
		}
		return m, ""
	}
	delete(m.SourceConfigs, linkconfig.MinLagConfig)
	delete(m.SourceConfigs, linkconfig.MaxLagConfig)
	return m, fmt.Sprintf("compaction of the topic is paused: its log has batches that klink hides, and klink could not re-append the records that they would replace (%s); "+
		"write the last record of each of their keys, then set %s and %s of the topic", ev.Unrepaired, linkconfig.MinLagConfig, linkconfig.MaxLagConfig)
}

// holdsCompaction reports whether the topic of a mirror must not be compacted now.
func (s *Service) holdsCompaction(topic string) bool {
	m := s.State().Mirrors[topic]
	return m != nil && holdsCompaction(m.State, m.HasVoid())
}
