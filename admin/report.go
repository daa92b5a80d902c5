package admin

import (
	"context"
	"fmt"

	"klink/admin/model"
	"klink/admin/store"
)

// Report records a finding of the replicator. When it returns nil, the resulting change is durable
// and in State. A finding about a link or mirror that is gone changes nothing.
//
// EventMirrorDrained is only queued: the mirror becomes STOPPED once committed offsets have been
// compared with its end. The replicator may report it again, like every finding, as long as State
// does not show it.
func (s *Service) Report(ctx context.Context, ev model.Event) error {
	switch ev.Kind {
	case model.EventMirrorDrained:
		return s.drained(ctx, ev)
	case model.EventPartitionsEnded:
		return s.partitionsEnded(ctx, ev)
	case model.EventMirrorVoid:
		return s.foundVoid(ctx, ev)
	}
	return s.update(ctx, func(tx *store.Tx) error {
		switch ev.Kind {
		case model.EventLinkUp, model.EventLinkDown:
			return s.reportLink(tx, ev)
		}
		return s.reportMirror(tx, ev)
	})
}

func (s *Service) reportLink(tx *store.Tx, ev model.Event) error {
	r, err := tx.Link(ev.Link)
	if err != nil || r == nil {
		return err
	}
	if !s.ownsLink(ev.Link) {
		return fmt.Errorf("link %q: %w", ev.Link, model.ErrNotOwner)
	}
	if ev.Kind == model.EventLinkDown {
		return s.moveLink(tx, ev.Link, r, model.LinkInput{Kind: model.InputLinkDown, Error: ev.Error, Message: ev.Message})
	}
	own := s.clusterID.Load()
	switch {
	case ev.SourceClusterID == "":
	case own != nil && *own == ev.SourceClusterID:
		return s.moveLink(tx, ev.Link, r, model.LinkInput{Kind: model.InputLinkFail, Error: model.ErrSourceClusterChanged, Message: "bootstrap.servers points to the destination itself: change it to the source's brokers"})
	case r.SourceClusterID == "":
		r = r.Clone()
		r.SourceClusterID = ev.SourceClusterID
	case r.SourceClusterID != ev.SourceClusterID:
		return s.moveLink(tx, ev.Link, r, model.LinkInput{Kind: model.InputLinkFail, Error: model.ErrSourceClusterChanged, Message: fmt.Sprintf(
			"bootstrap.servers points to cluster %s, but the link mirrors cluster %s: correct bootstrap.servers, or delete the link and create a new one", ev.SourceClusterID, r.SourceClusterID)})
	}
	return s.moveLink(tx, ev.Link, r, model.LinkInput{Kind: model.InputLinkUp})
}

var mirrorEvents = map[model.EventKind]model.MirrorInputKind{
	model.EventMirrorStarted:     model.InputStarted,
	model.EventMirrorUnavailable: model.InputUnavailable,
	model.EventMirrorRecovered:   model.InputRecovered,
	model.EventMirrorFailed:      model.InputFailed,
	model.EventMirrorCaughtUp:    model.InputCaughtUp,
}

func (s *Service) reportMirror(tx *store.Tx, ev model.Event) error {
	kind, ok := mirrorEvents[ev.Kind]
	if !ok {
		return fmt.Errorf("unknown event %d about mirror topic '%s'", ev.Kind, ev.Topic)
	}
	m, err := tx.Mirror(ev.Topic)
	if err != nil || m == nil {
		return err
	}
	if ev.Kind == model.EventMirrorFailed && ev.Partition >= 0 {
		err = s.ownPartition(ev.Topic, ev.Partition)
	} else {
		err = s.ownTopic(ev.Topic)
	}
	if err != nil {
		return err
	}
	return moveMirror(tx, ev.Topic, m, model.MirrorInput{Kind: kind, Error: ev.Error, Message: ev.Message, Link: linkStatusOf(tx, m.Link), Promotion: model.Promotion{ID: ev.Promotion}}, s.cfg.Now())
}

// SetTimeline stores that the physical offset physical is the logical offset logical, and that
// nothing below floor is shown. Then it moves the partition's published timeline accordingly. The
// change is durable when SetTimeline returns nil.
func (s *Service) SetTimeline(ctx context.Context, topic string, partition int32, physical, logical, floor int64) error {
	if physical < 0 || logical < 0 || floor < 0 {
		return fmt.Errorf("timeline of partition %d of '%s': negative offset (physical %d, logical %d, floor %d)", partition, topic, physical, logical, floor)
	}
	err := s.update(ctx, func(tx *store.Tx) error {
		t, err := s.ownTimeline(tx, topic, partition)
		if err != nil {
			return err
		}
		next := &store.TimelineRecord{}
		if t != nil {
			next = t.Clone()
		}
		next.Physical, next.Logical, next.Floor = physical, logical, floor
		return tx.PutTimeline(topic, partition, next)
	})
	if err != nil {
		return err
	}
	// The store has moved the published timeline, unless the record stayed the same. Then the owner
	// may have moved the timeline since the record was written.
	if ts := s.State().Timelines[topic]; int(partition) < len(ts) {
		ts[partition].Move(physical, logical, floor)
	}
	return nil
}
