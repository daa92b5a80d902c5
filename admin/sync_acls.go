package admin

import (
	"context"

	"klink/admin/aclsync"
	"klink/admin/linkconfig"
	"klink/admin/model"
	"klink/admin/sources"
	"klink/protocol"
	"klink/protocol/linkapi"

	"github.com/twmb/franz-go/pkg/kerr"
)

// syncACLs runs the ACL sync of a link once, because a person asked for it. So it deletes at the
// first look what the source does not have.
func (s *Service) syncACLs(ctx context.Context, req *linkapi.SyncACLsRequest) *linkapi.SyncACLsResponse {
	ctx, cancel := withTimeout(ctx, req.TimeoutMs)
	defer cancel()
	resp := &linkapi.SyncACLsResponse{}
	run, err := s.syncACLsOnce(ctx, req.Link, req.ValidateOnly)
	resp.ErrorCode, resp.ErrorMessage = wire(asError(err))
	if run != nil {
		run.answer(resp)
	}
	return resp
}

// syncACLsOnce does the work of syncACLs. The run is nil if it has not begun.
func (s *Service) syncACLsOnce(ctx context.Context, name string, validateOnly bool) (*aclRun, error) {
	if err := s.waitReady(ctx); err != nil {
		return nil, err
	}
	l := s.State().Links[name]
	switch {
	case l == nil:
		return nil, linkMissing(name)
	case !hasACLFilters(l.Configs):
		return nil, protocol.Errorf(kerr.InvalidRequest, "link %q has no %s, so it syncs no ACLs: set them with `klink link update`", name, linkconfig.ConfigACLFilters)
	case validateOnly:
	case !wantsACLs(l.Configs):
		return nil, protocol.Errorf(kerr.InvalidRequest, "link %q syncs no ACLs: set %s=true with `klink link update`, or use --dry-run to see the changes without making them", name, linkconfig.ConfigACLSync)
	case l.State == model.LinkPaused || l.State == model.LinkFailed:
		return nil, protocol.Errorf(kerr.InvalidRequest, "link %q is %s, so it syncs no ACLs now; `klink link describe %s` shows why", name, l.State, name)
	}
	src, refused := sources.Connect(ctx, s.cfg.LinkFiles, name, l.Configs)
	if refused != nil {
		return nil, refused
	}
	defer src.Close()
	if l.SourceClusterID != "" && src.ClusterID != l.SourceClusterID {
		return nil, protocol.Errorf(kerr.InvalidRequest, "%s: %s is a different cluster than the one that link %q was created for", model.ErrSourceClusterChanged, src.Address, name)
	}
	run := &aclRun{s: s, link: l, source: src}
	if err := run.look(ctx); err != nil {
		return nil, err
	}
	if validateOnly {
		return run, run.propose(ctx)
	}
	return run, run.sync(ctx)
}

// answer fills in what the run would do, or has done.
func (r *aclRun) answer(resp *linkapi.SyncACLsResponse) {
	tell := func(what string, acls []aclsync.Binding) (told []linkapi.SyncedACL) {
		for _, a := range acls {
			err := r.results[a]
			if what == "delete" && err == nil && !r.destination.Has(a) {
				continue // somebody else had deleted it
			}
			w := a.Wire()
			_, w.Managed = r.remembered[a]
			if err != nil {
				w.ErrorCode, w.ErrorMessage = wire(aclError(what, a, err))
			}
			told = append(told, w)
		}
		return told
	}
	resp.Adds, resp.Deletes = tell("create", r.plan.Adds), tell("delete", r.plan.Deletes)
	for _, a := range aclsync.Sorted(r.plan.Present) {
		w := a.Wire()
		w.Managed = r.plan.Present[a]
		resp.Present = append(resp.Present, w)
	}
}
