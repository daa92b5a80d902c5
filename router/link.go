package router

import (
	"context"
	"errors"
	"fmt"

	"klink/protocol"
	"klink/protocol/linkapi"

	"github.com/twmb/franz-go/pkg/kmsg"
)

func init() {
	for _, api := range linkapi.APIs() {
		registerControl(api.Key, handleLink)
	}
}

// maxLinkRequest bounds the size of a request, in bytes. Decoded, a request takes many times as
// much memory: an empty string is one byte on the wire.
const maxLinkRequest = 1 << 20

var errNoLinkAnswer = errors.New("klink's control plane gave no answer")

// handleLink: the link API, v0. The control plane carries out the request once the broker has
// confirmed that the client may: ALTER on the cluster for a request that changes something,
// DESCRIBE for one that reads. Otherwise klink does nothing, and every result is
// CLUSTER_AUTHORIZATION_FAILED.
func handleLink(s *session, h protocol.RequestHeader, frame []byte) Decision {
	if len(frame) > maxLinkRequest {
		return closing(fmt.Errorf("%s request of %d bytes: klink accepts at most %d; send fewer links or mirrors at once", linkapi.Name(h.Key), len(frame), maxLinkRequest))
	}
	req, err := linkapi.ReadRequest(h.Key, h.Version, frame[h.Body:])
	if err != nil {
		return closing(err)
	}
	operation := kmsg.ACLOperationDescribe
	if api, _ := linkapi.Lookup(h.Key); api.Alter {
		operation = kmsg.ACLOperationAlter
	}
	h = ownHeader(h)
	return s.admit(h, operation, func(refusal *verdict) Decision {
		if refusal != nil {
			resp, err := deniedLink(req, *refusal)
			if err != nil {
				return closing(err)
			}
			return answer(h, resp)
		}
		return Decision{Action: Run, Exclusive: true, Run: func(ctx context.Context) Decision {
			resp := s.router.control.HandleLink(ctx, req)
			if resp == nil {
				return closing(fmt.Errorf("%s: %w", linkapi.Name(h.Key), errNoLinkAnswer))
			}
			resp.SetVersion(h.Version)
			return answer(h, resp)
		}}
	})
}

// deniedLink returns a response with v for each item of a link API request.
func deniedLink(req kmsg.Request, v verdict) (kmsg.Response, error) {
	version := req.GetVersion()
	named := func(names []string) []linkapi.NameResult {
		results := make([]linkapi.NameResult, len(names))
		for i, name := range names {
			results[i] = linkapi.NameResult{Name: name, ErrorCode: v.code, ErrorMessage: v.message}
		}
		return results
	}
	switch req := req.(type) {
	case *linkapi.CreateLinksRequest:
		resp := &linkapi.CreateLinksResponse{Version: version}
		for _, link := range req.Links {
			resp.Results = append(resp.Results, linkapi.CreateLinkResult{Name: link.Name, ErrorCode: v.code, ErrorMessage: v.message})
		}
		return resp, nil
	case *linkapi.DeleteLinksRequest:
		return &linkapi.DeleteLinksResponse{Version: version, Results: named(req.Names)}, nil
	case *linkapi.AlterLinkConfigsRequest:
		return &linkapi.AlterLinkConfigsResponse{
			Version: version,
			Results: named(namesOf(req.Links, func(l *linkapi.AlterLink) string { return l.Name })),
		}, nil
	case *linkapi.CreateMirrorsRequest:
		return &linkapi.CreateMirrorsResponse{
			Version: version,
			Results: named(namesOf(req.Mirrors, func(m *linkapi.CreateMirror) string { return m.Topic })),
		}, nil
	case *linkapi.AlterMirrorsRequest:
		resp := &linkapi.AlterMirrorsResponse{Version: version}
		for _, m := range req.Mirrors {
			resp.Results = append(resp.Results, linkapi.AlteredMirror{Name: m.Topic, ErrorCode: v.code, ErrorMessage: v.message, GroupsBehind: -1})
		}
		return resp, nil
	case *linkapi.ListLinksRequest:
		return &linkapi.ListLinksResponse{Version: version, ErrorCode: v.code, ErrorMessage: v.message}, nil
	case *linkapi.DescribeLinksRequest:
		resp := &linkapi.DescribeLinksResponse{Version: version, ErrorCode: v.code, ErrorMessage: v.message}
		for _, name := range req.Names {
			resp.Links = append(resp.Links, linkapi.DescribedLink{Name: name, ErrorCode: v.code, ErrorMessage: v.message})
		}
		return resp, nil
	case *linkapi.ListMirrorsRequest:
		return &linkapi.ListMirrorsResponse{Version: version, ErrorCode: v.code, ErrorMessage: v.message}, nil
	case *linkapi.DescribeMirrorsRequest:
		resp := &linkapi.DescribeMirrorsResponse{Version: version, ErrorCode: v.code, ErrorMessage: v.message}
		for _, topic := range req.Topics {
			resp.Mirrors = append(resp.Mirrors, linkapi.DescribedMirror{Topic: topic, ErrorCode: v.code, ErrorMessage: v.message})
		}
		return resp, nil
	case *linkapi.MigrateGroupsRequest:
		resp := &linkapi.MigrateGroupsResponse{Version: version}
		for _, g := range req.Groups {
			resp.Results = append(resp.Results, linkapi.MigratedGroup{Group: g.Group, Link: g.Link, ErrorCode: v.code, ErrorMessage: v.message})
		}
		return resp, nil
	case *linkapi.ListLinkTasksRequest:
		return &linkapi.ListLinkTasksResponse{Version: version, ErrorCode: v.code, ErrorMessage: v.message}, nil
	case *linkapi.SyncACLsRequest:
		return &linkapi.SyncACLsResponse{Version: version, ErrorCode: v.code, ErrorMessage: v.message}, nil
	default:
		return nil, fmt.Errorf("no refusal is defined for %T (API key %d): %w", req, req.Key(), errUnknownAPI)
	}
}

func namesOf[T any](items []T, name func(*T) string) []string {
	names := make([]string, len(items))
	for i := range items {
		names[i] = name(&items[i])
	}
	return names
}
