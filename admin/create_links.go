package admin

import (
	"context"

	"klink/admin/linkconfig"
	"klink/admin/model"
	"klink/admin/sources"
	"klink/admin/store"
	"klink/internal/parallel"
	"klink/protocol"
	"klink/protocol/linkapi"

	"github.com/twmb/franz-go/pkg/kerr"
)

func (s *Service) createLinks(ctx context.Context, req *linkapi.CreateLinksRequest) *linkapi.CreateLinksResponse {
	ctx, cancel := withTimeout(ctx, req.TimeoutMs)
	defer cancel()
	resp := &linkapi.CreateLinksResponse{Results: make([]linkapi.CreateLinkResult, len(req.Links))}
	parallel.ForEach(len(req.Links), func(i int) {
		result := &resp.Results[i]
		result.Name = req.Links[i].Name
		result.ErrorCode, result.ErrorMessage = wire(s.createLink(ctx, req.Links[i], req.ValidateOnly, req.SkipConnect, result))
	})
	return resp
}

// createLink creates one link, and fills in its id and the source's cluster id in result.
func (s *Service) createLink(ctx context.Context, link linkapi.CreateLink, validateOnly, skipConnect bool, result *linkapi.CreateLinkResult) *protocol.Error {
	if err := model.CheckName(link.Name); err != nil {
		return protocol.Errorf(kerr.InvalidRequest, "invalid link name: %s", err)
	}
	configs, refused := requestedConfigs(link.Configs)
	if refused != nil {
		return refused
	}
	if err := linkconfig.Validate(configs, s.cfg.LinkFiles); err != nil {
		return err
	}
	if err := s.waitReady(ctx); err != nil {
		return asError(err)
	}
	if s.State().Links[link.Name] != nil {
		return linkExists(link.Name)
	}
	record := &store.LinkRecord{ID: store.NewID()}
	if err := s.setConfigs(record, link.Name, configs); err != nil {
		return err
	}
	if !skipConnect {
		cluster, err := s.tryConnect(ctx, link.Name, configs)
		if err != nil {
			return err
		}
		record.SourceClusterID = cluster
	}
	status := model.LinkStatus{State: model.LinkActive}
	if linkconfig.Value(configs, linkconfig.ConfigLinkPaused) == "true" {
		status.State = model.LinkPaused
	}
	record.SetStatus(status, s.cfg.Now())
	if !validateOnly {
		err := s.update(ctx, func(tx *store.Tx) error {
			switch there, err := tx.Link(link.Name); {
			case err != nil:
				return err
			case there != nil:
				return linkExists(link.Name)
			}
			return tx.PutLink(link.Name, record)
		})
		if err != nil {
			return asError(err)
		}
		s.log.Info("link created", "link", link.Name, "id", record.ID, "source_cluster_id", record.SourceClusterID)
		result.ID = record.ID
	}
	result.SourceClusterID = record.SourceClusterID
	return nil
}

// tryConnect connects to the source and then to each of its brokers, refuses a link of a cluster to
// itself, and returns the source's cluster id. It returns the id all the same if only brokers fail.
func (s *Service) tryConnect(ctx context.Context, link string, configs map[string]string) (string, *protocol.Error) {
	src, err := sources.Connect(ctx, s.cfg.LinkFiles, link, configs)
	if err != nil {
		return "", err
	}
	defer src.Close()
	if own := s.clusterID.Load(); own != nil && *own != "" && src.ClusterID == *own {
		return "", protocol.Errorf(kerr.InvalidRequest, "bootstrap.servers of link %q (%s) points to this cluster itself (cluster id %s): the source of a link must be another cluster", link, src.Address, *own)
	}
	return src.ClusterID, src.TryBrokers(ctx)
}

func linkExists(name string) *protocol.Error {
	return protocol.Errorf(kerr.DuplicateResource, "link %q already exists: choose another name, or change it with `klink link update`", name)
}

func linkMissing(name string) *protocol.Error {
	return protocol.Errorf(kerr.ResourceNotFound, "unknown link %.260q; `klink link list` shows all links", name)
}

// requestedConfigs returns the configs of a request as a map. A config with a null value counts as
// absent, and so does a client property that makes no difference to links.
func requestedConfigs(configs []linkapi.Config) (map[string]string, *protocol.Error) {
	m := map[string]string{}
	for _, c := range configs {
		name := linkconfig.Name(c.Name)
		if _, twice := m[name]; twice {
			return nil, givenTwice(name)
		}
		if c.Value != nil && !linkconfig.Ignored(name, *c.Value) {
			m[name] = linkconfig.Trimmed(name, *c.Value)
		}
	}
	return m, nil
}

// givenTwice returns the error for a config that a request has more than once, even if under
// different names.
func givenTwice(name string) *protocol.Error {
	for alias, real := range linkconfig.ConfigAliases {
		if real == name {
			return protocol.Errorf(kerr.InvalidConfig, "%q is given twice; %s is an alias for the same config", name, alias)
		}
	}
	return protocol.Errorf(kerr.InvalidConfig, "%.260q is given twice", name)
}

// setConfigs puts configs into a record, and seals the sensitive ones. Without a key it refuses a
// secret, unless klink may store secrets in plain text.
func (s *Service) setConfigs(r *store.LinkRecord, link string, configs map[string]string) *protocol.Error {
	if r.Configs == nil {
		r.Configs = map[string]string{}
	}
	for name, value := range configs {
		_, sealedBefore := r.Secrets[name] // a later version may count it as a secret
		switch {
		case !linkconfig.IsSensitive(name) && !sealedBefore:
			r.Configs[name] = value
		case s.cfg.Secrets != nil:
			if r.Secrets == nil {
				r.Secrets = map[string]store.Sealed{}
			}
			r.Secrets[name] = s.cfg.Secrets.Seal(link, name, value)
			delete(r.Configs, name)
		case s.cfg.AllowPlaintextSecrets:
			r.Configs[name] = value
			delete(r.Secrets, name)
		default:
			return protocol.Errorf(kerr.InvalidConfig, "%s of link %q is a secret, and klink has no key to encrypt it with: start klink with --secrets-key-file, or with --allow-plaintext-secrets to store it unencrypted in %s", name, link, store.StateTopic)
		}
	}
	return nil
}
