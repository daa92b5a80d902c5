package admin

import (
	"context"
	"maps"
	"slices"
	"time"

	"klink/admin/model"
	"klink/protocol/linkapi"
)

func (s *Service) listMirrors(ctx context.Context, req *linkapi.ListMirrorsRequest) *linkapi.ListMirrorsResponse {
	ctx, cancel := withTimeout(ctx, 0)
	defer cancel()
	resp := &linkapi.ListMirrorsResponse{}
	if err := s.waitReady(ctx); err != nil {
		resp.ErrorCode, resp.ErrorMessage = wire(asError(err))
		return resp
	}
	state := s.State()
	if req.Link != nil && state.Links[*req.Link] == nil {
		resp.ErrorCode, resp.ErrorMessage = wire(linkMissing(*req.Link))
		return resp
	}
	for _, topic := range slices.Sorted(maps.Keys(state.Mirrors)) {
		m := state.Mirrors[topic]
		if req.Link != nil && m.Link != *req.Link || m.State == model.MirrorStopped && !req.IncludeStopped {
			continue
		}
		shown, code, _ := s.shown(m)
		listed := linkapi.ListedMirror{
			Link: m.Link, Topic: topic, SourceTopic: m.SourceTopic, State: string(shown), Error: string(code),
			StateTimeMs: millis(m.StateTime), NumPartitions: m.Partitions, MaxLag: -1,
		}
		for _, p := range s.partitions(m) {
			if p.Lag < 0 {
				// If one lag is not known, the largest is not known either.
				listed.MaxLag = -1
				break
			}
			listed.MaxLag = max(listed.MaxLag, p.Lag)
		}
		resp.Mirrors = append(resp.Mirrors, listed)
	}
	return resp
}

// shown returns the state of a mirror as people see it. That is the stored state, or MirrorUnowned
// if the stored state says that the mirror is copied but no instance copies it.
func (s *Service) shown(m *model.Mirror) (state model.MirrorState, code model.Error, message string) {
	state, code, message = m.Shown(), m.Error, m.ErrorMessage
	if state != model.MirrorActive && state != model.MirrorPending {
		return state, code, message
	}
	if r := s.reporter.Load(); r != nil {
		if owners, ok := (*r).(model.OwnerReporter); ok {
			if why := owners.Unowned(m.Topic); why != "" {
				return model.MirrorUnowned, model.ErrNoInstance, why
			}
		}
	}
	return state, code, message
}

// millis returns a time in Unix milliseconds; -1 = never.
func millis(t time.Time) int64 {
	if t.IsZero() {
		return -1
	}
	return t.UnixMilli()
}
