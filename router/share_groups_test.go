package router

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// A member of a share group that subscribes to a mirror is told why it cannot be one.
func TestShareGroupHeartbeat(t *testing.T) {
	w := newHotWorld(t)
	for v := int16(0); v <= 1; v++ {
		for name, refused := range map[string]bool{"mirror": true, "stopped": true, "ordinary": false} {
			req := kmsg.NewPtrShareGroupHeartbeatRequest()
			req.Version, req.GroupID, req.MemberID, req.SubscribedTopicNames = v, "group", "member", []string{"other", name}
			resp, out := send(w, req, func(*kmsg.ShareGroupHeartbeatRequest) *kmsg.ShareGroupHeartbeatResponse {
				return kmsg.NewPtrShareGroupHeartbeatResponse()
			})
			if got := resp.ErrorCode == kerr.InvalidRequest.Code && len(out.asked) == 0; got != refused {
				t.Errorf("v%d: a subscription to %s: %+v", v, name, resp)
			}
			if refused && *resp.ErrorMessage != "Share groups cannot read mirror topic '"+name+"': use a consumer group" {
				t.Error(*resp.ErrorMessage)
			}
		}
		req := kmsg.NewPtrShareGroupHeartbeatRequest()
		req.Version, req.MemberEpoch = v, 3 // no change of the subscription
		if _, out := send(w, req, func(*kmsg.ShareGroupHeartbeatRequest) *kmsg.ShareGroupHeartbeatResponse {
			return kmsg.NewPtrShareGroupHeartbeatResponse()
		}); len(out.asked) != 1 {
			t.Errorf("v%d: not forwarded", v)
		}
	}
}

// Share groups have no offsets in mirrors.
func TestShareGroupOffsets(t *testing.T) {
	w := newHotWorld(t)
	for v := int16(0); v <= 1; v++ {
		req := kmsg.NewPtrDescribeShareGroupOffsetsRequest()
		req.Version = v
		resp, _ := send(w, req, func(*kmsg.DescribeShareGroupOffsetsRequest) *kmsg.DescribeShareGroupOffsetsResponse {
			resp := kmsg.NewPtrDescribeShareGroupOffsetsResponse()
			g := kmsg.NewDescribeShareGroupOffsetsResponseGroup()
			for _, name := range []string{"mirror", "stopped", "ordinary"} {
				rt := kmsg.NewDescribeShareGroupOffsetsResponseGroupTopic()
				rt.Topic = name
				rp := kmsg.NewDescribeShareGroupOffsetsResponseGroupTopicPartition()
				rp.StartOffset, rp.Lag, rp.LeaderEpoch = 7, 9, 3
				rt.Partitions = append(rt.Partitions, rp)
				g.Topics = append(g.Topics, rt)
			}
			resp.Groups = append(resp.Groups, g)
			return resp
		})
		for _, rt := range resp.Groups[0].Topics {
			p := rt.Partitions[0]
			lag := p.Lag
			if v == 0 {
				lag = map[bool]int64{true: 9, false: -1}[rt.Topic == "ordinary"]
			}
			shown := p.StartOffset == 7 && lag == 9 && p.ErrorCode == 0
			hidden := p.StartOffset == -1 && lag == -1 && p.ErrorCode == kerr.InvalidRequest.Code
			if rt.Topic == "ordinary" && !shown || rt.Topic != "ordinary" && !hidden {
				t.Errorf("v%d: %s: %+v", v, rt.Topic, p)
			}
		}
	}
	for name, refused := range map[string]bool{"mirror": true, "stopped": true, "ordinary": false} {
		req := kmsg.NewPtrAlterShareGroupOffsetsRequest()
		rt := kmsg.NewAlterShareGroupOffsetsRequestTopic()
		rt.Topic = name
		rt.Partitions = append(rt.Partitions, kmsg.AlterShareGroupOffsetsRequestTopicPartition{StartOffset: 7})
		req.Topics = append(req.Topics, rt)
		resp, out := send(w, req, func(*kmsg.AlterShareGroupOffsetsRequest) *kmsg.AlterShareGroupOffsetsResponse {
			return kmsg.NewPtrAlterShareGroupOffsetsResponse()
		})
		if got := resp.ErrorCode == kerr.InvalidRequest.Code && len(out.asked) == 0; got != refused {
			t.Errorf("offsets in %s: %+v", name, resp)
		}
	}
}
