package replicator

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// LinkCounters counts what was copied over one link since the start of the process. They only grow.
type LinkCounters struct {
	Fetches         atomic.Int64 // fetch responses without an error
	FetchedBytes    atomic.Int64 // record bytes received
	FetchedBatches  atomic.Int64 // batches queued
	FollowerBytes   atomic.Int64 // those of FetchedBytes that were taken from followers; see nearest.go
	AppendedBytes   atomic.Int64 // confirmed by the destination
	AppendedBatches atomic.Int64
	AppendedRecords atomic.Int64
	JoinedBatches   atomic.Int64 // source batches that were appended as part of another: join.go
	JoinedBytes     atomic.Int64 // their bytes
	JoinedInto      atomic.Int64 // batches that they were joined into
	JoinedIntoBytes atomic.Int64
	Windows         atomic.Int64 // windows of several appends, confirmed at once; see window.go
	WindowBatches   atomic.Int64 // batches in windows
	LostRecords     atomic.Int64 // offsets that the source deleted before they were mirrored
	VoidOffsets     atomic.Int64 // physical offsets of void batches: doubled, late or foreign
	ForeignOffsets  atomic.Int64 // those of them in batches that somebody else wrote
	Settled         atomic.Int64 // appends with an unknown result, after which the log was read
}

type metrics struct {
	produces atomic.Int64

	mu    sync.Mutex
	links map[string]*LinkCounters
}

func (m *metrics) link(name string) *LinkCounters {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.links[name]
	if c == nil {
		if m.links == nil {
			m.links = map[string]*LinkCounters{}
		}
		c = &LinkCounters{}
		m.links[name] = c
	}
	return c
}

// PartitionLag says how far one partition is behind its source.
type PartitionLag struct {
	Link, Topic string
	Partition   int32
	State       string // resuming, running, anchoring, stopped or failed
	// Offsets is the source's high watermark minus the mirror's end, -1 = unknown.
	Offsets int64
	// Seconds since the mirror last had everything its source had, 0 without lag.
	Seconds float64
}

// Stats is a snapshot for telemetry.
type Stats struct {
	Links      map[string]*LinkCounters // live counters by link
	Partitions []PartitionLag           // by topic and partition
	Produces   int64                    // produce requests answered
	Slots      int                      // that this instance works on, of 24
	Sessions   int                      // fetch sessions (KIP-227), at most one per source broker
	// BufferedBytes is how much of BudgetBytes is in use now, PeakBufferedBytes the most since the
	// start.
	BufferedBytes, PeakBufferedBytes, BudgetBytes int64
}

// Stats returns a snapshot. It is safe for concurrent use.
func (r *Replicator) Stats() Stats {
	s := Stats{Produces: r.metrics.produces.Load(), Sessions: int(r.sessions.Load()), BudgetBytes: r.budget.Total}
	s.BufferedBytes, s.PeakBufferedBytes = r.budget.Usage()
	working, _ := r.owner.holding()
	s.Slots = working.Len()
	r.metrics.mu.Lock()
	s.Links = maps.Clone(r.metrics.links)
	r.metrics.mu.Unlock()
	now := time.Now()
	for _, m := range r.mirrorsNow() {
		for _, w := range m.all() {
			s.Partitions = append(s.Partitions, w.lag(now))
		}
	}
	slices.SortFunc(s.Partitions, func(a, b PartitionLag) int {
		if c := strings.Compare(a.Topic, b.Topic); c != 0 {
			return c
		}
		return int(a.Partition - b.Partition)
	})
	return s
}

func (w *worker) lag(now time.Time) PartitionLag {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.heard()
	l := PartitionLag{Link: w.m.link, Topic: w.m.topic, Partition: w.id, State: w.core.State.String(), Offsets: -1}
	if end := w.shownEnd(); end >= 0 && w.core.SourceEnd >= 0 {
		l.Offsets = max(0, w.core.SourceEnd-end)
		if l.Offsets > 0 {
			l.Seconds = now.Sub(w.caughtUp).Seconds()
		}
	}
	return l
}
