package aclsync

import (
	"context"
	"fmt"
	"slices"

	"klink/internal/kafkaclient"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// aclsPerRequest is how many ACLs one request creates or deletes. The controller of a KRaft cluster
// writes a request to its log as one batch, and the size of a batch is limited.
const aclsPerRequest = 500

// Describe returns the ACLs that a filter matches. It needs DESCRIBE on the cluster. An error
// code in the response is returned as a *kerr.Error with the text of the broker.
func Describe(ctx context.Context, client *kgo.Client, f Filter) (Set, error) {
	req := kmsg.NewPtrDescribeACLsRequest()
	req.ResourceType, req.ResourcePatternType, req.ResourceName = f.resourceType, f.pattern, f.name
	req.Principal, req.Host, req.Operation, req.PermissionType = f.principal, f.host, f.operation, f.permission
	resp, err := req.RequestWith(ctx, client)
	if err != nil {
		return nil, kafkaclient.NotOffered(err, kmsg.DescribeACLs)
	}
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		return nil, kafkaclient.WithMessage(err, orEmpty(resp.ErrorMessage))
	}
	found := Set{}
	for _, r := range resp.Resources {
		for _, a := range r.ACLs {
			acl := Binding{
				ResourceType: r.ResourceType, Pattern: r.ResourcePatternType, Name: r.ResourceName,
				Principal: a.Principal, Host: a.Host, Operation: a.Operation, Permission: a.PermissionType,
			}
			// Brokers send UNKNOWN for a value that the version of the response cannot express.
			// There is nothing to copy then.
			if acl.Check() == nil {
				found.Add(acl)
			}
		}
	}
	return found, nil
}

// Results maps each ACL to the error for which it was not created or deleted; nil = done.
type Results map[Binding]error

// Create creates ACLs. One that exists already is no error. It needs ALTER on the cluster.
func Create(ctx context.Context, client *kgo.Client, acls []Binding) Results {
	results := Results{}
	for chunk := range slices.Chunk(acls, aclsPerRequest) {
		req := kmsg.NewPtrCreateACLsRequest()
		for _, a := range chunk {
			c := kmsg.NewCreateACLsRequestCreation()
			c.ResourceType, c.ResourcePatternType, c.ResourceName = a.ResourceType, a.Pattern, a.Name
			c.Principal, c.Host, c.Operation, c.PermissionType = a.Principal, a.Host, a.Operation, a.Permission
			req.Creations = append(req.Creations, c)
		}
		resp, err := req.RequestWith(ctx, client)
		if err == nil && len(resp.Results) != len(chunk) {
			err = fmt.Errorf("the response has %d results for %d ACLs", len(resp.Results), len(chunk))
		}
		err = kafkaclient.NotOffered(err, kmsg.CreateACLs)
		for i, a := range chunk {
			results[a] = err
			if err == nil {
				results[a] = kafkaclient.WithMessage(kerr.ErrorForCode(resp.Results[i].ErrorCode), orEmpty(resp.Results[i].ErrorMessage))
			}
		}
	}
	return results
}

// Delete deletes ACLs. One that does not exist is no error. It needs ALTER on the cluster.
func Delete(ctx context.Context, client *kgo.Client, acls []Binding) Results {
	results := Results{}
	for chunk := range slices.Chunk(acls, aclsPerRequest) {
		req := kmsg.NewPtrDeleteACLsRequest()
		for _, a := range chunk {
			// A filter with every field set matches this ACL alone.
			f := kmsg.NewDeleteACLsRequestFilter()
			f.ResourceType, f.ResourcePatternType, f.ResourceName = a.ResourceType, a.Pattern, &a.Name
			f.Principal, f.Host, f.Operation, f.PermissionType = &a.Principal, &a.Host, a.Operation, a.Permission
			req.Filters = append(req.Filters, f)
		}
		resp, err := req.RequestWith(ctx, client)
		if err == nil && len(resp.Results) != len(chunk) {
			err = fmt.Errorf("the response has %d results for %d ACLs", len(resp.Results), len(chunk))
		}
		err = kafkaclient.NotOffered(err, kmsg.DeleteACLs)
		for i, a := range chunk {
			results[a] = err
			if err != nil {
				continue
			}
			r := resp.Results[i]
			results[a] = kafkaclient.WithMessage(kerr.ErrorForCode(r.ErrorCode), orEmpty(r.ErrorMessage))
			for _, m := range r.MatchingACLs {
				if err := kerr.ErrorForCode(m.ErrorCode); err != nil && results[a] == nil {
					results[a] = kafkaclient.WithMessage(err, orEmpty(m.ErrorMessage))
				}
			}
		}
	}
	return results
}

// MayAlterCluster reports whether the client's user has ALTER on the cluster. It returns true if
// the cluster cannot tell (before Kafka 2.8) or fails to answer before ctx ends.
func MayAlterCluster(ctx context.Context, client *kgo.Client) (bool, error) {
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

// noAuthorizedOperations is what a broker sends if it does not tell the authorized operations.
const noAuthorizedOperations = -2147483648

func orEmpty(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
