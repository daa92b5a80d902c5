package router

import (
	"klink/protocol"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// StreamsGroupHeartbeat: v0-1
//
// Behavior: the group coordinator creates the changelog and repartition topics of a topology
// (KIP-1071). A topology with a topic of klink's own is refused (INVALID_REQUEST). If it has the
// name of a mirror that is recorded and not created yet, the member is told to ask again
// (COORDINATOR_LOAD_IN_PROGRESS): a topic that the coordinator creates could be taken for the
// mirror.
func init() { registerControl(int16(kmsg.StreamsGroupHeartbeat), handleStreamsGroupHeartbeat) }

func handleStreamsGroupHeartbeat(s *session, h protocol.RequestHeader, frame []byte) Decision {
	req := kmsg.NewPtrStreamsGroupHeartbeatRequest()
	if err := decodeControl(h, frame, req); err != nil {
		return closing(err)
	}
	if req.Topology == nil { // sent once, when the member joins
		return Decision{Action: Forward, Frame: frame}
	}
	var v verdict
	snapshot := s.snapshot()
	for i := range req.Topology.Subtopologies {
		sub := &req.Topology.Subtopologies[i]
		for _, topics := range [][]kmsg.TopicInfo{sub.StateChangelogTopics, sub.RepartitionSourceTopics} {
			for j := range topics {
				topic := topics[j].Topic
				m := snapshot.readOnlyMirror(topic)
				switch {
				case isInternal(topic):
					v = refuseInternal(topic)
					v.code = kerr.InvalidRequest.Code
				case v.ok() && m != nil && m.TopicID == [16]byte{}:
					v = refuse(kerr.CoordinatorLoadInProgress, "Topic '%s' is being created as a mirror of link '%s'", topic, m.Link)
				}
			}
		}
	}
	if v.ok() {
		return Decision{Action: Forward, Frame: frame}
	}
	resp := req.ResponseKind().(*kmsg.StreamsGroupHeartbeatResponse)
	resp.ErrorCode, resp.ErrorMessage = v.code, v.message
	return answer(ownHeader(h), resp)
}
