package admin

import (
	"context"
	"maps"
	"slices"
	"time"

	"klink/protocol/linkapi"
)

func (s *Service) listMirrors(ctx context.Context, req *linkapi.ListMirrorsRequest) *linkapi.ListMirrorsResponse {
	ctx, cancel := withTimeout(ctx, 0)
	defer cancel()
	resp := &linkapi.ListMirrorsResponse{Version: req.Version}
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
		if req.Link != nil && m.Link != *req.Link || m.State == MirrorStopped && !req.IncludeStopped {
			continue
		}
		listed := linkapi.ListedMirror{
			Link: m.Link, Topic: topic, SourceTopic: m.SourceTopic, State: string(m.Shown()), Error: string(m.Error),
			StateTimeMs: millis(m.StateTime), NumPartitions: m.Partitions, MaxLag: -1,
		}
		for _, p := range s.partitions(m) {
			if p.Lag < 0 {
				// The largest of several lags is not known when one of them is not.
				listed.MaxLag = -1
				break
			}
			listed.MaxLag = max(listed.MaxLag, p.Lag)
		}
		resp.Mirrors = append(resp.Mirrors, listed)
	}
	return resp
}

// millis is a time in Unix milliseconds; -1 = never.
func millis(t time.Time) int64 {
	if t.IsZero() {
		return -1
	}
	return t.UnixMilli()
}
