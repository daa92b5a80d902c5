package router

import (
	"context"
	"fmt"

	"klink/protocol"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// klink's instances share the work through a group at the destination, and fence each other with a
// transactional id there. Both begin with internalPrefix. No client may name such an id where it
// could join, commit, delete or fence, or see more than the name. Every request passes guardIDs, so
// an API is guarded if it is in protocol's table of ids; a test keeps that table complete. Lists of
// groups and transactions show the names, which are no secret.

// guardIDs returns the handler for a request: handle, unless the request names an id of klink's. In
// that normal case it allocates nothing.
func guardIDs(h protocol.RequestHeader, frame []byte, handle handler) handler {
	kind, err := protocol.ReservedID(frame, h, internalPrefix)
	switch {
	case err != nil:
		return func(_ *session, h protocol.RequestHeader, _ []byte) Decision { return closeMalformed(h, err) }
	case kind == protocol.NoID:
		return handle
	}
	refusing := func(_ *session, h protocol.RequestHeader, frame []byte) Decision { return refuseID(h, frame, kind) }
	if protocol.NamesSeveral(h) {
		refusing = func(s *session, h protocol.RequestHeader, frame []byte) Decision {
			return s.refuseSomeIDs(h, frame, handle)
		}
	}
	if len(frame) < largeControl {
		return refusing
	}
	return func(s *session, h protocol.RequestHeader, frame []byte) Decision {
		return Decision{Action: Run, Exclusive: true, Run: func(context.Context) Decision { return refusing(s, h, frame) }}
	}
}

// maxRefusedIDs bounds the ids that klink refuses in one request; a result is up to fifty times as
// long as its id.
const maxRefusedIDs = 10_000

// refusalOf returns the error for an id of klink's. It is the error that an authorizer's refusal
// causes.
func refusalOf(kind protocol.IDKind) (code int16, message string) {
	if kind == protocol.TransactionalID {
		return kerr.TransactionalIDAuthorizationFailed.Code, "Transactional ids that begin with '" + internalPrefix + "' belong to klink and cannot be used by clients"
	}
	return kerr.GroupAuthorizationFailed.Code, "Groups that begin with '" + internalPrefix + "' belong to klink and cannot be used by clients"
}

// refuseSomeIDs refuses the ids of a request that are klink's. The other ids go to handle or to the
// broker in a smaller request, and klink's results precede theirs. For large frames it is called
// off the event loop, and so is handle.
func (s *session) refuseSomeIDs(h protocol.RequestHeader, frame []byte, handle handler) Decision {
	rest, left, cut, err := protocol.CutReservedIDs(frame, h, internalPrefix, maxRefusedIDs)
	if err != nil {
		return closeMalformed(h, err)
	}
	ours := refusedIDs(h, cut)
	if left == 0 {
		return answer(h, ours)
	}
	own := ownHeader(h)
	d := Decision{Action: Forward, Frame: rest}
	if handle != nil {
		d = handle(s, own, rest)
	}
	return d.withAnswer(func(frame []byte) Decision {
		merged, err := protocol.AddResults(frame, own, ours, len(cut))
		if err != nil {
			return closing(err)
		}
		return Decision{Action: Answer, Frame: merged}
	})
}

// withAnswer lets f change the final answer of d. The response must not be a stream.
func (d Decision) withAnswer(f func(frame []byte) Decision) Decision {
	switch d.Action {
	case Answer:
		return f(d.Frame)
	case Run:
		return d.then(func(d Decision) Decision { return d.withAnswer(f) })
	case Forward:
		whole := d.Whole
		d.Whole = func(frame []byte) Decision {
			if whole == nil {
				return f(frame)
			}
			return whole(frame).withAnswer(f)
		}
	}
	return d
}

// refusedIDs returns a response of the request's API with a refusal for each of these ids.
func refusedIDs(h protocol.RequestHeader, ids []protocol.NamedID) kmsg.Response {
	resp := kmsg.ResponseForKey(h.Key)
	resp.SetVersion(h.Version)
	for _, id := range ids {
		code, message := refusalOf(id.Kind)
		switch resp := resp.(type) {
		case *kmsg.OffsetFetchResponse:
			r := kmsg.NewOffsetFetchResponseGroup()
			r.Group, r.ErrorCode = id.Name, code
			resp.Groups = append(resp.Groups, r)
		case *kmsg.FindCoordinatorResponse:
			r := kmsg.NewFindCoordinatorResponseCoordinator()
			r.Key, r.NodeID, r.Port, r.ErrorCode, r.ErrorMessage = id.Name, -1, -1, code, &message
			resp.Coordinators = append(resp.Coordinators, r)
		case *kmsg.DescribeGroupsResponse:
			r := kmsg.NewDescribeGroupsResponseGroup()
			r.Group, r.ErrorCode, r.ErrorMessage = id.Name, code, &message
			resp.Groups = append(resp.Groups, r)
		case *kmsg.DeleteGroupsResponse:
			r := kmsg.NewDeleteGroupsResponseGroup()
			r.Group, r.ErrorCode = id.Name, code
			resp.Groups = append(resp.Groups, r)
		case *kmsg.DescribeTransactionsResponse:
			r := kmsg.NewDescribeTransactionsResponseTransactionState()
			r.TransactionalID, r.ErrorCode = id.Name, code
			resp.TransactionStates = append(resp.TransactionStates, r)
		case *kmsg.ConsumerGroupDescribeResponse:
			r := kmsg.NewConsumerGroupDescribeResponseGroup()
			r.Group, r.ErrorCode, r.ErrorMessage = id.Name, code, &message
			resp.Groups = append(resp.Groups, r)
		case *kmsg.ShareGroupDescribeResponse:
			r := kmsg.NewShareGroupDescribeResponseGroup()
			r.GroupID, r.ErrorCode, r.ErrorMessage = id.Name, code, &message
			resp.Groups = append(resp.Groups, r)
		case *kmsg.StreamsGroupDescribeResponse:
			r := kmsg.NewStreamsGroupDescribeResponseGroup()
			r.Group, r.ErrorCode, r.ErrorMessage = id.Name, code, &message
			resp.Groups = append(resp.Groups, r)
		case *kmsg.DescribeShareGroupOffsetsResponse:
			r := kmsg.NewDescribeShareGroupOffsetsResponseGroup()
			r.GroupID, r.ErrorCode, r.ErrorMessage = id.Name, code, &message
			resp.Groups = append(resp.Groups, r)
		case *kmsg.DescribeConfigsResponse:
			r := kmsg.NewDescribeConfigsResponseResource()
			r.ResourceType, r.ResourceName, r.ErrorCode, r.ErrorMessage = kmsg.ConfigResourceType(id.Type), id.Name, code, &message
			resp.Resources = append(resp.Resources, r)
		case *kmsg.AlterConfigsResponse:
			r := kmsg.NewAlterConfigsResponseResource()
			r.ResourceType, r.ResourceName, r.ErrorCode, r.ErrorMessage = kmsg.ConfigResourceType(id.Type), id.Name, code, &message
			resp.Resources = append(resp.Resources, r)
		case *kmsg.IncrementalAlterConfigsResponse:
			r := kmsg.NewIncrementalAlterConfigsResponseResource()
			r.ResourceType, r.ResourceName, r.ErrorCode, r.ErrorMessage = kmsg.ConfigResourceType(id.Type), id.Name, code, &message
			resp.Resources = append(resp.Resources, r)
		}
	}
	return resp
}

// refuseID refuses a request that names a single id, with a response of its API.
func refuseID(h protocol.RequestHeader, frame []byte, kind protocol.IDKind) Decision {
	code, message := refusalOf(kind)
	switch h.Key {
	case int16(kmsg.Produce):
		return refuseAllProduce(h, frame, protocol.ReadProduceRequest(frame, h), kerr.TransactionalIDAuthorizationFailed, message)
	case int16(kmsg.ShareFetch), int16(kmsg.ShareAcknowledge):
		return Decision{Action: Answer, Frame: protocol.AppendShareError(nil, h, code, message)}
	}
	resp := kmsg.ResponseForKey(h.Key)
	resp.SetVersion(h.Version)
	var err error
	switch resp := resp.(type) {
	case *kmsg.OffsetCommitResponse:
		err = refuseOffsetCommit(resp, h, frame, code)
	case *kmsg.OffsetFetchResponse:
		if resp.ErrorCode = code; h.Version <= 1 {
			err = refuseOffsetFetch(resp, h, frame, code)
		}
	case *kmsg.AddPartitionsToTxnResponse:
		err = refuseAddPartitions(resp, h, frame, code)
	case *kmsg.TxnOffsetCommitResponse:
		err = refuseTxnOffsetCommit(resp, h, frame, code)
	case *kmsg.FindCoordinatorResponse:
		resp.NodeID, resp.Port, resp.ErrorCode, resp.ErrorMessage = -1, -1, code, &message
	case *kmsg.JoinGroupResponse:
		resp.ErrorCode = code
	case *kmsg.HeartbeatResponse:
		resp.ErrorCode = code
	case *kmsg.LeaveGroupResponse:
		resp.ErrorCode = code
	case *kmsg.SyncGroupResponse:
		resp.ErrorCode = code
	case *kmsg.InitProducerIDResponse:
		resp.ErrorCode, resp.ProducerID, resp.ProducerEpoch = code, -1, -1
	case *kmsg.AddOffsetsToTxnResponse:
		resp.ErrorCode = code
	case *kmsg.EndTxnResponse:
		resp.ErrorCode = code
	case *kmsg.OffsetDeleteResponse:
		resp.ErrorCode = code
	case *kmsg.ConsumerGroupHeartbeatResponse:
		resp.ErrorCode, resp.ErrorMessage = code, &message
	case *kmsg.ShareGroupHeartbeatResponse:
		resp.ErrorCode, resp.ErrorMessage = code, &message
	case *kmsg.StreamsGroupHeartbeatResponse:
		resp.ErrorCode, resp.ErrorMessage = code, &message
	case *kmsg.AlterShareGroupOffsetsResponse:
		resp.ErrorCode, resp.ErrorMessage = code, &message
	case *kmsg.DeleteShareGroupOffsetsResponse:
		resp.ErrorCode, resp.ErrorMessage = code, &message
	default:
		return closing(fmt.Errorf("%s: %s", kmsg.NameForKey(h.Key), message))
	}
	if err != nil {
		return closing(err)
	}
	return answer(h, resp)
}

// The following responses have a result for each partition, so the request determines their cost:
// it may have at most maxRefusedPartitions elements.

func refuseOffsetCommit(resp *kmsg.OffsetCommitResponse, h protocol.RequestHeader, frame []byte, code int16) error {
	req := kmsg.NewPtrOffsetCommitRequest()
	if err := decodeAtMost(maxRefusedPartitions, h, frame, req); err != nil {
		return err
	}
	for i := range req.Topics {
		t := kmsg.NewOffsetCommitResponseTopic()
		t.Topic, t.TopicID = req.Topics[i].Topic, req.Topics[i].TopicID
		for _, p := range req.Topics[i].Partitions {
			t.Partitions = append(t.Partitions, kmsg.OffsetCommitResponseTopicPartition{Partition: p.Partition, ErrorCode: code})
		}
		resp.Topics = append(resp.Topics, t)
	}
	return nil
}

func refuseOffsetFetch(resp *kmsg.OffsetFetchResponse, h protocol.RequestHeader, frame []byte, code int16) error {
	req := kmsg.NewPtrOffsetFetchRequest()
	if err := decodeAtMost(maxRefusedPartitions, h, frame, req); err != nil {
		return err
	}
	nothing := ""
	for i := range req.Topics {
		t := kmsg.NewOffsetFetchResponseTopic()
		t.Topic = req.Topics[i].Topic
		for _, id := range req.Topics[i].Partitions {
			p := kmsg.NewOffsetFetchResponseTopicPartition()
			p.Partition, p.Offset, p.Metadata, p.ErrorCode = id, -1, &nothing, code
			t.Partitions = append(t.Partitions, p)
		}
		resp.Topics = append(resp.Topics, t)
	}
	return nil
}

func refuseAddPartitions(resp *kmsg.AddPartitionsToTxnResponse, h protocol.RequestHeader, frame []byte, code int16) error {
	req := kmsg.NewPtrAddPartitionsToTxnRequest()
	if err := decodeAtMost(maxRefusedPartitions, h, frame, req); err != nil {
		return err
	}
	for i := range req.Topics {
		t := kmsg.NewAddPartitionsToTxnResponseTopic()
		t.Topic = req.Topics[i].Topic
		for _, id := range req.Topics[i].Partitions {
			t.Partitions = append(t.Partitions, kmsg.AddPartitionsToTxnResponseTopicPartition{Partition: id, ErrorCode: code})
		}
		resp.Topics = append(resp.Topics, t)
	}
	return nil
}

func refuseTxnOffsetCommit(resp *kmsg.TxnOffsetCommitResponse, h protocol.RequestHeader, frame []byte, code int16) error {
	req := kmsg.NewPtrTxnOffsetCommitRequest()
	if err := decodeAtMost(maxRefusedPartitions, h, frame, req); err != nil {
		return err
	}
	for i := range req.Topics {
		t := kmsg.NewTxnOffsetCommitResponseTopic()
		t.Topic = req.Topics[i].Topic
		for _, p := range req.Topics[i].Partitions {
			t.Partitions = append(t.Partitions, kmsg.TxnOffsetCommitResponseTopicPartition{Partition: p.Partition, ErrorCode: code})
		}
		resp.Topics = append(resp.Topics, t)
	}
	return nil
}
