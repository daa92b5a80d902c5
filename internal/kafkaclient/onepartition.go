package kafkaclient

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// The isolation levels of Fetch and ListOffsets. A log ends at the high watermark for a reader of
// what is uncommitted, at the last stable offset for a reader of what is committed.
const (
	ReadUncommitted int8 = 0
	ReadCommitted   int8 = 1
)

// AnyEpoch is for requests that the leader of a partition answers in whichever epoch it leads.
const AnyEpoch int32 = -1

// OnePartition is what requests to the leader of one partition are about.
type OnePartition struct {
	Topic     string
	TopicID   [16]byte // needed by Fetch from version 13 on
	Partition int32
	Epoch     int32 // the leader answers with an error if it leads in another epoch
}

// FetchBounds say what a fetch returns, and when.
type FetchBounds struct {
	Isolation int8
	// Wait is how long the broker waits for a first byte behind the end of the log.
	Wait time.Duration
	// MaxBytes bounds the response, and PartitionMaxBytes the batches in it. One whole batch comes
	// in any case (KIP-74).
	MaxBytes, PartitionMaxBytes int32
}

// Fetch asks the leader for batches, the first of which holds the offset, without a fetch session.
// An error of the partition comes with its answer, every other error without one.
func (o OnePartition) Fetch(ctx context.Context, leader kmsg.Requestor, offset int64, bounds FetchBounds) (*kmsg.FetchResponseTopicPartition, error) {
	req := kmsg.NewPtrFetchRequest()
	req.ReplicaID, req.SessionEpoch, req.IsolationLevel = -1, -1, bounds.Isolation
	req.MaxWaitMillis, req.MinBytes, req.MaxBytes = int32(bounds.Wait.Milliseconds()), 1, bounds.MaxBytes
	t, p := kmsg.NewFetchRequestTopic(), kmsg.NewFetchRequestTopicPartition()
	t.Topic, t.TopicID = o.Topic, o.TopicID
	p.Partition, p.CurrentLeaderEpoch, p.FetchOffset, p.PartitionMaxBytes = o.Partition, o.Epoch, offset, bounds.PartitionMaxBytes
	t.Partitions = append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	resp, err := req.RequestWith(ctx, leader)
	if err != nil {
		return nil, err
	}
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		return nil, err
	}
	if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
		return nil, fmt.Errorf("the response to a fetch of %s-%d has %d topics", o.Topic, o.Partition, len(resp.Topics))
	}
	got := &resp.Topics[0].Partitions[0]
	return got, kerr.ErrorForCode(got.ErrorCode)
}

// ListOffset asks the leader for the offset of a timestamp; -1 is the end of the log, -2 its start.
// replica is -1 for a client; the debugging replica, -2, is told of what is not committed, too. An
// error of the partition comes with its answer, every other error without one.
func (o OnePartition) ListOffset(ctx context.Context, leader kmsg.Requestor, replica int32, isolation int8, timestamp int64) (*kmsg.ListOffsetsResponseTopicPartition, error) {
	req := kmsg.NewPtrListOffsetsRequest()
	req.ReplicaID, req.IsolationLevel = replica, isolation
	t, p := kmsg.NewListOffsetsRequestTopic(), kmsg.NewListOffsetsRequestTopicPartition()
	t.Topic = o.Topic
	p.Partition, p.CurrentLeaderEpoch, p.Timestamp = o.Partition, o.Epoch, timestamp
	t.Partitions = append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	resp, err := req.RequestWith(ctx, leader)
	if err != nil {
		return nil, err
	}
	if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
		return nil, fmt.Errorf("the ListOffsets response for %s-%d has %d topics", o.Topic, o.Partition, len(resp.Topics))
	}
	got := &resp.Topics[0].Partitions[0]
	return got, kerr.ErrorForCode(got.ErrorCode)
}
