package admin

import (
	"context"
	"maps"
	"slices"

	"klink/protocol"
	"klink/protocol/linkapi"

	"github.com/twmb/franz-go/pkg/kerr"
)

func (s *Service) describeMirrors(ctx context.Context, req *linkapi.DescribeMirrorsRequest) *linkapi.DescribeMirrorsResponse {
	ctx, cancel := withTimeout(ctx, 0)
	defer cancel()
	resp := &linkapi.DescribeMirrorsResponse{Version: req.Version}
	if err := s.waitReady(ctx); err != nil {
		resp.ErrorCode, resp.ErrorMessage = wire(asError(err))
		return resp
	}
	state, topics := s.State(), req.Topics
	if topics == nil {
		topics = slices.Sorted(maps.Keys(state.Mirrors))
	}
	ends := s.mirrorEnds(ctx, state, topics)
	for _, topic := range topics {
		m := state.Mirrors[topic]
		if m == nil {
			d := linkapi.DescribedMirror{Topic: topic}
			d.ErrorCode, d.ErrorMessage = wire(protocol.Errorf(kerr.UnknownTopicOrPartition, "there is no mirror topic '%.260s'; `klink mirror list` shows those that are", topic))
			resp.Mirrors = append(resp.Mirrors, d)
			continue
		}
		d := linkapi.DescribedMirror{
			Topic: topic, Link: m.Link, SourceTopic: m.SourceTopic, State: string(m.State), Error: string(m.Error),
			StateMessage: m.ErrorMessage, StateTimeMs: millis(m.StateTime), Partitions: s.partitions(m),
		}
		for i := range d.Partitions {
			if end, ok := ends[timelineAt{topic, int32(i)}]; ok && d.Partitions[i].MirrorEndOffset < 0 {
				d.Partitions[i].MirrorEndOffset = end
			}
		}
		resp.Mirrors = append(resp.Mirrors, d)
	}
	return resp
}

// mirrorEnds asks the destination for the logical ends of mirrors that the replicator has nothing to tell of: those that
// are stopped, paused or FAILED. What does not answer is left out.
func (s *Service) mirrorEnds(ctx context.Context, state *State, topics []string) map[timelineAt]int64 {
	var ask []string
	for _, topic := range topics {
		if m := state.Mirrors[topic]; m != nil && m.Created && m.Error != ErrMirrorTopicDeleted && slices.ContainsFunc(s.partitions(m), func(p linkapi.DescribedPartition) bool { return p.MirrorEndOffset < 0 }) {
			ask = append(ask, topic)
		}
	}
	ends := map[timelineAt]int64{}
	if len(ask) == 0 {
		return ends
	}
	listed, err := s.admin.ListEndOffsets(ctx, ask...)
	if err != nil {
		s.log.Warn("the ends of mirrors at the destination are not known", "error", err)
		return ends
	}
	for _, topic := range ask {
		for p, t := range state.Timelines[topic] {
			if end, ok := listed.Lookup(topic, int32(p)); ok && end.Err == nil && t.Floor() != outOfRange {
				ends[timelineAt{topic, int32(p)}] = t.ToLogical(end.Offset)
			}
		}
	}
	return ends
}
