package admin

import (
	"context"
	"maps"
	"slices"

	"klink/admin/model"
	"klink/protocol/linkapi"
)

func (s *Service) listLinkTasks(ctx context.Context, req *linkapi.ListLinkTasksRequest) *linkapi.ListLinkTasksResponse {
	ctx, cancel := withTimeout(ctx, 0)
	defer cancel()
	resp := &linkapi.ListLinkTasksResponse{}
	if err := s.waitReady(ctx); err != nil {
		resp.ErrorCode, resp.ErrorMessage = wire(asError(err))
		return resp
	}
	state := s.State()
	names := slices.Sorted(maps.Keys(state.Links))
	if req.Link != nil {
		names = []string{*req.Link}
	}
	for _, name := range names {
		listed := linkapi.LinkTasks{Name: name}
		if l := state.Links[name]; l == nil {
			listed.ErrorCode, listed.ErrorMessage = wire(linkMissing(name))
		} else {
			for _, status := range s.linkTasks(l) {
				listed.Tasks = append(listed.Tasks, listedTask(status))
			}
		}
		resp.Links = append(resp.Links, listed)
	}
	return resp
}

func listedTask(status model.TaskStatus) linkapi.LinkTask {
	t := linkapi.LinkTask{
		Name: status.Name, State: string(status.State), IntervalMs: status.Interval.Milliseconds(),
		LastRunTimeMs: millis(status.LastRun), LastSuccessTimeMs: millis(status.LastSuccess),
	}
	for _, e := range status.Errors {
		t.Errors = append(t.Errors, linkapi.LinkTaskError{Code: string(e.Code), Message: e.Message})
	}
	return t
}

// LinkTasks returns the tasks of all links, by link name; none until Ready.
func (s *Service) LinkTasks() map[string][]model.TaskStatus {
	of := map[string][]model.TaskStatus{}
	for name, l := range s.State().Links {
		of[name] = s.linkTasks(l)
	}
	return of
}
