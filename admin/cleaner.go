package admin

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A mirror and the log cleaner of the destination.
//
// The cleaner keeps the last record of each key, and knows nothing of stamps. A void batch behind a
// batch that counts so takes the place of its records: the cleaner removes what counts, klink hides
// what is void, and the key is gone. So what is void must be found before the cleaner comes to it:
//
//   - A compacted mirror has a min.compaction.lag.ms of minCompactionLag at least, and the owner
//     looks at the end of its log every 30 seconds (replicator/idle_look.go).
//   - Where a void batch is found it is noted in the mirror's record (Void), and compaction rests
//     from then on: the lag is noCompaction. Nothing else about the topic changes.
//   - It rests, too, while nobody looks: while the mirror is paused or has FAILED.
//   - When mirroring stops, the replicator appends what counts of the keys in void batches anew,
//     before the topic gets its source's configs (replicator/repair.go).
//
// The lag counts from the timestamps of records. Where these are old it holds nothing up, so the
// replicator finds out whether the cleaner has been faster (replicator/examine.go); the mirror
// FAILS then.

const (
	// minCompactionLag is how long a record of a mirror is safe from the cleaner at least.
	minCompactionLag = 10 * time.Minute
	// noCompaction is a min.compaction.lag.ms with which the cleaner never takes a record up, of
	// whatever time.
	noCompaction = math.MaxInt64

	minLagConfig = "min.compaction.lag.ms"
	maxLagConfig = "max.compaction.lag.ms"
)

// MinCompactionLag is how long a record of a mirror is safe from the destination's cleaner, counted
// from its timestamp.
const MinCompactionLag = minCompactionLag

// VoidBatches says of a partition of a mirror that its log has batches with records that do not
// count. The cleaner must not get to them. Offsets are physical.
type VoidBatches struct {
	Partition int32 `json:"partition"`
	From      int64 `json:"from"`    // the first one begins here
	To        int64 `json:"to"`      // all that are known end here, or before
	Offsets   int64 `json:"offsets"` // that they take
	Foreign   int64 `json:"foreign"` // those of them that somebody else wrote
	// Safe: the cleaner has removed nothing that counts because of them, as far as the log and the
	// source tell.
	Safe bool `json:"safe,omitempty"`
}

// maxVoidRecords bounds how many partitions are told of in a mirror's record.
const maxVoidRecords = 256

// noteVoid adds what was found to a mirror's record; false = it says so already.
func (r *mirrorRecord) noteVoid(v VoidBatches) bool {
	i := slices.IndexFunc(r.Void, func(known VoidBatches) bool { return known.Partition == v.Partition })
	switch {
	case i < 0 && len(r.Void) >= maxVoidRecords:
		changed := !r.VoidElsewhere
		r.VoidElsewhere = true
		return changed
	case i < 0:
		r.Void = append(slices.Clone(r.Void), v)
		return true
	}
	known := r.Void[i]
	next := known
	switch {
	case v.From >= known.To:
		// More of them.
		next.To, next.Offsets, next.Foreign = v.To, known.Offsets+v.Offsets, known.Foreign+v.Foreign
		next.Safe = known.Safe && v.Safe
	case v.From == known.From && v.To == known.To:
		next.Safe = known.Safe || v.Safe
	default:
		// Found anew, in a walk that began elsewhere.
		next.From, next.To = min(known.From, v.From), max(known.To, v.To)
		next.Offsets, next.Foreign = max(known.Offsets, v.Offsets), max(known.Foreign, v.Foreign)
		next.Safe = known.Safe && v.Safe
	}
	if next == known {
		return false
	}
	r.Void = slices.Clone(r.Void)
	r.Void[i] = next
	return true
}

// checkVoid refuses a record that klink has not written.
func (r *mirrorRecord) checkVoid() error {
	if len(r.Void) > maxVoidRecords {
		return fmt.Errorf("names void batches of %d partitions; at most %d are possible", len(r.Void), maxVoidRecords)
	}
	for _, v := range r.Void {
		if v.Partition < 0 || v.From < 0 || v.To < v.From {
			return errors.New("names void batches at impossible offsets")
		}
	}
	return nil
}

// HasVoid says whether the log of the mirror has records that do not count, so that it must not be
// compacted.
func (m *Mirror) HasVoid() bool { return len(m.Void) > 0 || m.VoidElsewhere }

// CompactionRests says whether the mirror's topic is of those that are compacted, and is not
// compacted because of what is void in its log.
func (m *Mirror) CompactionRests() bool {
	return m.HasVoid() && m.State != MirrorStopped && compacts(m.CleanupPolicy)
}

func compacts(policy string) bool { return strings.Contains(policy, "compact") }

// holdsCompaction says whether the topic of a mirror must not be compacted now: something in its
// log is void, or nobody looks.
func holdsCompaction(state MirrorState, void bool) bool {
	switch state {
	case MirrorStopped:
		return false
	case MirrorPaused, MirrorLinkPaused, MirrorFailed:
		return true
	}
	return void
}

// keepFromCleaner raises the compaction lags of a compacted mirror. What the source has instead
// goes to atStop.
func keepFromCleaner(configs map[string]string, atStop map[string]*string, known map[string]topicConfig, hold bool) {
	if !compacts(configs["cleanup.policy"]) {
		return
	}
	least := int64(minCompactionLag / time.Millisecond)
	if hold {
		least = noCompaction
	}
	// Brokers refuse a maximum below the minimum.
	for name, unset := range map[string]string{minLagConfig: "0", maxLagConfig: strconv.FormatInt(noCompaction, 10)} {
		if _, knows := known[name]; !knows {
			continue
		}
		own, ok := configs[name]
		if !ok {
			own = unset
		}
		configs[name] = atLeast(own, least)
		if atStop[name] = nil; ok {
			atStop[name] = &own // whatever it is: it may be held later on
		}
	}
}

// neverCompacted are the configs of a topic that is not to be compacted.
func neverCompacted() map[string]*string {
	never := strconv.FormatInt(noCompaction, 10)
	return map[string]*string{minLagConfig: &never, maxLagConfig: &never}
}

// holdCompaction keeps the cleaner off the topics that have a policy for it.
func (s *Service) holdCompaction(ctx context.Context, topics ...string) error {
	var errs []error
	for chunk := range slices.Chunk(topics, describeTopics) {
		of, err := describeConfigsOf(ctx, s.admin, chunk)
		if err != nil {
			return errors.Join(append(errs, fmt.Errorf("configs of mirrors at the destination: %w", err))...)
		}
		for _, topic := range chunk {
			now := of[topic]
			if now.err != nil {
				errs = append(errs, fmt.Errorf("configs of mirror topic '%s': %w", topic, now.err))
				continue
			}
			if !compacts(now.configs["cleanup.policy"].value) {
				continue
			}
			change := map[string]*string{}
			for name, never := range neverCompacted() {
				if c, knows := now.configs[name]; knows && c.value != *never {
					change[name] = never
				}
			}
			if len(change) == 0 {
				continue
			}
			if err := s.alterTopicConfigs(ctx, topic, change); err != nil {
				errs = append(errs, fmt.Errorf("keep mirror topic '%s' from being compacted: %w", topic, err))
				continue
			}
			s.log.Info("a mirror is not compacted for now", "topic", topic)
		}
	}
	return errors.Join(errs...)
}

// holdAgain is how often a topic that is not to be compacted is looked at.
const holdAgain = 30 * time.Second

// heldSince is when a topic was looked at last, in the state that its mirror has had since a time.
type heldSince struct {
	at    time.Time
	state int64
}

// holdWhereNobodyLooks keeps the cleaner off the mirrors of this instance that must not be
// compacted now. What has come in the way of it, or set it back, is found in a later round.
func (s *Service) holdWhereNobodyLooks(ctx context.Context, mirrors map[string]*mirrorRecord) error {
	now := time.Now()
	var due []string
	for topic, m := range mirrors {
		if m == nil || !m.Created || m.TopicGone || !compacts(m.CleanupPolicy) || !s.ownsTopic(topic) || !holdsCompaction(m.State, m.hasVoid()) {
			delete(s.heldAt, topic)
			continue
		}
		// Another state since: the configs may have been set back in between.
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

func (r *mirrorRecord) hasVoid() bool { return len(r.Void) > 0 || r.VoidElsewhere }

// foundVoid notes void batches of a mirror, and lets compaction rest. It has not failed if the
// latter did: that is tried again.
func (s *Service) foundVoid(ctx context.Context, ev Event) error {
	if err := s.waitReady(ctx); err != nil {
		return err
	}
	changed := false
	if err := s.update(ctx, func(tx *Tx) error {
		changed = false
		m, err := tx.Mirror(ev.Topic)
		if err != nil || m == nil || m.State == MirrorStopped {
			return err
		}
		if err := s.ownPartition(ev.Topic, ev.Void.Partition); err != nil {
			return err
		}
		m = m.clone()
		if changed = m.noteVoid(ev.Void); !changed {
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
		s.log.Error("a mirror has void batches and is compacted all the same; will be tried again", "topic", ev.Topic, "error", err)
	}
	s.wakeReconciler()
	return nil
}

// settleVoid says what becomes of the void batches of a mirror that is being stopped: what they
// could hide was appended anew, or the topic is never compacted, unless a person wills it.
func settleVoid(m *mirrorRecord, ev Event) (settled *mirrorRecord, note string) {
	m = m.clone()
	if ev.Unrepaired == "" || m.TopicGone {
		m.Void, m.VoidElsewhere = nil, false
		for name := range neverCompacted() {
			if _, known := m.SourceConfigs[name]; known || !compacts(m.CleanupPolicy) {
				continue // else an earlier version has noted it
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
	delete(m.SourceConfigs, minLagConfig)
	delete(m.SourceConfigs, maxLagConfig)
	return m, fmt.Sprintf("the topic is not compacted: its log has batches that klink hides, and what they would take the place of could not be appended anew (%s); "+
		"write the last record of each of their keys, then set %s and %s of the topic", ev.Unrepaired, minLagConfig, maxLagConfig)
}

// voidNotice says of a mirror what is void in its log, and what that means; "" = nothing is.
func voidNotice(m *Mirror) string {
	if !m.HasVoid() {
		return ""
	}
	var offsets, foreign int64
	unsafe := 0
	for _, v := range m.Void {
		offsets += v.Offsets
		foreign += v.Foreign
		if !v.Safe {
			unsafe++
		}
	}
	var text strings.Builder
	if first := m.Void; len(first) > 0 {
		fmt.Fprintf(&text, "%d offsets in the log do not count, in %d partitions, the first of them partition %d from physical offset %d on; of these somebody wrote %d around klink, and klink the others twice or too late. Nobody sees them through klink",
			offsets, len(m.Void), first[0].Partition, first[0].From, foreign)
	} else {
		text.WriteString("Offsets in the log do not count")
	}
	switch {
	case m.State == MirrorStopped:
		text.WriteString(". The topic is not compacted, for that would remove records that count; the error message says what to do")
	case !compacts(m.CleanupPolicy):
	default:
		text.WriteString(". COMPACTION IS PAUSED, for it would keep their records instead of those of the mirror. Promote or fail the mirror over, and klink appends the last record of each of their keys anew; or delete the topic and create the mirror anew. Deny Write on the topic to all but klink")
		if unsafe > 0 {
			text.WriteString(". Whether the cleaner was faster than klink is being looked into")
		}
	}
	return text.String()
}

// holdsCompaction says whether the topic of a mirror must not be compacted now.
func (s *Service) holdsCompaction(topic string) bool {
	m := s.State().Mirrors[topic]
	return m != nil && holdsCompaction(m.State, m.HasVoid())
}
