package router

import (
	"math"

	"klink/protocol"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// authorize asks the broker, on the client's own connection and so with its principal, whether the client may do
// operation (ALTER or DESCRIBE) on the cluster, and decides by that. h must be owned.
//
// It asks with Metadata v8 for no topics and the cluster's authorised operations (KIP-430): every broker from 2.3 on
// serves that version, whereas DescribeCluster came with 2.8. A broker without an authorizer answers that everything is
// allowed; one that cannot tell answers the minimal int32, which counts as nothing.
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

func denied(operation kmsg.ACLOperation) verdict {
	return refuse(kerr.ClusterAuthorizationFailed, "Not authorized: links and mirrors need %s on the cluster", operation)
}
