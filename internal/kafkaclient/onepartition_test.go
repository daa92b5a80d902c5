package kafkaclient

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// leading is a leader that keeps the request, and gives an answer that was made before.
type leading struct {
	asked  kmsg.Request
	answer kmsg.Response
}

func (l *leading) Request(_ context.Context, req kmsg.Request) (kmsg.Response, error) {
	l.asked = req
	return l.answer, nil
}

// TestFetchOfOnePartition: the request says what was asked for, and an error of the partition comes
// with its answer, others without.
func TestFetchOfOnePartition(t *testing.T) {
	of := OnePartition{Topic: "t", TopicID: [16]byte{1}, Partition: 3, Epoch: 7}
	bounds := FetchBounds{Isolation: ReadCommitted, Wait: time.Second, MaxBytes: 100, PartitionMaxBytes: 50}
	resp := kmsg.NewPtrFetchResponse()
	resp.Topics = []kmsg.FetchResponseTopic{{Partitions: []kmsg.FetchResponseTopicPartition{{Partition: 3, RecordBatches: []byte("b")}}}}
	l := &leading{answer: resp}
	got, err := of.Fetch(t.Context(), l, 9, bounds)
	require.NoError(t, err)
	require.Equal(t, []byte("b"), got.RecordBatches)
	req := l.asked.(*kmsg.FetchRequest)
	require.Equal(t, []int32{-1, -1, 1000, 1, 100}, []int32{req.ReplicaID, req.SessionEpoch, req.MaxWaitMillis, req.MinBytes, req.MaxBytes})
	require.Equal(t, ReadCommitted, req.IsolationLevel)
	require.Equal(t, "t", req.Topics[0].Topic)
	require.Equal(t, [16]byte{1}, req.Topics[0].TopicID)
	p := req.Topics[0].Partitions[0]
	require.Equal(t, []int64{3, 7, 9, 50}, []int64{int64(p.Partition), int64(p.CurrentLeaderEpoch), p.FetchOffset, int64(p.PartitionMaxBytes)})

	resp.Topics[0].Partitions[0].ErrorCode = kerr.FencedLeaderEpoch.Code
	got, err = of.Fetch(t.Context(), l, 9, bounds)
	require.ErrorIs(t, err, kerr.FencedLeaderEpoch)
	require.NotNil(t, got)
	resp.ErrorCode = kerr.UnknownTopicID.Code
	got, err = of.Fetch(t.Context(), l, 9, bounds)
	require.ErrorIs(t, err, kerr.UnknownTopicID)
	require.Nil(t, got)
	got, err = of.Fetch(t.Context(), &leading{answer: kmsg.NewPtrFetchResponse()}, 9, bounds)
	require.ErrorContains(t, err, "the response to a fetch of t-3 has 0 topics")
	require.Nil(t, got)
}

// TestListOffsetOfOnePartition is TestFetchOfOnePartition for ListOffsets.
func TestListOffsetOfOnePartition(t *testing.T) {
	of := OnePartition{Topic: "t", Partition: 3, Epoch: 7}
	resp := kmsg.NewPtrListOffsetsResponse()
	resp.Topics = []kmsg.ListOffsetsResponseTopic{{Partitions: []kmsg.ListOffsetsResponseTopicPartition{{Partition: 3, Offset: 11}}}}
	l := &leading{answer: resp}
	got, err := of.ListOffset(t.Context(), l, -2, ReadCommitted, -1)
	require.NoError(t, err)
	require.EqualValues(t, 11, got.Offset)
	req := l.asked.(*kmsg.ListOffsetsRequest)
	require.EqualValues(t, -2, req.ReplicaID)
	require.Equal(t, ReadCommitted, req.IsolationLevel)
	require.Equal(t, "t", req.Topics[0].Topic)
	p := req.Topics[0].Partitions[0]
	require.Equal(t, []int64{3, 7, -1, 1}, []int64{int64(p.Partition), int64(p.CurrentLeaderEpoch), p.Timestamp, int64(p.MaxNumOffsets)})

	resp.Topics[0].Partitions[0].ErrorCode = kerr.NotLeaderForPartition.Code
	got, err = of.ListOffset(t.Context(), l, -1, ReadUncommitted, -2)
	require.ErrorIs(t, err, kerr.NotLeaderForPartition)
	require.NotNil(t, got)
	got, err = of.ListOffset(t.Context(), &leading{answer: kmsg.NewPtrListOffsetsResponse()}, -1, ReadUncommitted, -2)
	require.ErrorContains(t, err, "the ListOffsets response for t-3 has 0 topics")
	require.Nil(t, got)
}
