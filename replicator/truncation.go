package replicator

import (
	"fmt"

	"klink/admin"
)

// Has the source's log been truncated? A replica that lacks the latest records becomes leader
// (unclean.leader.election.enable, or a disk that lost what it had acknowledged), or a backup is
// restored: then the records that the mirror has from behind that place are no longer the source's,
// and new ones soon stand at their offsets. The new log may be longer than the old one and have its
// batches at the same offsets, so that offsets tell nothing. Leader epochs do (KIP-101, KIP-320):
// of all batches of one epoch one leader has fixed the order, and every replica that has one of
// them has the same log up to it. So
//
//	the source still has what was mirrored  <=>  it has the last batch that was seen, in the leader epoch it was seen in.
//
// Invariants:
//
//  1. partition.seen is the last batch of the source before fetchAt that has a leader epoch, be it
//     a batch of records, a marker, or one of an aborted transaction: what of it was appended does
//     not matter. done is the same for next, last for sure, item.seen for the end of an item. Its
//     end is never above the offset it goes with; it is below where compaction or a log start have
//     made a hole, and then the hole says nothing about truncation, which is right: end offsets are
//     compared with the end of the batch, never with the position.
//  2. A fetch goes out only under the source's leader epoch (checked) in which seen was compared,
//     or from which it was read. It names that epoch, so that the broker refuses it
//     (FENCED_LEADER_EPOCH, UNKNOWN_LEADER_EPOCH, NOT_LEADER_OR_FOLLOWER) once another leader has
//     been elected. Under one leader epoch no log is truncated. So what a fetch brings goes on
//     where the last one ended.
//  3. What was fetched but not appended when the source turns out to be truncated is given up
//     first, and done is compared instead: the mirror has not lost its source if the source lost
//     only what the mirror has not got yet.
//
// The answer of OffsetForLeaderEpoch to an epoch is the largest epoch not above it that the log
// knows, and where the next one begins (the log's end, if there is none). The offset is exact for a
// log that is not compacted, and never too low: batches removed by compaction or below the log
// start make the next epoch begin later, not sooner.
//
// Fetch has this check built in (LastFetchedEpoch, v12), for followers: it says that the log
// diverges also where all batches of the epoch were compacted, and OFFSET_OUT_OF_RANGE where the
// epoch is not known. A follower then truncates a bit more than it has to; a mirror would fail
// without need. Hence the request of its own, which is made once per leader epoch.

// unknownEpoch is the end of no batch: no batch with a leader epoch was seen.
var unknownEpoch = epochEnd{-1, -1}

func (e epochEnd) known() bool { return e.epoch >= 0 && e.end >= 0 }

// whatToDo ends the message of a mirror whose source was truncated.
const whatToDo = "fail the mirror over to keep its records, or delete and re-create it to follow the source"

// neverChecked is no leader epoch, not even the unknown one.
const neverChecked = -2

// epochAnswer is what a source says about a batch that was seen.
type epochAnswer struct {
	// epochEnd is the answer of OffsetForLeaderEpoch to the epoch of the batch; unknown = the
	// source cannot tell.
	epochEnd
	// leader is the source's leader epoch that the broker answered for, -1 = unknown.
	leader int32
	// there is the leader epoch of the batch that has the last offset of the one seen; -1 = none
	// has, or it was not looked up.
	there int32
}

// cannotTell is the answer of a source that does not know leader epochs.
var cannotTell = epochAnswer{unknownEpoch, -1, -1}

// needsLook says that the answer alone does not tell: the source does not know the epoch, but an
// older one that ends behind the batch. Either all batches of the epoch were compacted before the
// replica that leads now got its copy, or that replica was the leader of the older epoch and never
// saw the other. What stands there now tells.
func (a epochAnswer) needsLook(seen epochEnd) bool {
	return a.known() && a.epoch < seen.epoch && a.end >= seen.end
}

// truncated says whether a source that answers so has lost the batch that was seen.
func (seen epochEnd) truncated(a epochAnswer) bool {
	switch {
	case !seen.known():
		return false
	case a.leader >= 0 && a.leader < seen.epoch:
		return true // epochs do not go back while a topic lives: it was created again
	case a.end < 0 || a.epoch > seen.epoch:
		return false // no answer
	case a.end < seen.end:
		return true
	}
	return a.needsLook(seen) && a.there >= 0 && a.there != seen.epoch
}

// mustCompare says whether the source has to be asked what became of seen before a fetch under its
// leader epoch.
func (p *partition) mustCompare(leader int32) bool { return p.seen.known() && p.checked != leader }

// compared takes what the source says of seen, asked under its leader epoch. It ends what
// beginFetch began.
func (p *partition) compared(gen uint32, leader int32, a epochAnswer) effects {
	none := effects{trim: -1}
	if gen != p.gen || !p.fetching {
		return none
	}
	p.fetching = false
	if !p.seen.truncated(a) {
		p.checked = leader
		return p.settle(none)
	}
	kept := p.done
	if p.flight > 0 {
		kept = p.queue[p.flight-1].seen
	}
	if p.seen != kept {
		p.drop()
		return none // kept is compared next
	}
	var lost string
	switch {
	case a.leader >= 0 && a.leader < p.seen.epoch:
		lost = fmt.Sprintf("its leader epoch is now %d", a.leader)
	case a.end >= p.seen.end:
		lost = fmt.Sprintf("it has others there, of leader epoch %d", a.there)
	default:
		lost = fmt.Sprintf("it has that epoch up to offset %d", a.end)
	}
	p.doomed = failf(admin.ErrUnexpectedTruncation,
		"%s: the mirror ends at offset %d and has the source's records of leader epoch %d up to offset %d, but the source lost some of them (%s): "+
			"its log was truncated, by an unclean leader election or a restored backup, or the topic was created again; "+whatToDo,
		p.name, p.fetchAt, p.seen.epoch, p.seen.end, lost)
	return p.settle(none)
}

// note notes that a batch of the source that ends at the offset end, before fetchAt, was written in
// a leader epoch.
func (p *partition) note(epoch int32, end int64) {
	if epoch < 0 || end < p.seen.end {
		return
	}
	p.seen = epochEnd{epoch, end}
	if n := len(p.queue); n > 0 && p.queue[n-1].end() == end {
		p.queue[n-1].seen = p.seen
	}
}

// epochOf is the leader epoch of a batch, -1 = unknown. A batch above the leader epoch that the
// fetch was made under is not possible in Kafka; a source that gives such does not use one of the
// two as Kafka does.
func (f fetched) epochOf(batch int32) int32 {
	if f.epoch >= 0 && batch > f.epoch {
		return -1
	}
	return batch
}
