package core

import (
	"fmt"

	"klink/admin/model"
)

// Has the source's log been truncated? This happens when a replica that lacks the latest records
// becomes leader (unclean.leader.election.enable, or a disk that lost what it had acknowledged), or
// when a backup is restored. The mirror then has records that the source has lost, and the source
// soon has new ones at the same offsets. The new log may be longer than the old one and have its
// batches at the same offsets, so offsets prove nothing. Leader epochs do (KIP-101, KIP-320): one
// leader has fixed the order of all batches of an epoch, and every replica that has one of them has
// the same log up to it. So
//
//	the source still has what was mirrored
//	<=>  it has the last batch that was seen, in the leader epoch it was seen in.
//
// Invariants:
//
//  1. partition.seen is the last batch of the source before fetchAt that has a leader epoch: a
//     batch of records, a marker, or one of an aborted transaction, whether or not it was appended.
//     done is the same for next, last for sure, and item.seen for the end of an item. The end of
//     such a batch is never above that offset. It is below where compaction or a log start have
//     made a hole. A hole is no sign of truncation, so the source's end offsets are compared with
//     the end of the batch, never with the position.
//  2. A fetch is sent only under the source's leader epoch (checked) in which seen was compared, or
//     from which it was read. The fetch names that epoch, so the broker refuses it
//     (FENCED_LEADER_EPOCH, UNKNOWN_LEADER_EPOCH, NOT_LEADER_OR_FOLLOWER) once another leader has
//     been elected. Under one leader epoch no log is truncated. So each fetch goes on where the
//     last one ended.
//  3. When the source turns out to be truncated, the partition first drops the items that are not
//     in flight, and then compares the batch before the new fetchAt instead. If the source lost
//     only what the mirror has not got yet, the mirror goes on.
//
// OffsetForLeaderEpoch answers with the largest epoch in the log that is not above the one asked
// for, and the offset at which the next epoch begins (the log's end, if there is none). The offset
// is exact for a log that is not compacted, and never too low: if batches were removed by
// compaction or are below the log start, the next epoch begins later, not sooner.
//
// Fetch has this check built in (LastFetchedEpoch, v12), for followers. But it also reports a
// diverging log if all batches of the epoch were compacted, and OFFSET_OUT_OF_RANGE if it does not
// know the epoch. A follower then truncates a little more than it has to, whereas a mirror would
// fail without need. Hence the separate request, which is sent once per leader epoch.

// UnknownEpoch: no batch with a leader epoch was seen.
var UnknownEpoch = EpochEnd{Epoch: -1, End: -1}

// Known reports whether a batch with a leader epoch was seen.
func (e EpochEnd) Known() bool { return e.Epoch >= 0 && e.End >= 0 }

// whatToDo ends the message of a mirror whose source was truncated.
const whatToDo = "fail the mirror over to keep its records, or delete and re-create it to follow the source"

// neverChecked differs from every leader epoch, and from -1 for an unknown one.
const neverChecked = -2

// EpochAnswer is what a source says about the batch that was seen.
type EpochAnswer struct {
	// epochEnd is the answer of OffsetForLeaderEpoch to the epoch of the batch; unknown = the
	// source cannot tell.
	EpochEnd
	// Leader is the source's leader epoch that the broker answered for, -1 = unknown.
	Leader int32
	// There is the leader epoch of the batch that now has the last offset of the one seen; -1 =
	// there is no such batch, or it was not looked up.
	There int32
}

// CannotTell is the answer of a source that does not know leader epochs.
var CannotTell = EpochAnswer{EpochEnd: UnknownEpoch, Leader: -1, There: -1}

// NeedsLook reports whether the answer alone does not decide: the source does not know the epoch,
// but knows an older one that ends at or behind the end of the batch. Either all batches of the
// epoch were compacted before the present leader got its copy, or the present leader led in the
// older epoch and never saw the other one. The batch that stands there now decides.
func (a EpochAnswer) NeedsLook(seen EpochEnd) bool {
	return a.Known() && a.Epoch < seen.Epoch && a.End >= seen.End
}

// truncated reports whether a source that answers a has lost the batch that was seen.
func (seen EpochEnd) truncated(a EpochAnswer) bool {
	switch {
	case !seen.Known():
		return false
	case a.Leader >= 0 && a.Leader < seen.Epoch:
		return true // epochs do not go back while a topic lives: it was created again
	case a.End < 0 || a.Epoch > seen.Epoch:
		return false // no answer
	case a.End < seen.End:
		return true
	}
	return a.NeedsLook(seen) && a.There >= 0 && a.There != seen.Epoch
}

// MustCompare reports whether the source must be asked about seen before a fetch under its leader
// epoch.
func (p *Partition) MustCompare(leader int32) bool { return p.Seen.Known() && p.checked != leader }

// Compared takes the source's answer about seen, given under its leader epoch. It ends what
// beginFetch began.
func (p *Partition) Compared(gen uint32, leader int32, a EpochAnswer) Effects {
	none := Effects{}
	if gen != p.Gen || !p.Fetching {
		return none
	}
	p.Fetching = false
	if !p.Seen.truncated(a) {
		p.checked = leader
		return p.settle(none)
	}
	kept := p.Done
	if p.Flight > 0 {
		kept = p.Queue[p.Flight-1].Seen
	}
	if p.Seen != kept {
		p.drop()
		return none // kept is compared next
	}
	var lost string
	switch {
	case a.Leader >= 0 && a.Leader < p.Seen.Epoch:
		lost = fmt.Sprintf("its leader epoch is now %d", a.Leader)
	case a.End >= p.Seen.End:
		lost = fmt.Sprintf("it has other records there, of leader epoch %d", a.There)
	default:
		lost = fmt.Sprintf("it has that epoch up to offset %d", a.End)
	}
	p.Doomed = Failf(model.ErrUnexpectedTruncation,
		"%s: the mirror ends at offset %d and has the source's records of leader epoch %d up to offset %d, but the source lost some of them (%s): "+
			"its log was truncated, by an unclean leader election or a restored backup, or the topic was re-created; "+whatToDo,
		p.Name, p.FetchAt, p.Seen.Epoch, p.Seen.End, lost)
	return p.settle(none)
}

// note records the leader epoch of a batch of the source that ends at the offset end, before
// fetchAt.
func (p *Partition) note(epoch int32, end int64) {
	if epoch < 0 || end < p.Seen.End {
		return
	}
	p.Seen = EpochEnd{Epoch: epoch, End: end}
	if n := len(p.Queue); n > 0 && p.Queue[n-1].End() == end {
		p.Queue[n-1].Seen = p.Seen
	}
}

// epochOf returns the leader epoch of a batch, -1 = unknown. In Kafka no batch has a higher epoch
// than the leader epoch of the fetch. A source that sends one does not use the epochs as Kafka
// does, so they are ignored.
func (f Fetched) epochOf(batch int32) int32 {
	if f.Epoch >= 0 && batch > f.Epoch {
		return -1
	}
	return batch
}
