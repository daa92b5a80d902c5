package admin

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"klink/admin/model"
	"klink/admin/store"
	"klink/internal/parallel"
	"klink/protocol"
	"klink/protocol/linkapi"

	"github.com/twmb/franz-go/pkg/kerr"
)

func (s *Service) deleteLinks(ctx context.Context, req *linkapi.DeleteLinksRequest) *linkapi.DeleteLinksResponse {
	ctx, cancel := withTimeout(ctx, req.TimeoutMs)
	defer cancel()
	resp := &linkapi.DeleteLinksResponse{Results: make([]linkapi.NameResult, len(req.Names))}
	parallel.ForEach(len(req.Names), func(i int) {
		result := &resp.Results[i]
		result.Name = req.Names[i]
		result.ErrorCode, result.ErrorMessage = wire(s.deleteLink(ctx, req.Names[i], req.Force, req.ValidateOnly))
	})
	return resp
}

// deleteLink deletes one link. Its stopped mirrors stay what they are: topics whose offsets are
// translated.
func (s *Service) deleteLink(ctx context.Context, name string, force, validateOnly bool) *protocol.Error {
	if err := s.waitReady(ctx); err != nil {
		return asError(err)
	}
	if s.State().Links[name] == nil {
		return linkMissing(name)
	}
	if validateOnly {
		if running := runningMirrors(s.State(), name); len(running) > 0 && !force {
			return linkBusy(name, running)
		}
		return nil
	}
	if force {
		if err := s.failoverAll(ctx, name); err != nil {
			return err
		}
	}
	err := s.update(ctx, func(tx *store.Tx) error {
		// A link whose record cannot be read can be deleted, too.
		if there, err := tx.Link(name); err == nil && there == nil {
			return linkMissing(name)
		}
		var running []string
		for _, topic := range tx.Mirrors() {
			if m, err := tx.Mirror(topic); err == nil && m.Link == name && m.State != model.MirrorStopped {
				running = append(running, topic)
			}
		}
		if len(running) > 0 {
			return linkBusy(name, running)
		}
		tx.DeleteLink(name)
		tx.DeleteACLs(name)
		return nil
	})
	if err != nil {
		return asError(err)
	}
	s.log.Info("link deleted", "link", name)
	return nil
}

// failoverAll stops every mirror of a link.
func (s *Service) failoverAll(ctx context.Context, link string) *protocol.Error {
	running := runningMirrors(s.State(), link)
	mirrors := make([]linkapi.AlterMirror, len(running))
	for i, topic := range running {
		mirrors[i] = linkapi.AlterMirror{Topic: topic, Op: linkapi.MirrorFailover}
	}
	var errs []error
	for _, err := range s.alterAll(ctx, mirrors, false) {
		if err != nil {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		e := asError(err)
		return protocol.Errorf(e.Code, "link %q was not deleted, because some of its mirrors could not be stopped: %s", link, e.Message)
	}
	return nil
}

// linkBusy returns the error for deleting a link that has running mirrors.
func linkBusy(name string, running []string) *protocol.Error {
	const most = 10
	list, rest := running, ""
	if len(list) > most {
		list, rest = list[:most], fmt.Sprintf(" and %d more", len(running)-most)
	}
	return protocol.Errorf(kerr.InvalidRequest, "link %q has mirrors that are not stopped (%s%s): fail them over or delete them first, or delete the link with --force, which fails them over", name, strings.Join(list, ", "), rest)
}
