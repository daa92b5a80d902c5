package admin

import (
	"context"
	"time"

	"klink/protocol/linkapi"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// defaultTimeout bounds a request that asks for no time-out.
const defaultTimeout = 30 * time.Second

// maxTimeout bounds the time-out that a request may ask for.
const maxTimeout = 10 * time.Minute

// HandleLink implements router.Control. The client has been authorised.
func (s *Service) HandleLink(ctx context.Context, req kmsg.Request) kmsg.Response {
	switch req := req.(type) {
	case *linkapi.CreateLinksRequest:
		return s.createLinks(ctx, req)
	case *linkapi.DeleteLinksRequest:
		return s.deleteLinks(ctx, req)
	case *linkapi.ListLinksRequest:
		return s.listLinks(ctx, req)
	case *linkapi.DescribeLinksRequest:
		return s.describeLinks(ctx, req)
	case *linkapi.AlterLinkConfigsRequest:
		return s.alterLinkConfigs(ctx, req)
	case *linkapi.CreateMirrorsRequest:
		return s.createMirrors(ctx, req)
	case *linkapi.ListMirrorsRequest:
		return s.listMirrors(ctx, req)
	case *linkapi.DescribeMirrorsRequest:
		return s.describeMirrors(ctx, req)
	case *linkapi.AlterMirrorsRequest:
		return s.alterMirrors(ctx, req)
	case *linkapi.MigrateGroupsRequest:
		return s.migrateGroups(ctx, req)
	case *linkapi.ListLinkTasksRequest:
		return s.listLinkTasks(ctx, req)
	case *linkapi.SyncACLsRequest:
		return s.syncACLs(ctx, req)
	case *linkapi.CheckClusterRequest:
		return s.checkCluster(ctx, req)
	}
	// The router's table and this one list the same keys; an empty answer is better than none.
	return req.ResponseKind()
}

// withTimeout bounds a request by the time-out it asks for, in milliseconds.
func withTimeout(ctx context.Context, ms int32) (context.Context, context.CancelFunc) {
	d := time.Duration(ms) * time.Millisecond
	if d <= 0 {
		d = defaultTimeout
	}
	return context.WithTimeout(ctx, min(d, maxTimeout))
}

// finishing returns a context for the work that is left once something is recorded. It does not end
// when the client goes away. It lasts as long as the request may take, and defaultTimeout at least.
// Brokers that create thousands of partitions need longer than that.
func finishing(ctx context.Context) (context.Context, context.CancelFunc) {
	d := defaultTimeout
	if deadline, ok := ctx.Deadline(); ok {
		d = max(d, time.Until(deadline))
	}
	return context.WithTimeout(context.WithoutCancel(ctx), d)
}
