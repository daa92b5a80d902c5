package sources

import (
	"context"
	"errors"
	"slices"

	"klink/admin/aclsync"
	"klink/protocol"

	"github.com/twmb/franz-go/pkg/kerr"
)

// maxACLRequests is the largest number of filters that are sent as one request each. With more,
// klink asks for all ACLs and filters them itself.
const maxACLRequests = 20

// ACLs asks the source for the ACLs that any of the filters match.
func (s *Source) ACLs(ctx context.Context, filters []aclsync.Filter) (aclsync.Set, error) {
	requests := filters
	if len(requests) > maxACLRequests {
		requests = []aclsync.Filter{aclsync.Any}
	}
	all := aclsync.Set{}
	for _, f := range requests {
		found, err := aclsync.Describe(ctx, s.Client, f)
		switch {
		case errors.Is(err, kerr.SecurityDisabled):
			return nil, protocol.Errorf(kerr.SecurityDisabled, "the source %s of link %q has no authorizer, so it has no ACLs: configure authorizer.class.name at its brokers, or set acl.sync.enable to false", s.Address, s.link)
		case errors.Is(err, kerr.ClusterAuthorizationFailed):
			return nil, protocol.Errorf(kerr.ClusterAuthorizationFailed, "the user of link %q may not describe the ACLs of the source %s: grant it DESCRIBE on the cluster there", s.link, s.Address)
		case err != nil:
			return nil, s.Failed("describe ACLs", err)
		}
		for a := range found {
			if slices.ContainsFunc(filters, func(f aclsync.Filter) bool { return f.Matches(a) }) {
				all.Add(a)
			}
		}
	}
	return all, nil
}
