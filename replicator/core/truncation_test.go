package core

import (
	"math/rand/v2"
	"slices"
	"testing"
)

func TestTruncated(t *testing.T) {
	seen := EpochEnd{Epoch: 5, End: 100}
	for name, c := range map[string]struct {
		seen EpochEnd
		a    EpochAnswer
		want bool
	}{
		"the epoch goes on":                           {seen, EpochAnswer{EpochEnd: EpochEnd{Epoch: 5, End: 120}, Leader: 5, There: -1}, false},
		"it ends just there":                          {seen, EpochAnswer{EpochEnd: EpochEnd{Epoch: 5, End: 100}, Leader: 6, There: -1}, false},
		"another leader, nothing written":             {seen, EpochAnswer{EpochEnd: EpochEnd{Epoch: 5, End: 100}, Leader: 9, There: -1}, false},
		"it ends before":                              {seen, EpochAnswer{EpochEnd: EpochEnd{Epoch: 5, End: 99}, Leader: 6, There: -1}, true},
		"it ends before, in the same epoch":           {seen, EpochAnswer{EpochEnd: EpochEnd{Epoch: 5, End: 99}, Leader: 5, There: -1}, true},
		"another epoch began before":                  {seen, EpochAnswer{EpochEnd: EpochEnd{Epoch: 4, End: 90}, Leader: 6, There: -1}, true},
		"the log start is behind it":                  {seen, EpochAnswer{EpochEnd: EpochEnd{Epoch: 5, End: 100}, Leader: 7, There: -1}, false},
		"all of the epoch was compacted":              {seen, EpochAnswer{EpochEnd: EpochEnd{Epoch: 4, End: 110}, Leader: 7, There: -1}, false},
		"the older epoch goes on where it was":        {seen, EpochAnswer{EpochEnd: EpochEnd{Epoch: 4, End: 110}, Leader: 7, There: 4}, true},
		"the older epoch ends there, as does the log": {seen, EpochAnswer{EpochEnd: EpochEnd{Epoch: 4, End: 100}, Leader: 7, There: 4}, true},
		"epochs began anew":                           {seen, EpochAnswer{EpochEnd: EpochEnd{Epoch: -1, End: -1}, Leader: 0, There: -1}, true},
		"the source knows no epochs":                  {seen, EpochAnswer{EpochEnd: EpochEnd{Epoch: -1, End: -1}, Leader: 6, There: -1}, false},
		"the source cannot be asked":                  {seen, CannotTell, false},
		"an answer without an epoch, behind":          {seen, EpochAnswer{EpochEnd: EpochEnd{Epoch: -1, End: 100}, Leader: -1, There: -1}, false},
		"an answer without an epoch, before":          {seen, EpochAnswer{EpochEnd: EpochEnd{Epoch: -1, End: 99}, Leader: -1, There: -1}, true},
		"an answer about a later epoch":               {seen, EpochAnswer{EpochEnd: EpochEnd{Epoch: 6, End: 0}, Leader: 6, There: -1}, false},
		"nothing was seen":                            {UnknownEpoch, EpochAnswer{EpochEnd: EpochEnd{Epoch: 0, End: 0}, Leader: 0, There: -1}, false},
	} {
		if got := c.seen.truncated(c.a); got != c.want {
			t.Errorf("%s: truncated %v, want %v", name, got, c.want)
		}
	}
}

// replica is a copy of a source's log, with the epochs that Kafka's LeaderEpochFileCache would
// know.
type replica struct {
	history []written // all batches ever, in order; compaction and log start remove none
	gone    map[int]bool
	start   int64
	epochs  []epochStart
}

// written is a batch; no two have the same id.
type written struct {
	id        int
	epoch     int32
	base, end int64
}

type epochStart struct {
	epoch int32
	start int64
}

func (r *replica) end() int64 {
	if len(r.history) == 0 {
		return r.start
	}
	return max(r.start, r.history[len(r.history)-1].end)
}

func (r *replica) has(id int) bool {
	return slices.ContainsFunc(r.history, func(b written) bool { return b.id == id })
}

func (r *replica) began(epoch int32, at int64) {
	if n := len(r.epochs); n == 0 || r.epochs[n-1].epoch < epoch {
		r.epochs = append(r.epochs, epochStart{epoch, at})
	}
}

func (r *replica) moveStart(to int64) {
	if to <= r.start {
		return
	}
	r.start = to
	n := 0
	for n < len(r.epochs) && r.epochs[n].start <= to {
		n++
	}
	if n > 0 {
		r.epochs = r.epochs[n-1:]
		r.epochs[0].start = to
	}
}

// follow makes the replica equal to the leader's: it truncates what the leader does not have.
func (r *replica) follow(leader *replica) {
	same := 0
	for same < len(r.history) && same < len(leader.history) && r.history[same].id == leader.history[same].id {
		same++
	}
	r.history = slices.Clone(r.history[:same])
	if r.end() < leader.start || len(r.history) == 0 { // it begins anew where the leader begins
		*r = replica{gone: map[int]bool{}, start: leader.start}
		same = 0
	}
	end := r.end()
	r.epochs = slices.DeleteFunc(r.epochs, func(e epochStart) bool { return e.start >= end })
	for _, b := range leader.history[same:] {
		r.history = append(r.history, b)
		if leader.gone[b.id] {
			r.gone[b.id] = true
		}
		if b.end > r.start && !r.gone[b.id] {
			r.began(b.epoch, b.base)
		}
	}
	r.moveStart(leader.start)
}

// endOf returns Kafka's answer to OffsetForLeaderEpoch.
func (r *replica) endOf(epoch int32) EpochEnd {
	higher := slices.IndexFunc(r.epochs, func(e epochStart) bool { return e.epoch > epoch })
	switch {
	case len(r.epochs) > 0 && r.epochs[len(r.epochs)-1].epoch == epoch:
		return EpochEnd{Epoch: epoch, End: r.end()}
	case higher < 0:
		return UnknownEpoch
	case higher == 0:
		return EpochEnd{Epoch: epoch, End: r.epochs[0].start}
	}
	return EpochEnd{Epoch: r.epochs[higher-1].epoch, End: r.epochs[higher].start}
}

// at returns the leader epoch of the batch that is read at an offset, -1 = there is none.
func (r *replica) at(offset int64) int32 {
	for _, b := range r.history {
		if b.base <= offset && offset < b.end && offset >= r.start && !r.gone[b.id] {
			return b.epoch
		}
	}
	return -1
}

// TestTruncatedAgreesWithHistory compares what leader epochs say about a source with its real
// history. Three replicas follow each other, lead with or without all records, are compacted and
// copied anew, and their log start moves.
func TestTruncatedAgreesWithHistory(t *testing.T) {
	alarms, quiet := 0, 0
	for seed := range uint64(20_000) {
		rng := rand.New(rand.NewPCG(seed, 4))
		rs := []*replica{{gone: map[int]bool{}}, {gone: map[int]bool{}}, {gone: map[int]bool{}}}
		compacted := seed%2 == 1
		leader, epoch, ids := rs[0], int32(rng.IntN(2)), 0
		leader.began(epoch, 0)
		seen, seenID, position := UnknownEpoch, -1, int64(0)
		elect := func(r *replica) {
			leader = r
			epoch += 1 + int32(rng.IntN(2))
			leader.began(epoch, leader.end())
		}
		for range 30 {
			other := rs[rng.IntN(len(rs))]
			switch op := rng.IntN(12); {
			case op < 4: // written
				n := int64(1 + rng.IntN(3))
				leader.history = append(leader.history, written{ids, epoch, leader.end(), leader.end() + n})
				ids++
			case op < 6 && other != leader:
				other.follow(leader)
			case op == 6: // a clean election, perhaps of the same
				if other != leader {
					other.follow(leader)
				}
				elect(other)
			case op == 7: // an unclean one
				elect(other)
			case op == 8 && leader.end() > 0:
				leader.moveStart(rng.Int64N(leader.end() + 1))
			case op == 9 && compacted:
				for _, b := range leader.history[:max(0, len(leader.history)-1)] {
					if rng.IntN(2) == 0 {
						leader.gone[b.id] = true
					}
				}
			case op == 10 && compacted && other != leader: // a new disk
				*other = replica{gone: map[int]bool{}, start: leader.start}
				other.follow(leader)
			}
			if !seen.Known() || rng.IntN(3) == 0 {
				a := EpochAnswer{EpochEnd: leader.endOf(seen.Epoch), Leader: epoch, There: -1}
				if a.NeedsLook(seen) {
					a.There = leader.at(seen.End - 1)
				}
				got, has := seen.truncated(a), seenID < 0 || leader.has(seenID)
				// Deleted or compacted records look the same as lost ones.
				decidable := !compacted && seen.End > leader.start
				if got && has || !got && !has && decidable {
					t.Fatalf("seed %d: truncated %v, the leader of epoch %d has the batch: %v; seen %+v, answer %+v, log start %d, epochs %v",
						seed, got, epoch, has, seen, a, leader.start, leader.epochs)
				}
				if !has {
					if got {
						alarms++
					}
					break
				}
				quiet++
				for _, b := range leader.history { // read on
					if b.end > max(position, leader.start) && !leader.gone[b.id] && rng.IntN(4) > 0 {
						seen, seenID, position = EpochEnd{Epoch: b.epoch, End: b.end}, b.id, b.end
					} else if b.end > position && !leader.gone[b.id] && b.end > leader.start {
						break
					}
				}
			}
		}
	}
	if alarms < 1000 || quiet < 1000 {
		t.Errorf("%d truncations were noticed, %d times there was none: too few to tell", alarms, quiet)
	}
	t.Logf("%d truncations were noticed, %d times there was none", alarms, quiet)
}
