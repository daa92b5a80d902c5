package admin

import (
	"context"
	"maps"
	"slices"

	"klink/admin/linkconfig"
	"klink/admin/model"
	"klink/protocol/linkapi"
)

func (s *Service) describeLinks(ctx context.Context, req *linkapi.DescribeLinksRequest) *linkapi.DescribeLinksResponse {
	ctx, cancel := withTimeout(ctx, 0)
	defer cancel()
	resp := &linkapi.DescribeLinksResponse{}
	if err := s.waitReady(ctx); err != nil {
		resp.ErrorCode, resp.ErrorMessage = wire(asError(err))
		return resp
	}
	state, names := s.State(), req.Names
	if names == nil {
		names = slices.Sorted(maps.Keys(state.Links))
	}
	for _, name := range names {
		described := linkapi.DescribedLink{Name: name}
		if l := state.Links[name]; l == nil {
			described.ErrorCode, described.ErrorMessage = wire(linkMissing(name))
		} else {
			described = s.describeLink(l)
		}
		resp.Links = append(resp.Links, described)
	}
	return resp
}

func (s *Service) describeLink(l *model.Link) linkapi.DescribedLink {
	d := linkapi.DescribedLink{
		Name: l.Name, ID: l.ID, State: string(l.State), Error: string(l.Error), StateMessage: l.ErrorMessage, SourceClusterID: l.SourceClusterID,
	}
	if id := s.clusterID.Load(); id != nil {
		d.DestinationClusterID = *id
	}
	for _, c := range linkconfig.Configs() {
		entry := linkapi.DescribedConfig{Name: c.Name, Sensitive: linkconfig.IsSecret(l, c.Name)}
		value, set := linkconfig.ShownConfig(l, c.Name)
		switch {
		case set:
			entry.Value = &value
		default:
			entry.IsDefault = true
			if c.Default != "" {
				entry.Value = &c.Default
			}
		}
		d.Configs = append(d.Configs, entry)
	}
	// The record keeps configs that only a later version knows. Show them, too.
	for _, name := range slices.Sorted(maps.Keys(l.Configs)) {
		if _, known := linkconfig.Lookup(name); !known {
			value, _ := linkconfig.ShownConfig(l, name)
			d.Configs = append(d.Configs, linkapi.DescribedConfig{Name: name, Sensitive: linkconfig.IsSecret(l, name), Value: &value})
		}
	}
	return d
}
