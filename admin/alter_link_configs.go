package admin

import (
	"context"
	"errors"
	"maps"

	"klink/admin/linkconfig"
	"klink/admin/model"
	"klink/admin/store"
	"klink/internal/parallel"
	"klink/protocol"
	"klink/protocol/linkapi"

	"github.com/twmb/franz-go/pkg/kerr"
)

func (s *Service) alterLinkConfigs(ctx context.Context, req *linkapi.AlterLinkConfigsRequest) *linkapi.AlterLinkConfigsResponse {
	ctx, cancel := withTimeout(ctx, req.TimeoutMs)
	defer cancel()
	resp := &linkapi.AlterLinkConfigsResponse{Results: make([]linkapi.NameResult, len(req.Links))}
	parallel.ForEach(len(req.Links), func(i int) {
		result := &resp.Results[i]
		result.Name = req.Links[i].Name
		result.ErrorCode, result.ErrorMessage = wire(s.alterLink(ctx, req.Links[i], req.ValidateOnly))
	})
	return resp
}

// errChanged: somebody else changed the link after it was read and before it was written.
var errChanged = errors.New("the link was changed in the meantime")

// alterLink changes the configs of one link, all or nothing. Before it stores anything, it checks
// the new configs as a whole, and connects to the source if a config has changed that decides how
// klink reaches it. If the link changes at the same time, alterLink starts over.
func (s *Service) alterLink(ctx context.Context, link linkapi.AlterLink, validateOnly bool) *protocol.Error {
	if err := s.waitReady(ctx); err != nil {
		return asError(err)
	}
	for {
		err := s.tryAlterLink(ctx, link, validateOnly)
		if !errors.Is(err, errChanged) {
			return asError(err)
		}
		if ctx.Err() != nil {
			return asError(ctx.Err())
		}
	}
}

func (s *Service) tryAlterLink(ctx context.Context, link linkapi.AlterLink, validateOnly bool) error {
	var seen *store.LinkRecord
	if err := s.update(ctx, func(tx *store.Tx) error {
		r, err := tx.Link(link.Name)
		seen = r
		return err
	}); err != nil {
		return err
	}
	if seen == nil {
		return linkMissing(link.Name)
	}
	view := seen.View(link.Name, s.cfg.Secrets)
	set, deleted, refused := requestedChanges(view, link.Configs)
	if refused != nil {
		return refused
	}
	configs := maps.Clone(view.Configs)
	maps.Copy(configs, set)
	for name := range deleted {
		delete(configs, name)
	}
	if err := linkconfig.CheckCustody(view, configs, set, deleted); err != nil {
		return err
	}
	for name, secret := range seen.Secrets {
		if _, known := configs[name]; known || deleted[name] {
			continue
		}
		if _, err := s.cfg.Secrets.Open(link.Name, name, secret); err != nil {
			return protocol.Errorf(kerr.InvalidConfig, "%s", err)
		}
	}
	if err := linkconfig.Validate(configs, s.cfg.LinkFiles); err != nil {
		return err
	}
	next := seen.Clone()
	for name := range deleted {
		delete(next.Configs, name)
		delete(next.Secrets, name)
	}
	if err := s.setConfigs(next, link.Name, set); err != nil {
		return err
	}
	if err := s.checkSource(ctx, view, configs, next); err != nil {
		return err
	}
	if validateOnly {
		return nil
	}
	return s.update(ctx, func(tx *store.Tx) error {
		now, err := tx.Link(link.Name)
		if err != nil {
			return err
		}
		if now == nil {
			return linkMissing(link.Name)
		}
		if !sameConfigs(now, seen) {
			return errChanged
		}
		// The link's state may have changed since it was read, so replace only the configs.
		r := now.Clone()
		r.Configs, r.Secrets = next.Configs, next.Secrets
		if r.SourceClusterID == "" {
			r.SourceClusterID = next.SourceClusterID
		}
		if !wantsACLs(configs) {
			tx.DeleteACLs(link.Name)
		}
		in := model.LinkInput{Kind: model.InputLinkResume}
		if linkconfig.Value(configs, linkconfig.ConfigLinkPaused) == "true" {
			in.Kind = model.InputLinkPause
		}
		return s.moveLink(tx, link.Name, r, in)
	})
}

// checkSource connects to the source and its brokers with changed configs, so that klink refuses a
// mistake at once. If the link is not ACTIVE, a failed connection is accepted unless
// bootstrap.servers has changed or leads to the destination itself: only the cluster at a new
// address tells whether offsets still mean the same. For that one broker is enough.
func (s *Service) checkSource(ctx context.Context, old *model.Link, configs map[string]string, next *store.LinkRecord) *protocol.Error {
	changed, moved := false, false
	for _, c := range linkconfig.Configs() {
		if c.Connection && old.Configs[c.Name] != configs[c.Name] {
			changed = true
			moved = moved || c.Name == linkconfig.ConfigBootstrapServers
		}
	}
	if !changed {
		return nil
	}
	cluster, err := s.tryConnect(ctx, old.Name, configs)
	if err != nil && (moved && cluster == "" || old.State == model.LinkActive || err.Code == kerr.InvalidRequest) {
		return err
	}
	if cluster == "" {
		return nil
	}
	if old.SourceClusterID != "" && cluster != old.SourceClusterID {
		return protocol.Errorf(kerr.InvalidConfig, "bootstrap.servers: %s is cluster %s, but link %q mirrors cluster %s; the source of a link cannot be changed: create a new link", configs[linkconfig.ConfigBootstrapServers], cluster, old.Name, old.SourceClusterID)
	}
	next.SourceClusterID = cluster
	return nil
}

// requestedChanges returns the changes of a request. It leaves out client properties that make no
// difference to links.
func requestedChanges(was *model.Link, changes []linkapi.AlterConfig) (set map[string]string, deleted map[string]bool, refused *protocol.Error) {
	set, deleted = map[string]string{}, map[string]bool{}
	for _, c := range changes {
		c.Name = linkconfig.Name(c.Name)
		if _, twice := set[c.Name]; twice || deleted[c.Name] {
			return nil, nil, givenTwice(c.Name)
		}
		value := ""
		if c.Value != nil {
			value = *c.Value
		}
		if _, stored := was.Configs[c.Name]; !stored && !was.Sealed[c.Name] && linkconfig.Ignored(c.Name, value) {
			continue
		}
		switch {
		case c.Op == linkapi.ConfigDelete:
			if _, known := linkconfig.Lookup(c.Name); !known {
				return nil, nil, protocol.Errorf(kerr.InvalidConfig, "unknown link config %.260q%s", c.Name, linkconfig.Suggestion(c.Name))
			}
			deleted[c.Name] = true
		case c.Op == linkapi.ConfigSet && c.Value != nil:
			set[c.Name] = linkconfig.Trimmed(c.Name, *c.Value)
		case c.Op == linkapi.ConfigSet:
			return nil, nil, protocol.Errorf(kerr.InvalidConfig, "%.260q is set to null: give a value, or delete the config", c.Name)
		default:
			return nil, nil, protocol.Errorf(kerr.InvalidRequest, "unknown operation %d for config %.260q: use set (0) or delete (1)", c.Op, c.Name)
		}
	}
	return set, deleted, nil
}

func sameConfigs(a, b *store.LinkRecord) bool {
	return a.ID == b.ID && maps.Equal(a.Configs, b.Configs) &&
		maps.EqualFunc(a.Secrets, b.Secrets, func(x, y store.Sealed) bool { return x.KeyID == y.KeyID && string(x.Data) == string(y.Data) })
}
