package mirror

import (
	"slices"
	"time"
)

// workload is what is mirrored.
type workload struct {
	name       string
	why        string // a few words for the table
	partitions int
	recordSize int // of the value, bytes
	json       bool
	lz4        bool
	perBatch   int // records in a batch
	megabytes  int // of values at the source, before compression
	// transactions are made with one producer, of a thousand records each, every tenth of which is aborted.
	transactions bool
	// compacted: keyed records, and each key is written this many times on average; 0 = not compacted.
	compacted int
	// far: the source is this far away, there and back.
	far time.Duration
	// rate is that of the steady phase in records a second, all partitions together; 0 = no such phase.
	rate int
	// floors says that the floors run too, which cost time.
	floors bool
	// rawLanes is how many connections the raw loop is fastest with.
	rawLanes int
	// major workloads have all their rounds before any other has one.
	major bool
	quick bool // part of the quick mode
}

// The workloads, those that matter most first: when time runs out, later ones get fewer rounds, or none.
var workloads = []workload{
	{name: "large", why: "1,000 B random records, 127 KB batches, 12 partitions", partitions: 12, recordSize: 1000, perBatch: 127, megabytes: 1200, rate: 15_000, floors: true, rawLanes: 3, major: true, quick: true},
	{name: "small", why: "100 B records, 10 in a batch, 12 partitions", partitions: 12, recordSize: 100, perBatch: 10, megabytes: 200, rate: 20_000, floors: true, rawLanes: 1, major: true, quick: true},
	{name: "far", why: "the source 100 ms away (there and back), 1 partition, 127 KB batches", partitions: 1, recordSize: 1000, perBatch: 127, megabytes: 250, far: 100 * time.Millisecond, rate: 5000, major: true},
	{name: "lz4", why: "JSON of 1 KB in lz4, 100 in a batch, 12 partitions", partitions: 12, recordSize: 1000, json: true, lz4: true, perBatch: 100, megabytes: 1000},
	{name: "one", why: "one partition, 127 KB batches", partitions: 1, recordSize: 1000, perBatch: 127, megabytes: 600, rate: 10_000, floors: true, rawLanes: 1},
	{name: "transactions", why: "transactions of 1,000 records by 4 producers, 10 % aborted, 12 partitions", partitions: 12, recordSize: 1000, perBatch: 100, megabytes: 200, transactions: true},
	{name: "compacted", why: "compacted, every batch has gaps, 12 partitions", partitions: 12, recordSize: 1000, perBatch: 100, megabytes: 900, compacted: 3},
	{name: "12", why: "12 partitions, 16 KB batches", partitions: 12, recordSize: 1000, perBatch: 16, megabytes: 500, floors: true, rawLanes: 3},
	{name: "200", why: "200 partitions, 16 KB batches", partitions: 200, recordSize: 1000, perBatch: 16, megabytes: 1000, floors: true, rawLanes: 3},
	{name: "2000", why: "2,000 partitions, 16 KB batches", partitions: 2000, recordSize: 1000, perBatch: 16, megabytes: 1000},
}

// Workloads are the names, in the order in which they run.
func Workloads() (names []string) {
	for _, w := range workloads {
		names = append(names, w.name)
	}
	return names
}

func workloadNamed(name string) (workload, bool) {
	i := slices.IndexFunc(workloads, func(w workload) bool { return w.name == name })
	if i < 0 {
		return workload{}, false
	}
	return workloads[i], true
}

// perPartition is how many records each partition gets: full batches, at least one.
func (w *workload) perPartition(scale float64) int {
	records := float64(w.megabytes) * 1e6 * scale / float64(w.recordSize) / float64(w.partitions)
	return max(1, int(records)/w.perBatch) * w.perBatch
}

// sourceBytes is about what the source takes on disk.
func (w *workload) sourceBytes(scale float64) int64 {
	n := int64(w.perPartition(scale)*w.partitions) * int64(w.recordSize+w.recordSize/10+10)
	if w.lz4 {
		n /= 2
	}
	// 2,000 partitions have files of their own, which are small.
	return n + int64(w.partitions)*64<<10
}

// partitionFetch is how much MirrorMaker 2 and the copy loop may fetch of a partition at once, as somebody would set it who knows
// how far the source is.
func (w *workload) partitionFetch() int {
	if w.far > 0 {
		return 16 << 20
	}
	return 4 << 20
}

// topic is what the workload is called at the clusters, and steadyTopic that of its steady phase in a run.
func (w *workload) topic() string { return "bench-" + w.name }

// configs are those of the topic at the source.
func (w *workload) configs() map[string]string {
	c := map[string]string{"retention.ms": "-1"}
	if w.compacted > 0 {
		c["cleanup.policy"] = "compact"
		c["segment.bytes"] = "2097152" // the last segment is never compacted
		c["min.cleanable.dirty.ratio"] = "0.01"
	}
	return c
}
