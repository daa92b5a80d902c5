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
			return answer(h, req.Denied(refusal.code, refusal.message))
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
