package admin

import (
	"context"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// aclsPerRequest is how many ACLs are created or deleted by one request. The controller of a KRaft
// cluster makes one request one batch of its log, which is limited.
const aclsPerRequest = 500

// describeACLs asks for the ACLs that a filter matches. It needs DESCRIBE on the cluster. Errors of
// the answer are *kerr.Error, with the text of the broker.
func describeACLs(ctx context.Context, client *kgo.Client, f aclFilter) (aclSet, error) {
	req := kmsg.NewPtrDescribeACLsRequest()
	req.ResourceType, req.ResourcePatternType, req.ResourceName = f.resourceType, f.pattern, f.name
	req.Principal, req.Host, req.Operation, req.PermissionType = f.principal, f.host, f.operation, f.permission
	resp, err := req.RequestWith(ctx, client)
	if err != nil {
		return nil, err
	}
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		return nil, withMessage(err, orEmpty(resp.ErrorMessage))
	}
	found := aclSet{}
	for _, r := range resp.Resources {
		for _, a := range r.ACLs {
			acl := aclBinding{
				resourceType: r.ResourceType, pattern: r.ResourcePatternType, name: r.ResourceName,
				principal: a.Principal, host: a.Host, operation: a.Operation, permission: a.PermissionType,
			}
			// What the broker's protocol version cannot tell is told as UNKNOWN: nothing to copy.
			if acl.check() == nil {
				found.add(acl)
			}
		}
	}
	return found, nil
}

// aclResults say of ACLs that were to be created or deleted why they were not; nil = done.
type aclResults map[aclBinding]error

// createACLs creates ACLs; those that are there already are no error. It needs ALTER on the
// cluster.
func createACLs(ctx context.Context, client *kgo.Client, acls []aclBinding) aclResults {
	results := aclResults{}
	for chunk := range slices.Chunk(acls, aclsPerRequest) {
		req := kmsg.NewPtrCreateACLsRequest()
		for _, a := range chunk {
			c := kmsg.NewCreateACLsRequestCreation()
			c.ResourceType, c.ResourcePatternType, c.ResourceName = a.resourceType, a.pattern, a.name
			c.Principal, c.Host, c.Operation, c.PermissionType = a.principal, a.host, a.operation, a.permission
			req.Creations = append(req.Creations, c)
		}
		resp, err := req.RequestWith(ctx, client)
		if err == nil && len(resp.Results) != len(chunk) {
			err = fmt.Errorf("%d results for %d ACLs", len(resp.Results), len(chunk))
		}
		for i, a := range chunk {
			results[a] = err
			if err == nil {
				results[a] = withMessage(kerr.ErrorForCode(resp.Results[i].ErrorCode), orEmpty(resp.Results[i].ErrorMessage))
			}
		}
	}
	return results
}

// deleteACLs deletes ACLs; those that are not there are no error. It needs ALTER on the cluster.
func deleteACLs(ctx context.Context, client *kgo.Client, acls []aclBinding) aclResults {
	results := aclResults{}
	for chunk := range slices.Chunk(acls, aclsPerRequest) {
		req := kmsg.NewPtrDeleteACLsRequest()
		for _, a := range chunk {
			// With every value set a filter matches this ACL alone.
			f := kmsg.NewDeleteACLsRequestFilter()
			f.ResourceType, f.ResourcePatternType, f.ResourceName = a.resourceType, a.pattern, &a.name
			f.Principal, f.Host, f.Operation, f.PermissionType = &a.principal, &a.host, a.operation, a.permission
			req.Filters = append(req.Filters, f)
		}
		resp, err := req.RequestWith(ctx, client)
		if err == nil && len(resp.Results) != len(chunk) {
			err = fmt.Errorf("%d results for %d ACLs", len(resp.Results), len(chunk))
		}
		for i, a := range chunk {
			results[a] = err
			if err != nil {
				continue
			}
			r := resp.Results[i]
			results[a] = withMessage(kerr.ErrorForCode(r.ErrorCode), orEmpty(r.ErrorMessage))
			for _, m := range r.MatchingACLs {
				if err := kerr.ErrorForCode(m.ErrorCode); err != nil && results[a] == nil {
					results[a] = withMessage(err, orEmpty(m.ErrorMessage))
				}
			}
		}
	}
	return results
}

// mayAlterCluster says whether the client's user has ALTER on the cluster. A cluster that cannot
// say (before 2.8) counts as one that lets it.
func mayAlterCluster(ctx context.Context, client *kgo.Client) (bool, error) {
	req := kmsg.NewPtrDescribeClusterRequest()
	req.IncludeClusterAuthorizedOperations = true
	resp, err := req.RequestWith(ctx, client)
	switch {
	case err != nil && ctx.Err() != nil:
		return false, err
	case err != nil || resp.ErrorCode != 0 || resp.ClusterAuthorizedOperations == noAuthorizedOperations:
		return true, nil
	}
	return resp.ClusterAuthorizedOperations&(1<<kmsg.ACLOperationAlter) != 0, nil
}

// noAuthorizedOperations stands for authorized operations that are not told.
const noAuthorizedOperations = -2147483648

func orEmpty(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
