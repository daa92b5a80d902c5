package admin

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"klink/admin/caslog"
	"klink/admin/facts"
	"klink/admin/model"
	"klink/admin/store"
	"klink/protocol/timeline"
)

// A mirror is STOPPED in four steps:
//  1. The replicator reports that nothing is appended any more. Where several instances copy the
//     mirror's partitions, the coordinator reports it, once the others have stored that theirs have
//     ended.
//  2. If the mirror was promoted, the groups' offsets are copied from the source for the last time.
//  3. Committed offsets beyond the mirror's end are set back to it.
//  4. The ends of its timelines and the new state are stored in one transaction.
//
// All mirrors that are reported while a stop runs are stopped together, so that a failover of many
// topics reads the groups' offsets once or twice.
//
// Invariant: a mirror becomes STOPPED only in a transaction that sees that each of its partitions
// has ended. Either the partition's owner has stored so (store.TimelineRecord.Ended), or this
// instance has ended it itself. Both happen only after PENDING_STOPPED was seen, and
// PENDING_STOPPED is never taken back. So a later owner of the partition appends nothing either.
// DESIGN.md has the argument.
//
// Invariant: committed offsets are set back only while the mirror is PENDING_STOPPED. Once it is
// STOPPED, an offset beyond its end belongs to a record that a client has written since.
//
// Nothing is stored before all steps are done. If klink is killed on the way, it finds the mirror
// PENDING_STOPPED, drains it, which is quick then, and repeats all steps.

// stopPatience is how long klink tries to set back the offsets of groups. People ask for a stop
// when something is broken, so it does not wait forever for groups that do not answer: the mirror's
// message names them.
const stopPatience = 15 * time.Second

// finalSyncPatience is how long the last copy of groups' offsets may take.
const finalSyncPatience = 30 * time.Second

// finalSync copies the committed offsets of groups for mirrors of a link from the source, for the
// last time: nothing is appended to the mirrors any more, and they are not yet writable. It returns
// by topic, for people, what it could not do; ctx bounds its time. Its result need not stay within
// the mirrors' ends: offsets beyond them are set back afterwards.
type finalSync func(ctx context.Context, link string, topics []string) (notes map[string][]string)

// sourceEndAge is how long before the stop the source may have answered last, so that the end it
// reported counts as its end at the stop. A live source answers at least once in fetch.max.wait.ms.
const sourceEndAge = 3 * time.Second

// mirrorEnds are the ends of a mirror's partitions; -1 = not known.
type mirrorEnds struct {
	logical  []int64
	physical []int64
	straight []bool  // see store.TimelineEnd
	source   []int64 // as last seen
	seen     []int64 // when that was (Unix milliseconds), if older than sourceEndAge; -1 = it is not
}

// drained queues the stop of a mirror to which nothing will be appended any more, and returns. The
// mirror is STOPPED soon after.
func (s *Service) drained(ctx context.Context, ev model.Event) error {
	if err := s.waitReady(ctx); err != nil {
		return err
	}
	state := s.State()
	m := state.Mirrors[ev.Topic]
	if m == nil || m.State != model.MirrorPendingStopped || ev.Mirror != "" && ev.Mirror != m.ID {
		return nil
	}
	if err := s.ownTopic(ev.Topic); err != nil {
		return err
	}
	if p := notEnded(m, ev); len(state.Timelines[ev.Topic]) > 0 && p >= 0 {
		return fmt.Errorf("mirror topic '%s' is not drained: partition %d has not ended", ev.Topic, p)
	}
	s.stopsMu.Lock()
	defer s.stopsMu.Unlock()
	if s.ctx.Err() != nil {
		return caslog.ErrClosed
	}
	s.stops[ev.Topic] = ev
	if !s.stopping {
		s.stopping = true
		s.work.Go(s.finishStops)
	}
	return nil
}

// notEnded returns a partition of a mirror that has not ended, as far as this instance (ev) and the
// state say; -1 = all have.
func notEnded(m *model.Mirror, ev model.Event) int32 {
	ended := make([]bool, m.Partitions)
	for _, e := range ev.Ended {
		if e.Partition >= 0 && e.Partition < m.Partitions {
			ended[e.Partition] = true
		}
	}
	for p := range m.Partitions {
		if !ended[p] && !m.HasEnded(p) {
			return p
		}
	}
	return -1
}

// notEndedIn is notEnded on the records that tx sees.
func notEndedIn(tx *store.Tx, topic string, m *store.MirrorRecord, ev model.Event) int32 {
	view := &model.Mirror{Partitions: m.Partitions, Ended: make([]bool, m.Partitions)}
	for p := range m.Partitions {
		t, err := tx.Timeline(topic, p)
		view.Ended[p] = err != nil || t == nil || t.Ended != nil
	}
	return notEnded(view, ev)
}

// partitionsEnded stores that partitions of a mirror that is being stopped have ended. This
// instance must own them.
func (s *Service) partitionsEnded(ctx context.Context, ev model.Event) error {
	if err := s.waitReady(ctx); err != nil {
		return err
	}
	state := s.State()
	m := state.Mirrors[ev.Topic]
	if m == nil || m.State != model.MirrorPendingStopped || ev.Mirror != "" && ev.Mirror != m.ID {
		return nil
	}
	timelines := state.Timelines[ev.Topic]
	source, seen := s.sourceEnds(m, len(timelines))
	return s.update(ctx, func(tx *store.Tx) error {
		r, err := tx.Mirror(ev.Topic)
		if err != nil || r == nil || r.ID != m.ID || r.State != model.MirrorPendingStopped {
			return nil // there is nothing to end any more
		}
		for _, e := range ev.Ended {
			if e.Partition < 0 || int(e.Partition) >= len(timelines) {
				continue
			}
			if err := s.ownPartition(ev.Topic, e.Partition); err != nil {
				return err
			}
			t, err := tx.Timeline(ev.Topic, e.Partition)
			if err != nil || t == nil || t.Ended != nil {
				continue // one that cannot be read counts as ended
			}
			t = t.Clone()
			t.Ended = &store.EndedPartition{
				TimelineEnd: store.TimelineEnd{Physical: max(e.Physical, -1), Logical: max(e.Logical, -1), Straight: timelines[e.Partition].OneRun()}, SourceEnd: source[e.Partition], SourceSeen: seen[e.Partition],
			}
			if err := tx.PutTimeline(ev.Topic, e.Partition, t); err != nil {
				return err
			}
		}
		return nil
	})
}

// finishStops finishes stops until there are none to finish.
func (s *Service) finishStops() {
	for {
		s.stopsMu.Lock()
		batch := s.stops
		s.stops = map[string]model.Event{}
		s.stopping = len(batch) > 0 && s.ctx.Err() == nil
		goOn := s.stopping
		s.stopsMu.Unlock()
		if !goOn {
			return
		}
		// Drop reports that were repeated while their mirror was being stopped.
		state := s.State()
		maps.DeleteFunc(batch, func(topic string, _ model.Event) bool {
			m := state.Mirrors[topic]
			return m == nil || m.State != model.MirrorPendingStopped || !s.ownsTopic(topic)
		})
		if len(batch) == 0 {
			continue
		}
		// Mirrors that were failed over do not wait for the last copy of the offsets of promoted
		// ones.
		promoted := map[string]model.Event{}
		if s.finalSync != nil {
			for topic, ev := range batch {
				if state.Mirrors[topic].Promoted {
					promoted[topic] = ev
					delete(batch, topic)
				}
			}
		}
		for _, part := range []map[string]model.Event{batch, promoted} {
			if len(part) == 0 {
				continue
			}
			if err := s.finish(s.ctx, part); err != nil && s.ctx.Err() == nil {
				// The replicator reports again as long as the state does not show STOPPED.
				s.log.Warn("could not finish stopping mirrors, will retry", "topics", len(part), "error", err)
			}
		}
	}
}

// syncFinally runs finalSync for the mirrors of a batch that were promoted.
func (s *Service) syncFinally(ctx context.Context, batch map[string]model.Event) map[string][]string {
	notes := map[string][]string{}
	if s.finalSync == nil {
		return notes
	}
	byLink := map[string][]string{}
	for topic := range batch {
		if m := s.State().Mirrors[topic]; m != nil && m.Promoted {
			byLink[m.Link] = append(byLink[m.Link], topic)
		}
	}
	for _, link := range slices.Sorted(maps.Keys(byLink)) {
		topics := byLink[link]
		slices.Sort(topics)
		for topic, more := range s.finalSync(ctx, link, topics) {
			notes[topic] = append(notes[topic], more...)
		}
	}
	return notes
}

func (s *Service) finish(ctx context.Context, batch map[string]model.Event) error {
	syncing, cancel := context.WithTimeout(ctx, finalSyncPatience)
	defer cancel()
	notes := s.syncFinally(syncing, batch)
	patient, cancel := context.WithTimeout(ctx, stopPatience)
	defer cancel()
	ends := s.endsOf(patient, batch)
	for topic, more := range s.clamp(patient, ends) {
		notes[topic] = append(notes[topic], more...)
	}
	for topic, e := range ends {
		if note := unknownEnds(e); note != "" {
			notes[topic] = append(notes[topic], note)
		}
	}
	ctx, cancel = context.WithTimeout(ctx, time.Minute)
	defer cancel()
	err := s.update(ctx, func(tx *store.Tx) error {
		for _, topic := range slices.Sorted(maps.Keys(batch)) {
			m, err := tx.Mirror(topic)
			if err != nil || m == nil || m.State != model.MirrorPendingStopped || !s.ownsTopic(topic) || batch[topic].Mirror != "" && batch[topic].Mirror != m.ID {
				continue // a broken record is shown as FAILED
			}
			if p := notEndedIn(tx, topic, m, batch[topic]); m.Created && !m.TopicGone && p >= 0 {
				s.log.Error("cannot finish stopping a mirror: one of its partitions has not ended", "topic", topic, "partition", p)
				continue
			}
			s.endTimelines(tx, topic, m, ends[topic])
			said := slices.Clone(notes[topic]) // this may be evaluated again
			note := ""
			m, note = settleVoid(m, batch[topic])
			for _, more := range []string{note, batch[topic].Message} {
				if more != "" {
					said = append(said, more)
				}
			}
			in := model.MirrorInput{Kind: model.InputDrained, Message: strings.Join(said, "; "), Link: linkStatusOf(tx, m.Link)}
			if err := moveMirror(tx, topic, m, in, s.cfg.Now()); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		s.wakeReconciler() // it sets the topics' configs to the source's own
	}
	return err
}

// endTimelines stores where a mirror's partitions ended, as far as that is known. If an end cannot
// be stored, the timeline stays as it was and the error is logged: the stop goes on.
func (s *Service) endTimelines(tx *store.Tx, topic string, m *store.MirrorRecord, ends mirrorEnds) {
	for p := range min(int(m.Partitions), len(ends.logical)) {
		at := store.TimelineEnd{Physical: ends.physical[p], Logical: ends.logical[p], Straight: ends.straight[p]}
		if at.Physical < 0 || at.Logical < 0 {
			continue
		}
		t, err := tx.Timeline(topic, int32(p))
		if err == nil && t != nil {
			t = t.Clone()
			t.Ended = nil
			if source := ends.source[p]; source >= 0 && t.SourceEnd == nil {
				t.SourceEnd = &source
				if seen := ends.seen[p]; seen >= 0 {
					t.SourceSeen = &seen
				}
			}
			if err = t.SetEnd(topic, int32(p), at); err == nil {
				err = tx.PutTimeline(topic, int32(p), t)
			}
		}
		if err != nil {
			s.log.Error("could not store the end of a mirror partition", "topic", topic, "partition", p, "error", err)
		}
	}
}

// endsOf returns the ends of mirrors that are drained: as reported, or else as the destination and
// the timelines say.
func (s *Service) endsOf(ctx context.Context, batch map[string]model.Event) map[string]mirrorEnds {
	state := s.State()
	ends := map[string]mirrorEnds{}
	var ask []string
	for topic, ev := range batch {
		m, timelines := state.Mirrors[topic], state.Timelines[topic]
		if m == nil || !m.Created || len(timelines) == 0 {
			continue // there is no topic, or it is not the mirror's
		}
		e := mirrorEnds{logical: unknownOffsets(len(timelines)), physical: unknownOffsets(len(timelines)), straight: make([]bool, len(timelines))}
		for p, t := range timelines {
			e.straight[p] = s.ownsPartition(topic, int32(p)) && t.OneRun()
		}
		e.source, e.seen = s.sourceEnds(m, len(timelines))
		for p, r := range s.store.TimelineRecords(topic, int32(len(timelines))) {
			if r != nil && r.Ended != nil { // by another instance
				e.logical[p], e.physical[p], e.straight[p] = r.Ended.Logical, r.Ended.Physical, r.Ended.Straight
				e.source[p], e.seen[p] = r.Ended.SourceEnd, r.Ended.SourceSeen
			}
		}
		for _, end := range ev.Ended {
			if end.Partition >= 0 && int(end.Partition) < len(timelines) {
				e.logical[end.Partition], e.physical[end.Partition] = end.Logical, end.Physical
				e.straight[end.Partition] = timelines[end.Partition].OneRun()
			}
		}
		for p, physical := range ev.PhysicalEnds[:min(len(ev.PhysicalEnds), len(timelines))] {
			if e.physical[p] >= 0 && physical > e.physical[p] {
				e.physical[p], e.straight[p] = physical, false // void batches are behind the end
			}
		}
		ends[topic] = e
		if slices.Contains(e.logical, -1) {
			ask = append(ask, topic)
		}
	}
	if len(ask) == 0 {
		return ends
	}
	listed, err := s.admin.ListEndOffsets(ctx, ask...)
	if err != nil {
		s.log.Warn("could not find the ends of stopped mirrors at the destination", "error", err)
	}
	for _, topic := range ask {
		e := ends[topic]
		for p, t := range state.Timelines[topic] {
			end, ok := listed.Lookup(topic, int32(p))
			if !ok || end.Err != nil || e.logical[p] >= 0 || t.Floor() == store.OutOfRange {
				continue
			}
			if logical, ok := s.findEnd(ctx, topic, int32(p), t, end.Offset); ok {
				e.physical[p], e.logical[p] = end.Offset, logical
			}
		}
	}
	return ends
}

// sourceEnds returns where the partitions of a mirror that is being stopped ended at the source, as
// last seen, and when: see mirrorEnds.
func (s *Service) sourceEnds(m *model.Mirror, partitions int) (ends, seen []int64) {
	ends, seen = unknownOffsets(partitions), unknownOffsets(partitions)
	r := s.reporter.Load()
	if r == nil || *r == nil {
		return ends, seen
	}
	for p, status := range (*r).Status(m.Topic) {
		if p >= partitions || status.SourceEnd < 0 || status.LastFetch.IsZero() {
			continue
		}
		ends[p] = status.SourceEnd
		if !status.LastFetch.After(m.StateTime.Add(-sourceEndAge)) {
			seen[p] = status.LastFetch.UnixMilli()
		}
	}
	return ends, seen
}

// findEnd translates the end of a log. If necessary it reads the last batch; ok is false if that
// does not help.
func (s *Service) findEnd(ctx context.Context, topic string, partition int32, t *timeline.Partition, physical int64) (logical int64, ok bool) {
	if logical, _, ok = t.FindLogical(physical); ok {
		return logical, true
	}
	if err := facts.LearnEnd(ctx, s.client, s.cfg.Now, topic, partition, t); err != nil {
		s.log.Warn("could not find the end of a mirror partition", "topic", topic, "partition", partition, "error", err)
		return 0, false
	}
	logical, _, ok = t.FindLogical(physical)
	return logical, ok
}

func unknownOffsets(n int) []int64 {
	offsets := make([]int64, n)
	for i := range offsets {
		offsets[i] = -1
	}
	return offsets
}

// unknownEnds says, for people, which ends are not known; "" = all are known.
func unknownEnds(e mirrorEnds) string {
	var unknown []int
	for p := range e.logical {
		if e.logical[p] < 0 || e.physical[p] < 0 {
			unknown = append(unknown, p)
		}
	}
	if len(unknown) == 0 {
		return ""
	}
	return fmt.Sprintf("the ends of %d of %d partitions are unknown (the first is partition %d): klink may not know offsets beyond the last record of the mirror", len(unknown), len(e.logical), unknown[0])
}

// notChecked returns the message for a mirror whose groups' offsets could not be checked.
func notChecked(err error) string {
	return fmt.Sprintf("could not compare the committed offsets of groups with the mirror's end: %s", err)
}
