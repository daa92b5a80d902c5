package admin

import (
	"context"
	"maps"
	"slices"

	"klink/admin/model"
	"klink/protocol/linkapi"
)

func (s *Service) listLinks(ctx context.Context, req *linkapi.ListLinksRequest) *linkapi.ListLinksResponse {
	ctx, cancel := withTimeout(ctx, 0)
	defer cancel()
	resp := &linkapi.ListLinksResponse{}
	if err := s.waitReady(ctx); err != nil {
		resp.ErrorCode, resp.ErrorMessage = wire(asError(err))
		return resp
	}
	state := s.State()
	mirrors := map[string]int32{}
	for _, m := range state.Mirrors {
		if m.State != model.MirrorStopped {
			mirrors[m.Link]++
		}
	}
	for _, name := range slices.Sorted(maps.Keys(state.Links)) {
		l := state.Links[name]
		resp.Links = append(resp.Links, linkapi.ListedLink{
			Name: name, ID: l.ID, State: string(l.State), Error: string(l.Error), SourceClusterID: l.SourceClusterID, MirrorCount: mirrors[name],
		})
	}
	return resp
}

// runningMirrors returns the topics of a link's mirrors that are not stopped, in order.
func runningMirrors(state *model.State, link string) []string {
	var topics []string
	for topic, m := range state.Mirrors {
		if m.Link == link && m.State != model.MirrorStopped {
			topics = append(topics, topic)
		}
	}
	slices.Sort(topics)
	return topics
}
