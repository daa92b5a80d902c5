package router

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// A topology creates no topic of klink's, and none of a mirror that does not exist yet.
func TestStreamsGroupCreatesNoMirror(t *testing.T) {
	for version := int16(0); version <= 1; version++ {
		for topic, want := range map[string]int16{"_klink_tasks": 42, "coming": 14, "mirror": 0, "stopped": 0, "app-changelog": 0} {
			for _, repartition := range []bool{true, false} {
				w := newHotWorld(t)
				sn := hotSnapshot()
				sn.Mirrors["coming"] = &Mirror{Topic: "coming", ReadOnly: true}
				w.router.Publish(sn)
				req := kmsg.NewPtrStreamsGroupHeartbeatRequest()
				req.Version = version
				sub := kmsg.NewStreamsGroupHeartbeatRequestTopologySubtopology()
				info := []kmsg.TopicInfo{{Topic: "other"}, {Topic: topic}}
				if sub.StateChangelogTopics = info; repartition {
					sub.StateChangelogTopics, sub.RepartitionSourceTopics = nil, info
				}
				req.Topology = &kmsg.StreamsGroupHeartbeatRequestTopology{Subtopologies: []kmsg.StreamsGroupHeartbeatRequestTopologySubtopology{{}, sub}}
				forwarded := false
				resp, out := send(w, req, func(*kmsg.StreamsGroupHeartbeatRequest) *kmsg.StreamsGroupHeartbeatResponse {
					forwarded = true
					return kmsg.NewPtrStreamsGroupHeartbeatResponse()
				})
				if out.answer == nil || resp.ErrorCode != want || forwarded != (want == 0) {
					t.Errorf("v%d %s: error %d, forwarded %v, %v", version, topic, resp.ErrorCode, forwarded, out.closed)
				}
			}
		}
	}
}
