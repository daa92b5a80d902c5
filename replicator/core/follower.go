package core

import (
	"errors"
	"fmt"

	"klink/protocol/batch"
)

// A partition may be fetched from a follower that its leader prefers for the link's rack (KIP-392).
// A follower is no authority. After an unclean leader election it may know the new leader epoch,
// and have records that the new leader lost: until it truncates its log, it answers a fetch under
// the new epoch with them. Offsets do not show it, and neither does the epoch that the fetch names.
//
// Invariants:
//
//  1. A batch of a follower is queued only if its leader epoch is the one that the fetch named, or
//     if the leader has said, under that epoch, that it has the epoch of the batch up to the end of
//     the batch (OffsetForLeaderEpoch). A follower gets batches of the present epoch only from its
//     leader, after it has truncated its log to the leader's. And who has a batch of an epoch has
//     the same log up to it (truncation.go). A leader does not truncate its log under one epoch, so
//     what it has said holds as long as the epoch does. Every batch is judged by itself: the broker
//     may truncate its log while it sends a response.
//  2. A follower never moves the source's end offsets back, nor its log start. It never fails the
//     partition either: what would fail it is fetched again, from the leader.
//  3. Before a follower is asked, the leader has answered a fetch under the same epoch, or a
//     question about the batch that was seen last. The first batch of a log, and the first one
//     after a log start that has overtaken the mirror, come from the leader: they decide where the
//     mirror begins.

// maxProofs is how many former leader epochs one response of a follower may have.
const maxProofs = 64

var (
	errLeaderFirst = errors.New("the leader has to answer first")
	errNoEpoch     = errors.New("a batch of the follower has no leader epoch that the leader can be asked about")
	errManyEpochs  = fmt.Errorf("a response of the follower has batches of more than %d leader epochs", maxProofs)
)

// proofs are what the leader has said under one leader epoch: it has each of the former epochs up
// to an offset.
type proofs struct {
	leader int32
	ends   []EpochEnd
}

// Covers reports whether who has e has all batches of want's epoch up to want's end. A leader that
// answers with another epoch than it was asked about does not know that one.
func (e EpochEnd) Covers(want EpochEnd) bool { return e.Epoch == want.Epoch && e.End >= want.End }

// cover reports whether the leader has all batches of an epoch up to the end.
func (p *proofs) cover(leader int32, want EpochEnd) bool {
	if p.leader != leader {
		return false
	}
	for _, e := range p.ends {
		if e.Covers(want) {
			return true
		}
	}
	return false
}

// MayFollow reports whether the partition may be fetched from a follower, under the source's leader
// epoch.
func (p *Partition) MayFollow(leader int32) bool {
	return leader >= 0 && p.State == StateRunning && p.checked == leader && !p.Virgin && !p.overtaken
}

// FetchedFromFollower is Fetched for the answer of a follower. If ask is not empty, nothing was
// queued, and the fetch has not ended: the leader has to be asked up to where it has these epochs,
// and Proven, or FetchFailed, takes its answer. If refused is set, the partition is to be fetched
// from its leader.
func (p *Partition) FetchedFromFollower(gen uint32, f Fetched) (e Effects, ask []EpochEnd, refused error) {
	if gen != p.Gen || !p.Fetching {
		return Effects{}, nil, nil
	}
	if !p.MayFollow(f.Epoch) {
		refused = errLeaderFirst
	} else {
		ask, refused = p.unproven(f)
	}
	switch {
	case refused != nil:
		p.Fetching = false
		return Effects{}, nil, refused
	case len(ask) > 0:
		return Effects{}, ask, nil
	}
	f.HighWater, f.LogStart, f.follower = max(f.HighWater, p.SourceEnd), -1, true
	if f.Stable >= 0 {
		f.Stable = max(f.Stable, p.SourceStable)
	}
	e = p.Fetched(gen, f)
	return e, nil, e.refused
}

// unproven returns the former leader epochs of a follower's batches, and up to where each is
// needed, unless the leader has said of all of them that it has them so far.
func (p *Partition) unproven(f Fetched) ([]EpochEnd, error) {
	var need []EpochEnd
	proven := true
	w := batch.Walk(f.Records)
	for w.Next() {
		b := w.Batch()
		want := EpochEnd{Epoch: b.LeaderEpoch(), End: b.NextOffset()}
		n := len(need) - 1
		switch {
		case want.Epoch == f.Epoch:
		case want.Epoch < 0 || want.Epoch > f.Epoch:
			return nil, errNoEpoch
		case proven && p.proofs.cover(f.Epoch, want):
		case proven:
			proven, w = false, batch.Walk(f.Records) // ask about all of them, so that all are kept
		case n >= 0 && need[n].Epoch == want.Epoch:
			need[n].End = max(need[n].End, want.End)
		case n >= 0 && need[n].Epoch > want.Epoch:
			return nil, errNoEpoch // within a log they only grow
		case n+1 == maxProofs:
			return nil, errManyEpochs
		default:
			need = append(need, want)
		}
	}
	return need, w.Err()
}

// Proven takes what the leader said under its leader epoch: it has each of these epochs up to an
// offset. It ends the fetch that asked for it; the next one brings the batches.
func (p *Partition) Proven(gen uint32, leader int32, ends []EpochEnd) {
	p.proofs = proofs{leader: leader, ends: ends}
	p.FetchFailed(gen)
}

// LeaderSaid takes the offsets that the leader tells of a partition that is fetched from a
// follower; -1 = it does not tell. Only the leader moves the log start.
func (p *Partition) LeaderSaid(leader int32, highWater, stable, logStart int64) {
	if !p.MayFollow(leader) || highWater < 0 {
		return
	}
	p.SourceEnd = max(highWater, p.FetchAt) // what was fetched since it answered is there, too
	if stable >= 0 {
		p.SourceStable = stable
	}
	p.SourceStart = max(p.SourceStart, logStart)
}
