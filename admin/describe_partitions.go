package admin

import (
	"fmt"
	"time"

	"klink/admin/model"
	"klink/admin/store"
	"klink/protocol/linkapi"
	"klink/protocol/timeline"
)

// partitions describes the partitions of a mirror from the replicator's memory and the stored
// timelines.
func (s *Service) partitions(m *model.Mirror) []linkapi.DescribedPartition {
	var status []model.PartitionStatus
	if r := s.reporter.Load(); r != nil && *r != nil {
		status = (*r).Status(m.Topic)
	}
	timelines := s.State().Timelines[m.Topic]
	stored := s.store.TimelineRecords(m.Topic, m.Partitions)
	ps := make([]linkapi.DescribedPartition, m.Partitions)
	for i := range ps {
		p := linkapi.DescribedPartition{
			Partition: int32(i), SourceStartOffset: -1, SourceEndOffset: -1, SourceLastStableOffset: -1, MirrorStartOffset: -1, MirrorEndOffset: -1,
			Lag: -1, LagMs: -1, LastFetchTimeMs: -1, ShiftBegan: -1,
		}
		if i < len(status) {
			describeStatus(&p, status[i], s.cfg.Now())
		}
		if i < len(timelines) {
			describeShift(&p, timelines[i], stored[i])
		}
		if m.State == model.MirrorStopped {
			// Show what was left behind at the stop. Nothing newer is known, because nobody follows
			// the source any more.
			p.SourceEndOffset, p.Lag, p.LagMs, p.LastFetchTimeMs = -1, -1, -1, -1
			if t := stored[i]; t != nil && t.LeftBehind() >= 0 {
				p.SourceEndOffset, p.Lag = *t.SourceEnd, t.LeftBehind()
				if t.SourceSeen != nil {
					p.LastFetchTimeMs = *t.SourceSeen
				}
			}
		}
		ps[i] = p
	}
	return ps
}

func describeStatus(p *linkapi.DescribedPartition, status model.PartitionStatus, now time.Time) {
	p.SourceEndOffset, p.MirrorEndOffset, p.LastFetchTimeMs = status.SourceEnd, status.MirrorEnd, millis(status.LastFetch)
	p.JoinedBatches = status.Joined
	if p.SourceEndOffset >= 0 && p.MirrorEndOffset >= 0 {
		p.Lag = max(0, p.SourceEndOffset-p.MirrorEndOffset)
		switch {
		case p.Lag == 0:
			p.LagMs = 0
		case !status.CaughtUp.IsZero():
			p.LagMs = max(0, now.Sub(status.CaughtUp).Milliseconds())
		}
	}
	if status.Detailed() {
		p.SourceStartOffset, p.SourceLastStableOffset, p.MirrorStartOffset = status.SourceStart, status.SourceLastStable, status.MirrorStart
		p.ShiftBegan, p.ShiftReason = status.ShiftBegan, status.ShiftReason
	}
}

// describeShift fills in whether a partition is aligned, and if not, from which offset on and why.
// It prefers what the replicator says to what is stored, and that to what the timeline implies.
func describeShift(p *linkapi.DescribedPartition, t *timeline.Partition, stored *store.TimelineRecord) {
	if t.Floor() == store.OutOfRange || stored == nil {
		p.ShiftReason = "the timeline of the partition is missing or cannot be read"
		return
	}
	p.Shift = t.Shift()
	if a := stored.Alignment; a != nil && p.ShiftBegan < 0 && p.ShiftReason == "" {
		p.ShiftBegan, p.ShiftReason = a.Began, a.Reason
	}
	switch {
	case p.ShiftBegan >= 0:
	case stored.Shift() != 0:
		p.ShiftBegan = stored.Logical
		if p.ShiftReason == "" {
			p.ShiftReason = fmt.Sprintf("the mirror began at offset %d of the source, which is offset %d in its own log", stored.Logical, stored.Physical)
		}
	case p.Shift != 0:
		p.ShiftBegan = stored.Logical // the shift began there, or later
	}
	if p.ShiftBegan < 0 {
		p.Aligned, p.ShiftReason = true, ""
	}
}

// directAccess reports whether clients can connect straight to the brokers once mirroring has been
// stopped, and why or why not.
func directAccess(m *model.Mirror, timelines []*timeline.Partition, ps []linkapi.DescribedPartition) (possible bool, reason string) {
	if !m.Created || m.Error == model.ErrMirrorTopicDeleted || len(timelines) < len(ps) {
		return false, "the topic does not exist at the destination, or klink does not know it yet"
	}
	if m.State == model.MirrorPending {
		return false, "unknown while the mirror is being set up"
	}
	if len(ps) == 0 {
		return false, "the mirror has no partitions"
	}
	var worst *linkapi.DescribedPartition
	n := 0
	for i := range ps {
		if p := &ps[i]; !p.Aligned {
			n++
			if worst == nil {
				worst = p
			}
		}
	}
	if n > 0 {
		return false, fmt.Sprintf("%d of %d partitions have different offsets at the brokers; partition %d from offset %d on: %s",
			n, len(ps), worst.Partition, worst.ShiftBegan, orUnknown(worst.ShiftReason))
	}
	reason = "all partitions have the offsets of the source at the brokers"
	switch {
	case m.LogAppendTime:
		reason += "; records that the source stamped with LogAppendTime have CreateTime at the brokers: the append time, plus the difference between the timestamps of the record and of the first one in its batch"
	case m.State != model.MirrorStopped:
		reason += " so far"
	}
	return true, reason
}

func orUnknown(reason string) string {
	if reason == "" {
		return "unknown reason"
	}
	return reason
}
