package admin

import (
	"testing"
	"time"

	"klink/admin/model"
	"klink/admin/store"
	"klink/protocol/linkapi"
	"klink/protocol/timeline"

	"github.com/stretchr/testify/require"
)

func TestDescribeStatus(t *testing.T) {
	now := time.UnixMilli(100_000)
	unknown := linkapi.DescribedPartition{
		SourceStartOffset: -1, SourceEndOffset: -1, SourceLastStableOffset: -1, MirrorStartOffset: -1, MirrorEndOffset: -1,
		Lag: -1, LagMs: -1, LastFetchTimeMs: -1, ShiftBegan: -1,
	}
	for name, c := range map[string]struct {
		status model.PartitionStatus
		want   func(p *linkapi.DescribedPartition)
	}{
		"nothing is filled in beyond the ends": {
			model.PartitionStatus{SourceEnd: 9, MirrorEnd: 10, LastFetch: time.UnixMilli(7)},
			func(p *linkapi.DescribedPartition) {
				p.SourceEndOffset, p.MirrorEndOffset, p.Lag, p.LastFetchTimeMs = 9, 10, 0, 7
				p.LagMs = 0
			},
		},
		"a transaction has been open from the first offset on": {
			model.PartitionStatus{SourceEnd: 9, MirrorEnd: 0, ShiftBegan: -1},
			func(p *linkapi.DescribedPartition) {
				p.SourceEndOffset, p.MirrorEndOffset, p.Lag = 9, 0, 9
				p.SourceLastStableOffset, p.SourceStartOffset, p.MirrorStartOffset = 0, 0, 0
			},
		},
		"it was caught up a while ago": {
			model.PartitionStatus{SourceEnd: 9, MirrorEnd: 4, CaughtUp: now.Add(-3 * time.Second)},
			func(p *linkapi.DescribedPartition) {
				p.SourceEndOffset, p.MirrorEndOffset, p.Lag, p.LagMs = 9, 4, 5, 3000
			},
		},
		"shifted from the first offset on": {
			model.PartitionStatus{SourceEnd: -1, MirrorEnd: -1, SourceLastStable: -1, SourceStart: -1, MirrorStart: 3, ShiftReason: "why"},
			func(p *linkapi.DescribedPartition) {
				p.MirrorStartOffset, p.ShiftBegan, p.ShiftReason = 3, 0, "why"
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, want := unknown, unknown
			describeStatus(&got, c.status, now)
			c.want(&want)
			require.Equal(t, want, got)
		})
	}
}

func TestDescribeShift(t *testing.T) {
	shifted := timeline.New(0, 5, 5)
	for name, c := range map[string]struct {
		t      *timeline.Partition
		stored *store.TimelineRecord
		status model.PartitionStatus
		want   linkapi.DescribedPartition
	}{
		"aligned":        {timeline.New(5, 5, 5), &store.TimelineRecord{Physical: 5, Logical: 5, Floor: 5}, model.PartitionStatus{ShiftBegan: -1}, linkapi.DescribedPartition{Aligned: true, ShiftBegan: -1}},
		"found aligned":  {timeline.New(5, 5, 5), &store.TimelineRecord{Physical: 5, Logical: 5, Floor: 5, Alignment: &store.Alignment{Began: -1}}, model.PartitionStatus{ShiftBegan: -1}, linkapi.DescribedPartition{Aligned: true, ShiftBegan: -1}},
		"from the start": {shifted, &store.TimelineRecord{Logical: 5, Floor: 5}, model.PartitionStatus{ShiftBegan: -1}, linkapi.DescribedPartition{Shift: 5, ShiftBegan: 5, ShiftReason: "the mirror began at offset 5 of the source, which is offset 0 in its own log"}},
		"stored":         {shifted, &store.TimelineRecord{Logical: 5, Floor: 5, Alignment: &store.Alignment{Began: 5, Reason: "no"}}, model.PartitionStatus{ShiftBegan: -1}, linkapi.DescribedPartition{Shift: 5, ShiftBegan: 5, ShiftReason: "no"}},
		"the replicator": {shifted, &store.TimelineRecord{Logical: 5, Floor: 5, Alignment: &store.Alignment{Began: 5, Reason: "no"}}, model.PartitionStatus{ShiftBegan: 7, ShiftReason: "yes"}, linkapi.DescribedPartition{Shift: 5, ShiftBegan: 7, ShiftReason: "yes"}},
		"no timeline":    {timeline.New(0, 0, store.OutOfRange), nil, model.PartitionStatus{ShiftBegan: -1}, linkapi.DescribedPartition{ShiftBegan: -1, ShiftReason: "the timeline of the partition is missing or cannot be read"}},
	} {
		t.Run(name, func(t *testing.T) {
			p := linkapi.DescribedPartition{}
			p.ShiftBegan, p.ShiftReason = c.status.ShiftBegan, c.status.ShiftReason
			describeShift(&p, c.t, c.stored)
			require.Equal(t, c.want, p)
		})
	}
}

func TestDirectAccess(t *testing.T) {
	aligned := linkapi.DescribedPartition{Aligned: true, ShiftBegan: -1}
	shifted := linkapi.DescribedPartition{Partition: 1, Shift: 1, ShiftBegan: 9, ShiftReason: "policy"}
	two := make([]*timeline.Partition, 2)
	for name, c := range map[string]struct {
		m         model.Mirror
		timelines []*timeline.Partition
		ps        []linkapi.DescribedPartition
		possible  bool
		reason    string
	}{
		"stopped":       {model.Mirror{Created: true, State: model.MirrorStopped}, two, []linkapi.DescribedPartition{aligned, aligned}, true, "all partitions have the offsets of the source at the brokers"},
		"active":        {model.Mirror{Created: true, State: model.MirrorActive}, two, []linkapi.DescribedPartition{aligned, aligned}, true, "all partitions have the offsets of the source at the brokers so far"},
		"LogAppendTime": {model.Mirror{Created: true, State: model.MirrorActive, LogAppendTime: true}, two, []linkapi.DescribedPartition{aligned, aligned}, true, "LogAppendTime"},
		"shifted":       {model.Mirror{Created: true, State: model.MirrorActive}, two, []linkapi.DescribedPartition{aligned, shifted}, false, "1 of 2 partitions have different offsets at the brokers; partition 1 from offset 9 on: policy"},
		"pending":       {model.Mirror{Created: true, State: model.MirrorPending}, two, []linkapi.DescribedPartition{aligned, aligned}, false, "unknown while"},
		"not created":   {model.Mirror{State: model.MirrorActive}, two, []linkapi.DescribedPartition{aligned, aligned}, false, "does not exist"},
		"gone":          {model.Mirror{Created: true, State: model.MirrorFailed, Error: model.ErrMirrorTopicDeleted}, nil, []linkapi.DescribedPartition{aligned, aligned}, false, "does not exist"},
		"unreadable":    {model.Mirror{Created: true, State: model.MirrorFailed, Error: model.ErrInternal}, nil, nil, false, "no partitions"},
	} {
		t.Run(name, func(t *testing.T) {
			possible, reason := directAccess(&c.m, c.timelines, c.ps)
			require.Equal(t, c.possible, possible)
			require.Contains(t, reason, c.reason)
		})
	}
}
