package mirror

import (
	"slices"
	"time"
)

// workload describes the records to mirror.
type workload struct {
	name       string
	why        string // a few words for the table
	partitions int
	recordSize int // bytes of the value
	json       bool
	lz4        bool
	perBatch   int // records in a batch
	megabytes  int // 10^6 bytes of values at the source, before compression
	// transactions: the records are written in transactions of a thousand records each. A
	// transaction has one producer. Every tenth transaction is aborted.
	transactions bool
	// compacted: records have keys, and each key is written this many times on average; 0 = not
	// compacted.
	compacted int
	// far is the round-trip time to the source.
	far time.Duration
	// rate is the rate of the steady phase in records a second, over all partitions; 0 = no such
	// phase.
	rate int
	// steady is how long the steady phase counts; 0 = the default of all workloads. --steady
	// overrides it for all.
	steady time.Duration
	// singles: in the steady phase each record is a batch of its own, from a producer without
	// linger.
	singles bool
	// steadyOnly: the catch-up only prepares the steady phase, and does not count.
	steadyOnly bool
	// to is the destination; nil = one broker.
	to *destination
	// most bounds how long a catch-up runs. A slower subject counts by what it has copied in that
	// time. 0 = to the end. Only for offsets without holes.
	most time.Duration
	// unjoined: klink also runs without joining batches.
	unjoined bool
	// floors: the floors run too, which costs time.
	floors bool
	// rawLanes is the number of connections with which the raw loop is fastest.
	rawLanes int
	// major: this workload gets all its rounds before any workload that is not major.
	major bool
	quick bool // part of the quick mode
}

// The workloads, the most important ones first. When time runs out, later ones get fewer rounds, or
// none.
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

	// The broker answers an append when the followers have it, so batches one at a time are slow.
	// So these workloads are small, and run for a few seconds each.
	{name: "rf3-single-1", why: "three brokers, 200 B records, each a batch, 1 partition", to: threeBrokers, partitions: 1, recordSize: 200, perBatch: 1, megabytes: 20, most: rf3Most, floors: true, rawLanes: 1, unjoined: true, major: true},
	{name: "rf3-16k", why: "three brokers, 16 KiB batches of 1 KB records, 1 partition", to: threeBrokers, partitions: 1, recordSize: 1000, perBatch: 16, megabytes: 120, most: rf3Most, floors: true, rawLanes: 1, unjoined: true, major: true},
	{name: "rf3-lag", why: "three brokers, 200 B records, each a batch, into 1 partition", to: threeBrokers, partitions: 1, recordSize: 200, perBatch: 1, megabytes: 1, rate: 2000, steady: 6 * time.Second, singles: true, steadyOnly: true, major: true},
	{name: "rf3-single-6", why: "three brokers, 200 B records, each a batch, 6 partitions", to: threeBrokers, partitions: 6, recordSize: 200, perBatch: 1, megabytes: 30, most: rf3Most, floors: true, rawLanes: 1, unjoined: true},
	{name: "rf3-large", why: "three brokers, 1,000 B records, 127 KB batches, 12 partitions", to: threeBrokers, partitions: 12, recordSize: 1000, perBatch: 127, megabytes: 200, floors: true, rawLanes: 1},
	{name: "rf3-compacted", why: "three brokers, compacted, every batch has gaps, 12 partitions", to: threeBrokers, partitions: 12, recordSize: 1000, perBatch: 100, megabytes: 75, compacted: 3},
	{name: "rf3-transactions", why: "three brokers, transactions of 1,000 records by 4 producers, 10 % aborted, 12 partitions", to: threeBrokers, partitions: 12, recordSize: 1000, perBatch: 100, megabytes: 40, transactions: true},
	{name: "rf3-200", why: "three brokers, 200 partitions, 16 KB batches", to: threeBrokers, partitions: 200, recordSize: 1000, perBatch: 16, megabytes: 100, floors: true, rawLanes: 1},
	{name: "far-destination", why: "three brokers 2 ms away, and 1 ms from each other (there and back), 1 partition, 16 KiB batches", to: farBrokers, partitions: 1, recordSize: 1000, perBatch: 16, megabytes: 60, most: rf3Most, rate: 2000, singles: true, floors: true, rawLanes: 1, unjoined: true},
}

// rf3Most bounds how long a catch-up of small batches runs with three brokers.
const rf3Most = 3 * time.Second

// destination is a kind of cluster to mirror to.
type destination struct {
	name    string
	brokers int // also the replication factor
	// away is the round-trip time between the subjects and the brokers, and apart that between the
	// brokers.
	away, apart time.Duration
	// share is the smallest part of the budget that its workloads get.
	share float64
}

var (
	threeBrokers = &destination{name: "three brokers, replication factor 3, min.insync.replicas 2", brokers: 3, share: 0.42}
	farBrokers   = &destination{name: "three brokers that are far away", brokers: 3, away: 2 * time.Millisecond, apart: time.Millisecond, share: 0.1}
	oneBroker    = &destination{name: "one broker", brokers: 1, share: 0.48}
)

// destinations in the order in which they are measured.
var destinations = []*destination{threeBrokers, farBrokers, oneBroker}

// destination returns the destination of a workload.
func (w *workload) destination() *destination {
	if w.to == nil {
		return oneBroker
	}
	return w.to
}

// Workloads returns the names of the workloads, grouped by destination.
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

// perPartition returns the number of records of each partition: full batches, at least one.
func (w *workload) perPartition(scale float64) int {
	records := float64(w.megabytes) * 1e6 * scale / float64(w.recordSize) / float64(w.partitions)
	return max(1, int(records)/w.perBatch) * w.perBatch
}

// sourceBytes returns approximately how many bytes the source takes on disk.
func (w *workload) sourceBytes(scale float64) int64 {
	n := int64(w.perPartition(scale)*w.partitions) * int64(w.recordSize+w.recordSize/10+10)
	if w.lz4 {
		n /= 2
	}
	// With 2,000 partitions the small files of each partition matter.
	return n + int64(w.partitions)*64<<10
}

// partitionFetch is how many bytes of a partition MirrorMaker 2 and the copy loop may fetch at
// once. It is what an expert would set for the distance of the source.
func (w *workload) partitionFetch() int {
	if w.far > 0 {
		return 16 << 20
	}
	return 4 << 20
}

// topic returns the workload's topic at both clusters, and steadyTopic that of its steady phase in
// a run.
func (w *workload) topic() string { return "bench-" + w.name }

// configs returns the configs of the topic at the source.
func (w *workload) configs() map[string]string {
	c := map[string]string{"retention.ms": "-1"}
	if w.compacted > 0 {
		c["cleanup.policy"] = "compact"
		c["segment.bytes"] = "2097152" // the last segment is never compacted
		c["min.cleanable.dirty.ratio"] = "0.01"
	}
	return c
}
