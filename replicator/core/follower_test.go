package core

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"klink/internal/batchtest"

	"klink/protocol/batch"
	"klink/replicator/memory"
)

// batchOf returns a batch of n records, written in a leader epoch.
func batchOf(base int64, n, epoch int32) []byte {
	b := batchtest.HeaderOnly(base, n, 0, 10)
	binary.BigEndian.PutUint32(b[12:], uint32(epoch))
	return b
}

// followed returns a partition that has the source up to offset 5, and whose leader has answered
// one fetch under epoch 3: its log goes from 1 to 100, stable up to 90.
func followed(t *testing.T) *Partition {
	t.Helper()
	core := NewPartition("t-0", func(Item) {})
	core.Resumed(LogEnd{End: 5, Next: 5, Tail: 5, Stored: 5, Epoch: 1, Last: UnknownEpoch})
	core.Fetched(core.BeginFetch(), Fetched{HighWater: 100, Stable: 90, LogStart: 1, Epoch: 3, Tools: fetchTools()})
	if !core.MayFollow(3) {
		t.Fatal("a follower may not be fetched from after the leader has answered")
	}
	return &core
}

func fetchTools() *FetchTools {
	return &FetchTools{Keep: func([]byte, bool) *memory.Frame { return nil }}
}

// answer is what a follower answers under leader epoch 3.
func answer(records ...[]byte) Fetched {
	return Fetched{Records: slices.Concat(records...), HighWater: 50, Stable: 40, LogStart: 30, Epoch: 3, Tools: fetchTools()}
}

// TestOffsetsAreTheLeaders: a follower moves no end offset back, and no log start. The leader does.
func TestOffsetsAreTheLeaders(t *testing.T) {
	p := followed(t)
	if _, ask, err := p.FetchedFromFollower(p.BeginFetch(), answer(batchOf(5, 2, 3))); ask != nil || err != nil {
		t.Fatal(ask, err)
	}
	if p.FetchAt != 7 || p.SourceEnd != 100 || p.SourceStable != 90 || p.SourceStart != 1 {
		t.Errorf("fetch at %d, the source goes from %d to %d, stable up to %d", p.FetchAt, p.SourceStart, p.SourceEnd, p.SourceStable)
	}
	ahead := answer()
	ahead.HighWater, ahead.Stable = 110, 105
	p.FetchedFromFollower(p.BeginFetch(), ahead)
	if p.SourceEnd != 110 || p.SourceStable != 105 {
		t.Errorf("the source ends at %d, stable up to %d", p.SourceEnd, p.SourceStable)
	}
	p.LeaderSaid(3, 104, 103, 2)
	if p.SourceEnd != 104 || p.SourceStable != 103 || p.SourceStart != 2 {
		t.Errorf("the source goes from %d to %d, stable up to %d", p.SourceStart, p.SourceEnd, p.SourceStable)
	}
	p.LeaderSaid(2, 200, 200, 3) // under an epoch that is over
	p.LeaderSaid(3, 6, 6, -1)    // before it had what was fetched since
	if p.SourceEnd != 7 || p.SourceStart != 2 {
		t.Errorf("the source goes from %d to %d", p.SourceStart, p.SourceEnd)
	}
}

// TestFollowersBatchesNeedTheLeader: batches of former leader epochs are queued after the leader
// has said, under the epoch of the fetch, that it has them.
func TestFollowersBatchesNeedTheLeader(t *testing.T) {
	p := followed(t)
	records := answer(batchOf(5, 5, 1), batchOf(10, 5, 1), batchOf(15, 5, 2), batchOf(20, 5, 3))
	fetch := func(want ...EpochEnd) {
		t.Helper()
		f := records
		f.Records = slices.Clone(f.Records) // batches are stamped in place
		gen := p.BeginFetch()
		_, ask, err := p.FetchedFromFollower(gen, f)
		if err != nil || !slices.Equal(ask, want) {
			t.Fatalf("ask %v, %v; want %v", ask, err, want)
		}
		if (len(want) == 0) != (len(p.Queue) == 4) || p.Fetching != (len(want) > 0) {
			t.Fatalf("%d batches are queued, fetching %v", len(p.Queue), p.Fetching)
		}
	}
	both := []EpochEnd{{1, 15}, {2, 20}}
	fetch(both...)
	p.Proven(p.Gen, 2, both) // under another leader
	fetch(both...)
	p.Proven(p.Gen, 3, []EpochEnd{{1, 14}, {2, 20}})
	fetch(both...)
	p.Proven(p.Gen, 3, []EpochEnd{{1, 15}, {2, 19}})
	fetch(both...)
	p.Proven(p.Gen, 3, []EpochEnd{{1, 15}, {2, 20}})
	fetch()
	for _, c := range []struct {
		has, want EpochEnd
		covers    bool
	}{{EpochEnd{1, 10}, EpochEnd{1, 10}, true}, {EpochEnd{1, 9}, EpochEnd{1, 10}, false}, {EpochEnd{0, 10}, EpochEnd{1, 10}, false}, {EpochEnd{2, 20}, EpochEnd{1, 10}, false}, {UnknownEpoch, EpochEnd{1, 10}, false}} {
		if c.has.Covers(c.want) != c.covers {
			t.Errorf("%v covers %v: want %v", c.has, c.want, c.covers)
		}
	}
}

// TestProofsCostNoMemory: to judge batches that the leader has spoken for allocates nothing.
func TestProofsCostNoMemory(t *testing.T) {
	p := followed(t)
	f := answer(batchOf(5, 5, 1), batchOf(10, 5, 2), batchOf(15, 5, 3))
	p.proofs = proofs{3, []EpochEnd{{1, 10}, {2, 15}}}
	if n := testing.AllocsPerRun(100, func() {
		if ask, err := p.unproven(f); ask != nil || err != nil {
			t.Fatal(ask, err)
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestLeaderBeforeFollowers: where the leader decides, a follower's answer is not taken, whatever
// it is, and never fails the partition.
func TestLeaderBeforeFollowers(t *testing.T) {
	damaged := batchOf(7, 5, 3)
	damaged[16] = 1 // the magic
	many := answer()
	for e := range int32(maxProofs + 1) {
		many.Records, many.Epoch = append(many.Records, batchOf(5+int64(e), 1, e)...), 3000
	}
	for name, c := range map[string]struct {
		change func(*Partition)
		f      Fetched
		err    error // nil = any
		queued int
	}{
		"before the first batch":     {func(p *Partition) { p.Virgin = true }, answer(batchOf(5, 5, 3)), errLeaderFirst, 0},
		"behind lost records":        {func(p *Partition) { p.overtaken = true }, answer(batchOf(5, 5, 3)), errLeaderFirst, 0},
		"under another epoch":        {func(p *Partition) { p.checked = 2 }, answer(batchOf(5, 5, 3)), errLeaderFirst, 0},
		"without epochs":             {func(p *Partition) { p.checked = -1 }, Fetched{Epoch: -1, Records: batchOf(5, 5, -1)}, errLeaderFirst, 0},
		"a batch without an epoch":   {nil, answer(batchOf(5, 5, -1)), errNoEpoch, 0},
		"a batch of a later epoch":   {nil, answer(batchOf(5, 5, 4)), errNoEpoch, 0},
		"epochs that fall":           {nil, answer(batchOf(5, 1, 2), batchOf(6, 1, 1)), errNoEpoch, 0},
		"too many epochs":            {func(p *Partition) { p.checked = 3000 }, many, errManyEpochs, 0},
		"an old message format":      {nil, answer(damaged), batch.ErrOldFormat, 0},
		"a batch across the end":     {nil, answer(batchOf(5, 2, 3), batchOf(3, 9, 3)), nil, 1},
		"an unknown kind of a batch": {nil, answer(batchOf(5, 2, 3), unknownCodec()), nil, 1},
	} {
		t.Run(name, func(t *testing.T) {
			p := followed(t)
			if c.change != nil {
				c.change(p)
			}
			_, ask, err := p.FetchedFromFollower(p.BeginFetch(), c.f)
			if err == nil || ask != nil || c.err != nil && !errors.Is(err, c.err) {
				t.Errorf("ask %v, %v; want %v", ask, err, c.err)
			}
			if len(p.Queue) != c.queued || p.Fetching || p.Doomed != nil || p.Ended() || p.corruptions > 0 {
				t.Errorf("%d batches are queued, want %d; fetching %v, doomed %v", len(p.Queue), c.queued, p.Fetching, p.Doomed)
			}
		})
	}
}

// unknownCodec is a batch that klink cannot take apart.
func unknownCodec() []byte {
	b := batchtest.HeaderOnly(7, 5, 7, 10)
	binary.BigEndian.PutUint32(b[12:], 3)
	return b
}

// TestFollowersNeverChangeTheLog plays leaders, epochs and unclean elections at random: what is
// queued of a follower's answers is what the leader has, whatever the follower has not truncated.
func TestFollowersNeverChangeTheLog(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	type entry struct{ epoch, id int32 } // one batch of one record; ids are unique
	asks, queued, kept := 0, 0, 0
	for range 3000 {
		var leader, follower []entry
		id, epoch := int32(0), int32(0)
		write := func(log []entry, n int) []entry {
			for range n {
				id++
				log = append(log, entry{epoch, id})
			}
			return log
		}
		for ; epoch < 5; epoch++ {
			leader = write(leader, random.IntN(4))
			switch random.IntN(4) {
			case 0: // an unclean election: the leader loses records that the follower keeps
				follower = slices.Clone(leader)
				leader = leader[:random.IntN(len(leader)+1)]
			case 1: // the follower truncates its log, and catches up
				follower = slices.Clone(leader)
			}
		}
		end := func(log []entry, of int32) EpochEnd { // as OffsetForLeaderEpoch
			e := EpochEnd{-1, 0}
			for at, b := range log {
				if b.epoch <= of {
					e = EpochEnd{b.epoch, int64(at) + 1}
				}
			}
			return e
		}
		core := NewPartition("t-0", func(Item) {})
		p := &core
		from := min(len(leader), 1+random.IntN(3))
		p.Resumed(LogEnd{End: int64(from), Next: int64(from), Tail: int64(from), Stored: int64(from), Epoch: 1, Last: UnknownEpoch})
		p.Fetched(p.BeginFetch(), Fetched{HighWater: int64(from), Stable: -1, LogStart: 0, Epoch: epoch, Tools: fetchTools()})
		if p.Virgin || len(leader) == 0 {
			continue
		}
		for range 3 {
			f := Fetched{HighWater: int64(len(follower)), Stable: -1, Epoch: epoch, Tools: fetchTools()}
			for at := int(p.FetchAt); at < len(follower); at++ {
				f.Records = append(f.Records, batchOf(int64(at), 1, follower[at].epoch)...)
			}
			gen := p.BeginFetch()
			_, ask, err := p.FetchedFromFollower(gen, f)
			if err != nil {
				break
			}
			if asks += len(ask); len(ask) == 0 {
				break
			}
			var ends []EpochEnd
			for _, want := range ask {
				if has := end(leader, want.Epoch); has.Covers(want) {
					ends = append(ends, has)
				}
			}
			if len(ends) < len(ask) {
				p.FetchFailed(gen)
				kept++
				break
			}
			p.Proven(gen, epoch, ends)
		}
		for _, i := range p.Queue {
			queued++
			if at := int(i.Base); at >= len(leader) || leader[at] != follower[at] {
				t.Fatalf("offset %d of the follower is queued\nleader   %v\nfollower %v", at, leader, follower)
			}
		}
	}
	if asks == 0 || queued == 0 || kept == 0 {
		t.Errorf("%d questions, %d batches queued, %d answers refused", asks, queued, kept)
	}
	t.Logf("%d questions, %d batches queued, %d answers refused", asks, queued, kept)
}
