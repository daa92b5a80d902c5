package router

import (
	"strings"
	"testing"

	"klink/protocol"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// klink serves nobody as a follower, in any version of any request with a replica id: followers
// read above the high watermark, and leaders count their fetches as copies of records. It does
// serve ordinary clients, and requests for the log end as replica -2.
func TestFollowersAreRefused(t *testing.T) {
	for _, key := range []int16{1, 2, 23} {
		api, _ := protocol.Supported(key)
		for version := api.Min; version <= api.Max; version++ {
			if key == 23 && version < 3 {
				continue // has no replica id
			}
			for _, id := range []int32{-2, -1, 0, 1, 1 << 30} {
				req := kmsg.RequestForKey(key)
				switch req := req.(type) {
				case *kmsg.FetchRequest:
					if req.SessionEpoch = -1; version <= 14 {
						req.ReplicaID = id
					} else {
						req.ReplicaState.ID = id
					}
					req.Topics = fetchFrom(version, 0, "ordinary").Topics
					forgotten := kmsg.NewFetchRequestForgottenTopic()
					forgotten.Topic, forgotten.Partitions = "other", []int32{1, 2}
					req.ForgottenTopics = append(req.ForgottenTopics, forgotten)
					req.ClusterID = kmsg.StringPtr("a tag before")
				case *kmsg.ListOffsetsRequest:
					req.ReplicaID = id
				case *kmsg.OffsetForLeaderEpochRequest:
					req.ReplicaID = id
				}
				req.SetVersion(version)
				w := newHotWorld(t)
				forwarded := false
				w.proxy.broker = func([]byte) []byte { forwarded = true; return nil }
				out := w.proxy.exchange(protocol.AppendRequest(nil, protocol.RequestHeader{}, req))
				refused := out.closed != nil && strings.Contains(out.closed.Error(), "followers are not served")
				if follower := id >= 0; refused != follower || forwarded == follower {
					t.Errorf("%s v%d as replica %d: forwarded %v, %v", api.Name, version, id, forwarded, out.closed)
				}
			}
		}
	}
}
