package offsets

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"klink/admin/store"
)

func TestOffsetRule(t *testing.T) {
	seen := func(source, wrote int64) Seen { return Seen{source, wrote} }
	for name, c := range map[string]struct {
		c    Case
		want int64 // -1 = nothing is written
	}{
		"new":                                  {Case{Source: 100, committed: -1, epoch: -1, End: 200, last: nothingSeen}, 100},
		"new, clamped":                         {Case{Source: 105, committed: -1, epoch: -1, End: 100, last: nothingSeen}, 100},
		"no end":                               {Case{Source: 100, committed: -1, epoch: -1, End: -1, last: nothingSeen}, -1},
		"none at the source":                   {Case{Source: -1, committed: 10, epoch: -1, End: 200, last: seen(10, 10)}, -1},
		"brought up":                           {Case{Source: 105, committed: 100, epoch: -1, End: 110, last: seen(105, 100)}, 105},
		"follows":                              {Case{Source: 120, committed: 100, epoch: -1, End: 200, last: seen(100, 100)}, 120},
		"follows back":                         {Case{Source: 50, committed: 100, epoch: -1, End: 200, last: seen(100, 100)}, 50},
		"the end seems to be lower":            {Case{Source: 100, committed: 100, epoch: -1, End: 90, last: seen(100, 100)}, -1},
		"back, and the end seems to be lower":  {Case{Source: 95, committed: 100, epoch: -1, End: 90, last: seen(100, 100)}, 90},
		"the same":                             {Case{Source: 100, committed: 100, epoch: -1, End: 200, last: seen(100, 100)}, -1},
		"other metadata":                       {Case{Source: 100, committed: 100, epoch: -1, End: 200, metadata: true, last: seen(100, 100)}, 100},
		"other metadata, of somebody":          {Case{Source: 100, committed: 100, epoch: -1, End: 200, metadata: true, last: seen(90, 90)}, -1},
		"unknown, behind":                      {Case{Source: 100, committed: 40, epoch: -1, End: 200, last: nothingSeen}, 100},
		"unknown, ahead":                       {Case{Source: 100, committed: 140, epoch: -1, End: 200, last: nothingSeen}, -1},
		"somebody's, ahead":                    {Case{Source: 120, committed: 140, epoch: -1, End: 200, last: seen(100, 100)}, -1},
		"somebody's, behind, without news":     {Case{Source: 100, committed: 40, epoch: -1, End: 200, last: seen(100, 100)}, -1},
		"somebody's, behind, with news":        {Case{Source: 120, committed: 40, epoch: -1, End: 200, last: seen(100, 100)}, 120},
		"somebody's by its epoch, source back": {Case{Source: 50, committed: 100, epoch: 0, End: 200, last: seen(100, 100)}, -1},
		"deleted at the destination":           {Case{Source: 100, committed: -1, epoch: -1, End: 200, last: seen(100, 100)}, 100},
	} {
		at, write := c.c.decide()
		require.Equal(t, c.want >= 0, write, name)
		if write {
			require.Equal(t, c.want, at, name)
		}
	}
}

// offsetTwin is a model of one offset that is committed at both clusters. It knows everything that
// happened to the offset, which klink cannot see.
type offsetTwin struct {
	source, end int64
	committed   int64
	epoch       int32
	// others: a client at the destination committed the current offset, and it differs from what
	// klink wrote last.
	others    bool
	klinkLast int64
	active    bool
	// moved: the source has committed since the last run that could deal with it.
	moved bool

	last   Seen
	stored store.OffsetsRecord
}

// sync does what Sync does with one offset, and checks what it may do.
func (w *offsetTwin) sync(t *rapid.T) (wrote bool) {
	c := Case{Source: w.source, committed: w.committed, epoch: w.epoch, End: w.end, last: w.last}
	at, write := c.decide()
	if !write {
		w.last = c.left()
		if w.source >= 0 && w.end >= 0 {
			w.moved = false
			if w.others || w.epoch >= 0 || w.committed != w.klinkLast {
				w.klinkLast = -1 // once overwritten, an offset is not klink's, even if it comes again
			}
		}
		return false
	}
	if w.active {
		return false
	}
	require.GreaterOrEqual(t, w.end, at, "not beyond the mirror's end")
	require.GreaterOrEqual(t, w.source, at, "not beyond the source")
	if w.committed >= 0 && w.others {
		require.Greater(t, at, w.committed, "never back past what somebody else has committed")
		require.True(t, w.moved, "who resets an offset at the destination is not overruled")
	}
	w.committed, w.epoch, w.others, w.klinkLast = at, -1, false, at
	w.last = Seen{w.source, at}
	w.moved = false
	return true
}

// TestOffsetRuleTwin: events at both clusters, and restarts of klink, happen to an offset in any
// order. The invariants of Case hold, klink does write what it may write, and then it rests.
func TestOffsetRuleTwin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &offsetTwin{source: -1, end: 4, committed: -1, epoch: -1, klinkLast: -1, moved: true, last: nothingSeen}
		offset := rapid.Int64Range(0, 4) // few values, so that they coincide
		for range 200 {
			// klink acts as often as all others together.
			if rapid.Bool().Draw(t, "klink syncs") {
				w.run(t)
				continue
			}
			switch rapid.SampledFrom([]string{
				"source", "source", "source", "destination", "destination", "grows", "comes", "goes", "goes", "unknown", "expires", "deleted", "stores", "restarts",
			}).Draw(t, "event") {
			case "source":
				if o := offset.Draw(t, "committed at the source"); o != w.source {
					w.source, w.moved = o, true
				}
			case "destination":
				o, epoch := offset.Draw(t, "committed at the destination"), rapid.Int32Range(-1, 0).Draw(t, "epoch")
				// An offset equal to what klink wrote last, without an epoch, is taken for klink's.
				// (See the limits of Case.)
				w.others = o != w.klinkLast || epoch >= 0
				w.committed, w.epoch = o, epoch
			case "grows":
				w.end = min(w.end+offset.Draw(t, "records"), 4)
			case "unknown":
				w.end = -1
			case "comes":
				w.active = true
			case "goes":
				w.active = false
			case "expires":
				w.committed, w.epoch, w.others = -1, -1, false
			case "deleted":
				w.source = -1
			case "stores":
				m := NewMemory(nil)
				m.Keep("g", map[Partition]Seen{{"t", 0}: w.last}, false)
				w.stored, _ = m.Record("l")
			case "restarts":
				w.restart()
			}
		}
	})
}

// Run is a run of the sync. After it, klink's own offsets must be as they should be, and a second
// run has nothing to do.
func (w *offsetTwin) run(t *rapid.T) {
	mine := !w.others && w.epoch < 0 && w.committed >= 0 && w.committed == w.klinkLast
	before := w.committed
	wrote := w.sync(t)
	if w.active || w.end < 0 || w.source < 0 {
		require.False(t, wrote)
		return
	}
	want := min(w.source, w.end)
	switch {
	case before < 0:
		require.Equal(t, want, w.committed, "the first")
	case mine && w.source < before, mine && want > before:
		require.Equal(t, want, w.committed, "what is klink's own follows")
	case w.others && want > before && !wrote:
		require.NotEqual(t, nothingSeen, w.last)
	}
	again := *w
	require.False(t, again.sync(t), "written once")
}

// restart makes klink lose what it did not store.
func (w *offsetTwin) restart() {
	at := Partition{"t", 0}
	seen, ok := NewMemory(&w.stored).seen("g", map[Partition]int64{at: w.source}, map[Partition]int64{at: w.committed})[at]
	if !ok {
		seen = nothingSeen
	}
	w.last = seen
	w.moved = w.moved || seen.Source < 0 // klink cannot know better
	if seen.Wrote >= 0 && w.epoch < 0 {
		w.others = false // it was klink's when it was stored
	}
	w.klinkLast = seen.Wrote
}

// TestOffsetMemory: after a restart klink recovers the memory of a group if nothing has changed,
// and has none if something has.
func TestOffsetMemory(t *testing.T) {
	offsets := func(o ...int64) map[Partition]int64 {
		m := map[Partition]int64{}
		for p, o := range o {
			m[Partition{"t", int32(p)}] = o
		}
		return m
	}
	m := NewMemory(nil)
	for i := range 1000 {
		m.Keep(fmt.Sprint("group ", i), map[Partition]Seen{{"t", 0}: {int64(i), int64(i)}, {"t", 1}: {7, 5}}, false)
	}
	m.Keep("foreign", map[Partition]Seen{{"t", 0}: {3, -1}}, false)
	m.Keep("unknown", map[Partition]Seen{{"t", 0}: nothingSeen}, false)
	stored, changed := m.Record("id")
	require.True(t, changed)
	require.Len(t, stored.Groups, 1001*24, "of unknown nothing is")
	value, err := json.Marshal(stored)
	require.NoError(t, err)
	read := &store.OffsetsRecord{}
	require.NoError(t, json.Unmarshal(value, read))

	again := NewMemory(read)
	_, changed = again.Record("id")
	require.False(t, changed)
	for name, c := range map[string]struct {
		group             string
		Source, committed map[Partition]int64
		want              [2]Seen
	}{
		"the same":                      {"group 5", offsets(5, 7), offsets(5, 5), [2]Seen{{5, 5}, {7, 5}}},
		"one moved at the source":       {"group 5", offsets(6, 7), offsets(5, 5), [2]Seen{{-1, 5}, {-1, 5}}},
		"one moved at the destination":  {"group 5", offsets(5, 7), offsets(5, 6), [2]Seen{{5, -1}, {7, -1}}},
		"swapped":                       {"group 5", offsets(7, 5), offsets(5, 5), [2]Seen{{-1, 5}, {-1, 5}}},
		"another group":                 {"group 6", offsets(5, 7), offsets(5, 5), [2]Seen{nothingSeen, {-1, -1}}},
		"deleted at the destination":    {"group 5", offsets(5, 7), offsets(-1, -1), [2]Seen{{5, -1}, {7, -1}}},
		"one that was somebody's":       {"foreign", offsets(3), offsets(9), [2]Seen{{3, -1}}},
		"one that klink does not know":  {"never seen", offsets(3), offsets(3), [2]Seen{}},
		"one that it has never written": {"unknown", offsets(3), offsets(3), [2]Seen{}},
	} {
		seen := again.seen(c.group, c.Source, c.committed)
		for p, want := range c.want {
			if got, ok := seen[Partition{"t", int32(p)}]; ok {
				require.Equal(t, want, got, "%s, partition %d", name, p)
			} else {
				require.Zero(t, want, name)
			}
		}
	}

	// For a group that klink has looked at, the current offsets are stored. A group that is not
	// synced any more is forgotten.
	again.Keep("group 5", map[Partition]Seen{{"t", 0}: {6, 6}}, false)
	again.Retain([]string{"group 5", "group 6"})
	kept, changed := again.Record("id")
	require.True(t, changed)
	require.Len(t, kept.Groups, 2*24)
	require.Equal(t, Seen{6, 6}, NewMemory(&kept).seen("group 5", offsets(6), offsets(6))[Partition{"t", 0}])
}
