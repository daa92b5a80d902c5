package admin

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"klink/admin/model"
	"klink/admin/notices"
	"klink/admin/store"
	"klink/protocol/linkapi"

	"github.com/twmb/franz-go/pkg/kadm"
)

func (s *Service) describeMirrors(ctx context.Context, req *linkapi.DescribeMirrorsRequest) *linkapi.DescribeMirrorsResponse {
	ctx, cancel := withTimeout(ctx, 0)
	defer cancel()
	resp := &linkapi.DescribeMirrorsResponse{}
	if err := s.waitReady(ctx); err != nil {
		resp.ErrorCode, resp.ErrorMessage = wire(asError(err))
		return resp
	}
	state, topics := s.State(), req.Topics
	if topics == nil {
		topics = slices.Sorted(maps.Keys(state.Mirrors))
	}
	fillFromDestination := s.destinationOffsets(ctx, state, topics)
	noticesOf := notices.Of(ctx, s.admin, s.log, state, topics, s.whyUngrown)
	for _, topic := range topics {
		m := state.Mirrors[topic]
		if m == nil {
			d := linkapi.DescribedMirror{Topic: topic}
			d.ErrorCode, d.ErrorMessage = wire(mirrorMissing(topic))
			resp.Mirrors = append(resp.Mirrors, d)
			continue
		}
		shown, code, message := s.shown(m)
		d := linkapi.DescribedMirror{
			Topic: topic, Link: m.Link, SourceTopic: m.SourceTopic, State: string(shown), Error: string(code),
			StateMessage: message, StateTimeMs: millis(m.StateTime), Partitions: s.partitions(m),
		}
		if m.Promotion != "" {
			d.StateMessage = fmt.Sprintf("the promotion is in progress (deadline %s): %s", m.PromotionDeadline.UTC().Format(time.RFC3339), s.progress(m))
		}
		fillFromDestination(topic, d.Partitions)
		d.DirectAccess, d.DirectAccessReason = directAccess(m, state.Timelines[topic], d.Partitions)
		d.ConfigDrift = s.describeDrift(m)
		d.Notices = noticesOf(m)
		resp.Mirrors = append(resp.Mirrors, d)
	}
	return resp
}

// describeDrift returns the config drift of a mirror, as the instance that runs the tasks of its
// link last found it. A stopped mirror has none: its configs are its own.
func (s *Service) describeDrift(m *model.Mirror) (drift []linkapi.ConfigDrift) {
	if m.State == model.MirrorStopped {
		return nil
	}
	var found []model.ConfigDrift
	if s.ownsLink(m.Link) {
		found = s.driftNow(m.Topic)
	} else if r := s.reporter.Load(); r != nil {
		if of, ok := (*r).(model.DriftReporter); ok {
			found = of.ConfigDrift(m.Topic)
		}
	}
	for _, d := range found {
		drift = append(drift, linkapi.ConfigDrift{Name: d.Name, SourceValue: d.Source, MirrorValue: d.Mirror})
	}
	return drift
}

// destinationOffsets asks the destination for the log start offsets and ends of mirrors for which
// the replicator has no offsets: those that are stopped, paused or FAILED. It returns a function
// that fills them in. Offsets that no broker returned stay unknown.
func (s *Service) destinationOffsets(ctx context.Context, state *model.State, topics []string) (fill func(topic string, ps []linkapi.DescribedPartition)) {
	var ask []string
	for _, topic := range topics {
		if m := state.Mirrors[topic]; m != nil && m.Created && m.Error != model.ErrMirrorTopicDeleted && slices.ContainsFunc(s.partitions(m), func(p linkapi.DescribedPartition) bool {
			return p.MirrorEndOffset < 0 || p.MirrorStartOffset < 0
		}) {
			ask = append(ask, topic)
		}
	}
	if len(ask) == 0 {
		return func(string, []linkapi.DescribedPartition) {}
	}
	var starts, ends kadm.ListedOffsets
	var errs [2]error
	var both sync.WaitGroup
	both.Go(func() { starts, errs[0] = s.admin.ListStartOffsets(ctx, ask...) })
	both.Go(func() { ends, errs[1] = s.admin.ListEndOffsets(ctx, ask...) })
	both.Wait()
	if err := errors.Join(errs[:]...); err != nil {
		s.log.Warn("could not list the offsets of mirrors at the destination", "error", err)
	}
	return func(topic string, ps []linkapi.DescribedPartition) {
		for i, t := range state.Timelines[topic] {
			if i >= len(ps) || t.Floor() == store.OutOfRange {
				continue
			}
			p := &ps[i]
			if start, ok := starts.Lookup(topic, p.Partition); ok && start.Err == nil && p.MirrorStartOffset < 0 {
				p.MirrorStartOffset = t.ToLogical(start.Offset)
			}
			if end, ok := ends.Lookup(topic, p.Partition); ok && end.Err == nil && p.MirrorEndOffset < 0 {
				if logical, ok := s.findEnd(ctx, topic, p.Partition, t, end.Offset); ok {
					p.MirrorEndOffset = logical
				}
			}
		}
	}
}
