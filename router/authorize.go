package router

import (
	"math"

	"klink/protocol"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// authorize asks the broker whether the client may perform operation (ALTER or DESCRIBE) on the
// cluster, and calls decide with the answer. It asks on the client's own connection, and so with
// the client's principal. h must be owned.
//
// It asks with Metadata v8 for no topics and the cluster's authorised operations (KIP-430): every
// broker from 2.3 on serves that version, whereas DescribeCluster came with 2.8. A broker without
// an authorizer answers that everything is allowed. A broker that cannot tell answers the minimal
// int32; klink takes this as nothing allowed.
func authorize(h protocol.RequestHeader, operation kmsg.ACLOperation, decide func(granted bool) Decision) Decision {
	req := kmsg.NewPtrMetadataRequest()
	req.Version = 8
	req.Topics = []kmsg.MetadataRequestTopic{} // null would be all topics
	req.IncludeClusterAuthorizedOperations = true
	return ask(h, req, func(resp kmsg.Response) Decision {
		operations := resp.(*kmsg.MetadataResponse).AuthorizedOperations
		return decide(operations != math.MinInt32 && operations&(1<<operation) != 0)
	})
}

// LinkAdmin limits what clients may do with links and mirrors, in addition to the broker's
// authorizer.
type LinkAdmin string

// The values of LinkAdmin; "" is LinkAdminOn.
const (
	LinkAdminOn   LinkAdmin = "on"
	LinkAdminRead LinkAdmin = "read" // list and describe, change nothing
	LinkAdminOff  LinkAdmin = "off"
)

// admit decides whether the client may perform operation on links and mirrors: both the broker and
// the setting of this klink must allow it. refusal is nil if they do. Every request that acts on
// links or mirrors for a client passes through admit. h must be owned.
func (s *session) admit(h protocol.RequestHeader, operation kmsg.ACLOperation, decide func(refusal *verdict) Decision) Decision {
	return authorize(h, operation, func(granted bool) Decision {
		mode := s.router.linkAdmin
		switch {
		case !granted: // first, so that a stranger does not learn the setting
			v := denied(operation)
			return decide(&v)
		case mode == LinkAdminOff, mode == LinkAdminRead && operation != kmsg.ACLOperationDescribe:
			v := refuse(kerr.ClusterAuthorizationFailed, "Not authorized: this klink was started with --link-admin %s", mode)
			return decide(&v)
		}
		return decide(nil)
	})
}

func denied(operation kmsg.ACLOperation) verdict {
	return refuse(kerr.ClusterAuthorizationFailed, "Not authorized: links and mirrors need %s on the cluster", operation)
}
