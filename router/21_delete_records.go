package router

import (
	"context"
	"math"

	"klink/protocol"
	"klink/protocol/timeline"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// DeleteRecords: v0-2
//
// Behavior:
//   - Refused for read-only mirrors, whose log start offset follows the source (INVALID_REQUEST;
//     the response has no messages).
//   - On a stopped mirror klink translates offsets: the offset to delete up to, and the low
//     watermark in the response.
//   - Other topics of the request go to the broker.
func init() { registerControl(int16(kmsg.DeleteRecords), handleDeleteRecords) }

func handleDeleteRecords(s *session, h protocol.RequestHeader, frame []byte) Decision {
	req := kmsg.NewPtrDeleteRecordsRequest()
	if err := decodeControl(h, frame, req); err != nil {
		return closing(err)
	}
	rest := *req
	rest.Topics = nil
	var order []string
	ours := make(map[string]kmsg.DeleteRecordsResponseTopic)
	stopped := make(map[string]*Mirror)
	var seek []probe
	snapshot := s.snapshot()
	for i := range req.Topics {
		t := &req.Topics[i]
		order = append(order, t.Topic)
		m := snapshot.Mirrors[t.Topic]
		switch {
		case isInternal(t.Topic):
			ours[t.Topic] = refuseDeleteRecords(ours[t.Topic], t, kerr.TopicAuthorizationFailed)
		case m != nil && m.ReadOnly:
			ours[t.Topic] = refuseDeleteRecords(ours[t.Topic], t, kerr.InvalidRequest)
		case m != nil:
			stopped[t.Topic] = m
			for j := range t.Partitions {
				p := &t.Partitions[j]
				line := m.Timeline(p.Partition)
				if line != nil && p.Offset >= 0 && !s.sought {
					if _, _, ok := line.FindPhysical(p.Offset, 0); !ok {
						seek = append(seek, probe{at: at{t.Topic, p.Partition}, line: line, logical: p.Offset})
					}
				}
				p.Offset = deleteUpTo(line, p.Offset)
			}
			fallthrough
		default:
			rest.Topics = append(rest.Topics, *t)
		}
	}
	switch {
	case len(ours) == 0 && len(stopped) == 0:
		return Decision{Action: Forward, Frame: frame}
	case seek != nil:
		return s.seekDelete(h, frame, seek)
	}
	h = ownHeader(h)
	finish := func(resp kmsg.Response) Decision {
		r := resp.(*kmsg.DeleteRecordsResponse)
		for i := range r.Topics {
			t := &r.Topics[i]
			for j := range t.Partitions {
				p := &t.Partitions[j]
				if line := stopped[t.Topic].Timeline(p.Partition); line != nil {
					p.LowWatermark, _, _ = line.FindLogStart(p.LowWatermark)
				}
			}
		}
		r.Topics = merge(order, ours, r.Topics, func(t *kmsg.DeleteRecordsResponseTopic) string { return t.Topic })
		return answer(h, r)
	}
	if len(rest.Topics) == 0 {
		return finish(rest.ResponseKind())
	}
	return ask(h, &rest, finish)
}

// seekDelete looks for the offsets that a request deletes up to, and then decides on the request
// again. If a look fails, klink uses a lower bound: fewer records are deleted than asked for, and
// the low watermark in the answer shows it. If the client may not delete from a topic, klink does
// not look, because the broker will refuse the client.
func (s *session) seekDelete(h protocol.RequestHeader, frame []byte, list []probe) Decision {
	permitted, _, unasked := s.permitted(list, kmsg.ACLOperationDelete)
	if unasked != nil && !s.asked {
		return s.askRights(h, frame, unasked)
	}
	s.asked, s.sought, s.unsought = false, true, nil
	if permitted == nil {
		return handleDeleteRecords(s, h, frame)
	}
	r := s.router
	return Decision{Action: Run, Exclusive: true, Run: func(ctx context.Context) Decision {
		_ = r.learn(ctx, &s.share, permitted)
		return Decision{Action: Retry}
	}}
}

// refuseDeleteRecords adds refusals for the partitions of t to refused, the earlier refusals for
// the topic.
func refuseDeleteRecords(refused kmsg.DeleteRecordsResponseTopic, t *kmsg.DeleteRecordsRequestTopic, code *kerr.Error) kmsg.DeleteRecordsResponseTopic {
	refused.Topic = t.Topic
	for i := range t.Partitions {
		p := kmsg.NewDeleteRecordsResponseTopicPartition()
		p.Partition, p.LowWatermark, p.ErrorCode = t.Partitions[i].Partition, -1, code.Code
		refused.Partitions = append(refused.Partitions, p)
	}
	return refused
}

// deleteUpTo translates the logical offset that a client wants to delete up to. Only the client
// itself may ask for -1, which means the high watermark. The timeline returns -1 for an offset at
// or below the log start; that offset must delete nothing.
func deleteUpTo(line *timeline.Partition, logical int64) int64 {
	if line == nil || logical < 0 {
		return logical
	}
	switch physical := line.ToPhysical(logical); {
	case physical >= 0:
		return physical
	case logical > math.MaxInt64/2: // the translation wrapped around; out of range unchanged
		return logical
	default:
		return 0
	}
}
