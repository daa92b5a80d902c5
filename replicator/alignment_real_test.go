package replicator

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"
	"time"

	"klink/internal/kafkatest"
	"klink/internal/retry"
	"klink/protocol/batch"
	"klink/replicator/core"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// alignable is a partition at a destination, to be aligned.
type alignable struct {
	r   *Replicator
	t   *testing.T
	cl  *kgo.Client // of the test; may do everything
	log *mirrorLog
}

// newAlignable creates a topic of one partition with cl. It opens the topic's log as the principal
// of opts.
func newAlignable(t *testing.T, cl *kgo.Client, topic string, configs map[string]string, opts ...kgo.Opt) *alignable {
	t.Helper()
	all := map[string]string{"retention.ms": "-1"} // the records are old
	maps.Copy(all, configs)
	kafkatest.CreateTopic(t, cl, topic, 1, -1, all)
	r, err := New(Config{Control: newFakeControl()})
	if err != nil {
		t.Fatal(err)
	}
	d, err := newDestination(r, opts, 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.close)
	details, err := kadm.NewClient(cl).ListTopics(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	r.grace = 200 * time.Millisecond
	return &alignable{
		r: r, t: t, cl: cl,
		log: newMirrorLog(d, d.clients[0], topic, details[topic].ID, 0),
	}
}

func realAlignable(t *testing.T, topic string) *alignable {
	t.Helper()
	dst := kafkatest.Shared(t, "destination")
	cl := dst.Client(t, kgo.ManualFlushing(), kgo.MetadataMinAge(20*time.Millisecond))
	return newAlignable(t, cl, topic, nil, kgo.SeedBrokers(dst.Bootstrap()))
}

// burnTo burns the offsets below to.
func (a *alignable) burnTo(to int64) error {
	ctx, cancel := context.WithTimeout(a.t.Context(), time.Minute)
	defer cancel()
	return a.r.newBurn(a.log, to, 100_000_000).run(ctx, false)
}

// fill fills a hole that begins at the end of the log, as a stream does it. A refusal is returned
// as the error that the stream would make of it.
func (a *alignable) fill(at, count int64) error {
	ctx, cancel := context.WithTimeout(a.t.Context(), time.Minute)
	defer cancel()
	leader, _, err := a.log.leader(ctx)
	if err != nil {
		return err
	}
	for count > 0 {
		run := markerRun{topic: a.log.topic, partition: a.log.partition, logical: at, count: min(count, core.MaxRequestMarkers)}
		if err := writeMarkers(ctx, leader, []markerRun{run})[0]; err != nil {
			if no := refusedMarkers(err, run.name()); no != nil {
				return no
			}
			return err
		}
		at, count = at+run.count, count-run.count
	}
	return nil
}

// wantEnds checks where the log begins and ends.
func (a *alignable) wantEnds(start, end int64) {
	a.t.Helper()
	gotStart, gotEnd, err := a.log.ends(a.t.Context())
	if err != nil {
		a.t.Fatal(err)
	}
	if gotStart != start || gotEnd != end {
		a.t.Fatalf("the log of %s has offsets [%d, %d), want [%d, %d)", a.log.name(), gotStart, gotEnd, start, end)
	}
}

// data appends n records of a source, stamped as klink does it, from a logical offset on, with
// timestamps ts, ts+1, ...
func (a *alignable) data(logical int64, n int, ts int64) (base int64) {
	a.t.Helper()
	b := stampedBatch(a.t, logical, n, ts)
	base, err := a.log.append(a.t.Context(), b)
	if err != nil {
		a.t.Fatal(err)
	}
	return base
}

// stampedBatch is a batch of records k<offset> with no codec.
func stampedBatch(t *testing.T, logical int64, n int, ts int64) []byte {
	t.Helper()
	var records []byte
	for i := range n {
		value := fmt.Sprintf("v%d", logical+int64(i))
		r := kmsg.Record{
			TimestampDelta64: int64(i), OffsetDelta: int32(i),
			Key: fmt.Appendf(nil, "k%d", logical+int64(i)), Value: []byte(value),
		}
		body := r.AppendTo(nil) // with a length of 0, which takes one byte
		r.Length = int32(len(body) - 1)
		records = r.AppendTo(records)
	}
	rb := kmsg.RecordBatch{
		PartitionLeaderEpoch: -1, Magic: 2, LastOffsetDelta: int32(n - 1), FirstTimestamp: ts, MaxTimestamp: ts + int64(n-1),
		ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1, NumRecords: int32(n), Records: records,
	}
	rb.Length = int32(len(records) + batch.HeaderSize - 12)
	b := rb.AppendTo(nil)
	setCRC(b)
	if err := batch.Stamp(b, logical, 0); err != nil {
		t.Fatal(err)
	}
	return b
}

// read reads the partition directly with franz-go, from its log start, until its last record.
func (a *alignable) read(isolation kgo.IsolationLevel, seeds ...kgo.Opt) []*kgo.Record {
	a.t.Helper()
	return kafkatest.ReadAll(a.t, a.log.topic, append(seeds, kgo.FetchIsolationLevel(isolation))...)
}

// wantOffsets checks that records were read at exactly these offsets, each with the key of its
// offset.
func (a *alignable) wantOffsets(got []*kgo.Record, want []int64) {
	a.t.Helper()
	if len(got) != len(want) {
		a.t.Fatalf("%s: %d records were read, want %d", a.log.name(), len(got), len(want))
	}
	for i, r := range got {
		if r.Offset != want[i] || string(r.Key) != fmt.Sprintf("k%d", want[i]) {
			a.t.Fatalf("%s: record %d is %s at offset %d, want k%d at %d", a.log.name(), i, r.Key, r.Offset, want[i], want[i])
		}
	}
}

// offsetAfter is ListOffsets by timestamp.
func (a *alignable) offsetAfter(ts int64) kadm.ListedOffset {
	a.t.Helper()
	offsets, err := kadm.NewClient(a.cl).ListOffsetsAfterMilli(a.t.Context(), ts, a.log.topic)
	if err != nil {
		a.t.Fatal(err)
	}
	o, ok := offsets.Lookup(a.log.topic, 0)
	if !ok || o.Err != nil {
		a.t.Fatalf("offset of %s after %d: %v", a.log.name(), ts, o.Err)
	}
	return o
}

// TestRealKafkaBurn: a mirror of a source whose log starts at 3,000,001 has the source's offsets at
// the broker itself.
func TestRealKafkaBurn(t *testing.T) {
	const start, year2020 = 3_000_001, 1_577_836_800_000
	a := realAlignable(t, "burned")
	var moves []int64
	b := a.r.newBurn(a.log, start, 100_000_000)
	b.moved = func(end int64) { moves = append(moves, end) }
	if err := b.run(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	a.wantEnds(start, start)
	if fmt.Sprint(moves) != "[1000000 2000000 3000000 3000001]" {
		t.Errorf("the log end moved to %v", moves)
	}
	if err := a.r.newBurn(a.log, start, 100_000_000).run(t.Context(), true); err != nil {
		t.Fatalf("once more: %v", err)
	}
	a.wantEnds(start, start)

	var want []int64
	next := int64(start)
	for range 5 {
		if base := a.data(next, 10, year2020+next-start); base != next {
			t.Fatalf("source offset %d was appended at %d", next, base)
		}
		for range 10 {
			want = append(want, next)
			next++
		}
	}
	seeds := kgo.SeedBrokers(kafkatest.Shared(t, "destination").Bootstrap())
	a.wantOffsets(a.read(kgo.ReadUncommitted(), seeds), want)
	a.wantOffsets(a.read(kgo.ReadCommitted(), seeds), want)
	for _, n := range []int64{0, 1, 9, 10, 23, 49} {
		if o := a.offsetAfter(year2020 + n); o.Offset != start+n || o.Timestamp != year2020+n {
			t.Errorf("after timestamp %d: offset %d, timestamp %d", year2020+n, o.Offset, o.Timestamp)
		}
	}
	if o := a.offsetAfter(year2020 - 1000); o.Offset != start {
		t.Errorf("after a timestamp before all: offset %d", o.Offset)
	}
	if o := a.offsetAfter(-3); o.Offset != start+49 {
		t.Errorf("of the largest timestamp: offset %d", o.Offset)
	}
}

// TestRealKafkaBurnResumes: a burn that is cut off again and again, anywhere, ends at the right
// offset.
func TestRealKafkaBurnResumes(t *testing.T) {
	const start = 3_000_001
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	a := realAlignable(t, "resumed")
	cuts := 0
	for {
		// The requests that a cut leaves behind arrive within a fraction of the grace, even here.
		const grace = 500 * time.Millisecond
		ctx, cancel := context.WithTimeout(t.Context(), grace+time.Duration(random.IntN(300))*time.Millisecond)
		if cuts >= 8 {
			ctx = t.Context() // so that a slow machine gets through, too
		}
		b := a.r.newBurn(a.log, start, start)
		b.grace, b.size = grace, 1+random.IntN(300_000)
		b.wait = retry.Backoff{Low: 10 * time.Millisecond, High: time.Second}
		err := b.run(ctx, cuts > 0)
		cancel()
		if err == nil {
			break
		}
		if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		cuts++
	}
	t.Logf("cut off %d times", cuts)
	a.wantEnds(start, start)
	if base := a.data(start, 3, 1); base != start {
		t.Fatalf("the first record stands at %d", base)
	}
}

// TestRealKafkaMarkers: holes of 1, 100 and 10,000 offsets between batches of records are filled,
// and the log read at the broker itself has every record at the source's offset.
func TestRealKafkaMarkers(t *testing.T) {
	a := realAlignable(t, "marked")
	var want []int64
	next := int64(0)
	for _, hole := range []int64{1, 100, 10_000, 1, 2, 999, 1000, 1001} {
		for range 2 {
			if base := a.data(next, 5, 1_600_000_000_000+next); base != next {
				t.Fatalf("source offset %d was appended at %d", next, base)
			}
			for range 5 {
				want = append(want, next)
				next++
			}
		}
		began := time.Now()
		if err := a.fill(next, hole); err != nil {
			t.Fatalf("a hole of %d: %v", hole, err)
		}
		t.Logf("%d markers in %v", hole, time.Since(began).Round(time.Millisecond))
		next += hole
		a.wantEnds(0, next)
	}
	at := int64(0)
	markers := 0
	err := a.log.walk(t.Context(), 0, next, func(h batch.Header) error {
		logical, flags, _, ok := batch.ReadStamp(h)
		if !ok || flags != 0 || logical != at || h.BaseOffset() != at {
			return fmt.Errorf("the batch at %d is stamped %d (%v), flags %d, want %d", h.BaseOffset(), logical, ok, flags, at)
		}
		if h.Control() {
			markers++
		}
		at = h.NextOffset()
		return nil
	})
	if err != nil || markers != 1+100+10_000+1+2+999+1000+1001 {
		t.Fatalf("%d markers: %v", markers, err)
	}
	seeds := kgo.SeedBrokers(kafkatest.Shared(t, "destination").Bootstrap())
	a.wantOffsets(a.read(kgo.ReadUncommitted(), seeds), want)
	a.wantOffsets(a.read(kgo.ReadCommitted(), seeds), want)
}

// TestRealKafkaMarkersHaveTheTimeOfTheirWriting records what markers cost: the broker stamps them
// with its own time. So a lookup by timestamp in a log of older records finds the first marker,
// where the source finds a record behind it.
func TestRealKafkaMarkersHaveTheTimeOfTheirWriting(t *testing.T) {
	const year2020 = 1_577_836_800_000
	a := realAlignable(t, "marked-late")
	before := time.Now().Add(-time.Minute).UnixMilli()
	for n := range int64(10) {
		a.data(2*n, 1, year2020+n)
		if err := a.fill(2*n+1, 1); err != nil {
			t.Fatal(err)
		}
	}
	if o := a.offsetAfter(year2020); o.Offset != 0 {
		t.Errorf("after the first timestamp: offset %d", o.Offset)
	}
	if o := a.offsetAfter(year2020 + 7); o.Offset != 1 || o.Timestamp < before {
		t.Errorf("after the timestamp of offset 14: offset %d, timestamp %d", o.Offset, o.Timestamp)
	}
}

// wantNotAligned checks the reason and the message of a refusal.
func wantNotAligned(t *testing.T, err error, reason core.AlignReason, parts ...string) {
	t.Helper()
	var not *notAligned
	if !errors.As(err, &not) {
		t.Fatalf("the error is %v, want one with %s", err, reason)
	}
	if not.reason != reason {
		t.Errorf("the reason is %s (%v), want %s", not.reason, err, reason)
	}
	wantIn(t, not.Error(), parts...)
}

// TestRealKafkaAlignmentRefused: if the destination does not permit alignment, the reason is
// returned, and nothing is left behind.
func TestRealKafkaAlignmentRefused(t *testing.T) {
	dst := kafkatest.Shared(t, "authorised", kafkatest.SASLPlaintext("reader", "r", "writer", "w", "owner", "o", "operator", "p"))
	super := dst.Client(t, kgo.MetadataMinAge(20*time.Millisecond))
	allow := func(user, resource string, ops ...kadm.ACLOperation) {
		b := kadm.NewACLs().Allow("User:" + user).AllowHosts("*").Operations(ops...).ResourcePatternType(kadm.ACLPatternPrefixed)
		if resource == "" {
			b = b.Clusters().ResourcePatternType(kadm.ACLPatternLiteral)
		} else {
			b = b.Topics(resource)
		}
		results, err := kadm.NewClient(super).CreateACLs(t.Context(), b)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range results {
			if r.Err != nil {
				t.Fatalf("ACL for %s: %v", user, r.Err)
			}
		}
	}
	allow("reader", "refused", kadm.OpRead, kadm.OpDescribe)
	allow("writer", "refused", kadm.OpRead, kadm.OpDescribe, kadm.OpWrite)
	allow("owner", "refused", kadm.OpRead, kadm.OpDescribe, kadm.OpWrite, kadm.OpDelete)
	allow("operator", "refused", kadm.OpRead, kadm.OpDescribe)
	allow("operator", "", kadm.OpAlter)
	as := func(user, password, topic string, configs map[string]string) *alignable {
		opts := append(dst.ClientOpts(user, password), kgo.SeedBrokers(dst.Bootstrap()))
		return newAlignable(t, super, topic, configs, opts...)
	}

	a := as("reader", "r", "refused-read", nil)
	wantNotAligned(t, a.burnTo(1000), core.AlignNotPermitted, "refused-read-0", "DELETE on the topic")
	a.wantEnds(0, 0)

	a = as("writer", "w", "refused-write", nil)
	wantNotAligned(t, a.burnTo(1000), core.AlignNotPermitted, "refused-write-0", "DELETE on the topic")
	a.wantEnds(0, 0)

	// Without ALTER on the cluster there are no markers.
	wantNotAligned(t, a.fill(0, 3), core.AlignNotPermitted, "refused-write-0", "ALTER or CLUSTER_ACTION on the cluster")
	a.wantEnds(0, 0)

	// A compacted topic takes no fillers, and does not let records be deleted.
	a = as("owner", "o", "refused-compact", map[string]string{"cleanup.policy": "compact"})
	wantNotAligned(t, a.burnTo(1000), core.AlignPolicy, "refused-compact-0")
	a.wantEnds(0, 0)
	a = as("owner", "o", "refused-both", map[string]string{"cleanup.policy": "compact,delete"})
	wantNotAligned(t, a.burnTo(1000), core.AlignRefused, "refused-both-0")
	a.wantEnds(0, 0)

	// A small max.message.bytes takes smaller fillers, or none.
	a = as("owner", "o", "refused-size", map[string]string{"max.message.bytes": "20000"})
	if err := a.burnTo(100_000); err != nil {
		t.Fatal(err)
	}
	a.wantEnds(100_000, 100_000)
	a = as("owner", "o", "refused-tiny", map[string]string{"max.message.bytes": "100"})
	wantNotAligned(t, a.burnTo(100_000), core.AlignRefused, "refused-tiny-0", "max.message.bytes")
	a.wantEnds(0, 0)

	// ALTER on the cluster is all that markers take.
	a = as("operator", "p", "refused-not", nil)
	if err := a.fill(0, 3); err != nil {
		t.Fatal(err)
	}
	a.wantEnds(0, 3)
}

// TestRealKafkaAlignmentAtAnOldDestination: 2.4.1 takes fillers and markers too.
func TestRealKafkaAlignmentAtAnOldDestination(t *testing.T) {
	dst := kafkatest.SharedOld(t, "old")
	cl := dst.Client(t, kgo.MetadataMinAge(20*time.Millisecond))
	a := newAlignable(t, cl, "old", nil, kgo.SeedBrokers(dst.Bootstrap()))
	const start = 1_000_100
	if err := a.burnTo(start); err != nil {
		t.Fatal(err)
	}
	a.wantEnds(start, start)
	var want []int64
	next := int64(start)
	for range 3 {
		if base := a.data(next, 2, 1_600_000_000_000); base != next {
			t.Fatalf("source offset %d was appended at %d", next, base)
		}
		want = append(want, next, next+1)
		if err := a.fill(next+2, 50); err != nil {
			t.Fatal(err)
		}
		next += 52
	}
	a.wantEnds(start, next)
	seeds := kgo.SeedBrokers(dst.Bootstrap())
	a.wantOffsets(a.read(kgo.ReadUncommitted(), seeds), want)
	a.wantOffsets(a.read(kgo.ReadCommitted(), seeds), want)
}
