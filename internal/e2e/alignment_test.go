package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"klink/internal/kafkatest"

	"github.com/twmb/franz-go/pkg/kgo"
)

// nearStart and farStart are where logs begin at the source. 100 million is the largest that is
// burned by default, a burn of a minute.
const nearStart = 5_000_000

var farStart = whole[int64](100_000_000, 20_000_000)

// TestExactAlignment: point 7. Mirrors have the source's offsets physically: from a log start of 20
// million (100 million in `make soak`), and over the holes of transactions; also when klink is
// killed in the middle of using offsets up, and of writing markers. Where a mirror has other
// offsets, klink says where, since when and why, and what that means for promotion.
func TestExactAlignment(t *testing.T) {
	t.Parallel()
	e := newExact(t, kafkatest.Start(t))
	createLink(t, e.k, "west", e.source, "offset.alignment=off")

	e.createSource(t, "far", 3) // partition 2 begins in the middle of a batch
	filled := make(chan error, 1)
	go func() { filled <- e.startLogAt("far", 0, farStart) }()
	e.createSource(t, "ledger", 4)
	transact(e.ctx, t, e.source, "ledger", "backlog", 3, 20, 7)
	deleteBefore(e.ctx, t, e.adm, "ledger", map[int32]int64{1: 11})
	e.mirror(t, "ledger")
	t.Run("killed in the middle", func(t *testing.T) {
		e.killInMarkers(t, "ledger", 3, 3)

		if err := <-filled; err != nil {
			t.Fatal(err)
		}
		if err := e.startLogAt("far", 1, nearStart); err != nil {
			t.Fatal(err)
		}
		for p := range int32(3) {
			produceVaried(e.ctx, t, e.source, "far", p, 60)
		}
		deleteBefore(e.ctx, t, e.adm, "far", map[int32]int64{2: 25})
		ctx, cancel := context.WithCancel(e.ctx)
		loaded := make(chan int)
		go func() { // transactions all the while
			n := 0
			defer func() { loaded <- n }() // also when transact gives up
			for ; ctx.Err() == nil; n++ {
				transact(e.ctx, t, e.source, "ledger", fmt.Sprint("load-", n), 3, 3, 7)
			}
		}()
		defer func() {
			cancel()
			if n := <-loaded; n < 3 {
				t.Errorf("only %d rounds of transactions ran meanwhile", n)
			}
		}()
		e.mirror(t, "far")
		e.killInBurn(t, "far", 0, farStart, 3)
	})
	t.Run("log starts", func(t *testing.T) {
		cl := e.destination.Client(t)
		kafkatest.WaitForProgress(t, 2*time.Minute, "the offsets below the log start to be used up", func() (bool, int64, string) {
			end := e.physicalEnd(t, cl, "far", 0)
			return end >= farStart, end, fmt.Sprint(end)
		})
		if got := e.wantAligned(t, "far", 3); len(got) != 60+60+35 || got[0].offset != farStart {
			t.Fatalf("%d records, the first is %+v", len(got), got[0])
		}
	})
	t.Run("transactions", func(t *testing.T) {
		if got := e.wantAligned(t, "ledger", 4); len(got) < 150 {
			t.Fatalf("only %d records", len(got))
		}
	})
	t.Run("seeks by timestamp", e.seeksByTimestamp)
	t.Run("what is said", e.alignmentIsTold)
	t.Run("stopped", e.stopped)
}

// killInBurn kills klink times times while the offsets below the first one of a partition are being
// used up.
func (e *exact) killInBurn(t *testing.T, topic string, partition int32, to int64, times int) {
	cl := e.destination.Client(t)
	last := int64(0)
	for range times {
		kafkatest.WaitFor(t, 2*time.Minute, "offsets to be used up", func() (bool, string) {
			end := e.physicalEnd(t, cl, topic, partition)
			if end >= to {
				t.Fatalf("all %d offsets were used up before klink could be killed", to)
			}
			if end <= last {
				return false, fmt.Sprint(end)
			}
			e.k.Kill()
			last = end
			return true, ""
		})
		t.Logf("killed with %d of %d offsets used up", last, to)
		e.k.Restart()
	}
}

// killInMarkers kills klink in the middle of the markers of aborted transactions, until that has
// happened so many times.
func (e *exact) killInMarkers(t *testing.T, topic string, partition int32, times int) {
	awaitMirrorPartition(t, e, topic, partition)
	hits := 0
	for n := 0; n < 4*times && hits < times; n++ {
		e.k.Kill()
		first := e.sourceEnd(t, topic, partition)
		e.abort(t, topic, partition, n)
		end := e.sourceEnd(t, topic, partition)
		e.k.Restart()
		dst := e.destination.Client(t)
		kafkatest.WaitFor(t, 2*time.Minute, "markers to be written", func() (bool, string) {
			at := e.physicalEnd(t, dst, topic, partition)
			if at <= first+int64(n%3)*aborted+aborted/3 { // another place each time
				return false, fmt.Sprint(at)
			}
			e.k.Kill()
			return true, ""
		})
		at := e.physicalEnd(t, dst, topic, partition)
		t.Logf("killed with %d of %d offsets written", at-first, end-first)
		if at < end { // on a machine with much else to do klink may have been faster
			hits++
		}
		dst.Close()
		e.k.Restart()
	}
	if hits == 0 {
		t.Error("klink was never killed in the middle of markers")
	}
}

// aborted is how many records are in a large aborted transaction: one hole, of as many markers and
// one.
const aborted = 9000

// abort runs three large transactions that are aborted, and a small one after each.
func (e *exact) abort(t *testing.T, topic string, partition int32, key int) {
	t.Helper()
	cl := e.source.Client(t, kgo.TransactionalID("aborting"), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(5*time.Millisecond))
	defer cl.Close()
	for i := range 6 {
		if err := cl.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		records, commit := aborted, kgo.TryAbort
		if i%2 == 1 {
			records, commit = 1, kgo.TryCommit
		}
		for j := range records {
			cl.Produce(e.ctx, &kgo.Record{Topic: topic, Partition: partition, Key: fmt.Appendf(nil, "%d", key), Value: fmt.Appendf(nil, "record %d of transaction %d", j, i)}, nil)
		}
		if err := cl.Flush(e.ctx); err != nil {
			t.Fatal(err)
		}
		if err := cl.EndTransaction(e.ctx, commit); err != nil {
			t.Fatal(err)
		}
	}
}

func (e *exact) sourceEnd(t *testing.T, topic string, partition int32) int64 {
	t.Helper()
	return atoi(strings.Fields(listOffsets(e.ctx, t, e.source.Client(t), topic, partition+1, -1))[partition])
}

// awaitMirrorPartition waits until one partition is caught up; others may have a load.
func awaitMirrorPartition(t *testing.T, e *exact, topic string, partition int32) {
	t.Helper()
	kafkatest.WaitFor(t, 2*time.Minute, fmt.Sprintf("%s-%d to catch up", topic, partition), func() (bool, string) {
		d, err := describeMirror(t, e.k, topic)
		if err != nil || len(d.Partitions) <= int(partition) {
			return false, fmt.Sprint(d, err)
		}
		p := d.Partitions[partition]
		return d.State == "ACTIVE" && p.Lag == 0 && p.MirrorEndOffset == e.sourceEnd(t, topic, partition), fmt.Sprintf("%+v", p)
	})
}

// alignmentIsTold: `mirror describe` and `mirror promote --dry-run` answer whether clients can go
// straight to the brokers after promotion: for aligned mirrors, for one that is not to be aligned,
// and for compacted ones with and without a hole.
func (e *exact) alignmentIsTold(t *testing.T) {
	const (
		yes       = "all partitions have the offsets of the source at the brokers so far"
		off       = "offset.alignment is off"
		compacted = "cleanup.policy of the topic is compact; klink aligns only logs that are not compacted"
	)
	e.createSource(t, "unaligned", 2)
	produceVaried(e.ctx, t, e.source, "unaligned", 0, 40)
	produceVaried(e.ctx, t, e.source, "unaligned", 1, 40)
	deleteBefore(e.ctx, t, e.adm, "unaligned", map[int32]int64{1: 30})
	e.createSource(t, "table", 1, "cleanup.policy=compact")
	transact(e.ctx, t, e.source, "table", "table", 1, 2, 5) // a marker at 5 and one at 11
	e.createSource(t, "dense", 1, "cleanup.policy=compact")
	if err := e.source.Client(t).ProduceSync(e.ctx, &kgo.Record{Topic: "dense", Key: []byte("k"), Value: []byte("v")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	e.k.MustCLI(t, "topic", "create", "unaligned", "--link", "west")
	e.mirror(t, "table")
	e.mirror(t, "dense")
	type shift struct {
		partition, began, shift int64
		reason                  string
	}
	cases := []struct {
		topic      string
		partitions int
		shifts     []shift
		possible   bool
		reason     string
	}{
		{"far", 3, nil, true, yes},
		{"ledger", 4, nil, true, yes},
		{"dense", 1, nil, true, yes},
		{"unaligned", 2, []shift{{1, 30, 30, off}}, false, "1 of 2 partitions have different offsets at the brokers; partition 1 from offset 30 on: " + off},
		{"table", 1, []shift{{0, 6, 1, compacted}}, false, "1 of 1 partitions have different offsets at the brokers; partition 0 from offset 6 on: " + compacted},
	}
	topics := []string{}
	for _, c := range cases {
		topics = append(topics, c.topic)
		awaitMirror(t, e.k, e.source, c.topic)
		d, err := describeMirror(t, e.k, c.topic)
		if err != nil {
			t.Fatal(err)
		}
		if d.DirectAccess.Possible != c.possible || d.DirectAccess.Reason != c.reason {
			t.Errorf("%s: direct access is described as %+v, want %v: %s", c.topic, d.DirectAccess, c.possible, c.reason)
		}
		var shifts []shift
		for _, p := range d.Partitions {
			if !p.Aligned {
				shifts = append(shifts, shift{int64(p.Partition), p.ShiftBegan, p.Shift, p.ShiftReason})
			} else if p.Shift != 0 || p.ShiftBegan != -1 || p.ShiftReason != "" {
				t.Errorf("%s-%d is described as aligned with a shift: %+v", c.topic, p.Partition, p)
			}
		}
		if len(d.Partitions) != c.partitions || !slices.Equal(shifts, c.shifts) {
			t.Errorf("%s: %d partitions, shifted are %+v, want %d, %+v", c.topic, len(d.Partitions), shifts, c.partitions, c.shifts)
		}
		wantRow(t, e.k.MustCLI(t, "mirror", "describe", c.topic), "Direct Access", yesOrNo(c.possible)+": "+c.reason)
		table := e.k.MustCLI(t, "mirror", "describe", c.topic)
		if got := strings.Contains(table, "Not Aligned Partition"); got != (len(c.shifts) > 0) {
			t.Errorf("%s: a table of shifts: %v\n%s", c.topic, got, table)
		}
		for _, s := range c.shifts {
			wantRow(t, table, fmt.Sprint(s.partition), fmt.Sprint(s.began), fmt.Sprint(s.shift), s.reason)
		}
	}

	dryRun := append([]string{"mirror", "promote", "--dry-run"}, topics...)
	var verdicts []verdict
	out := e.k.MustCLI(t, append(dryRun, "-o", "json")...)
	if err := json.Unmarshal([]byte(out), &verdicts); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	if len(verdicts) != len(cases) {
		t.Fatalf("%d verdicts: %s", len(verdicts), out)
	}
	table := e.k.MustCLI(t, dryRun...)
	const reason = "it has everything that its source had when it last answered; its link does not sync group offsets (consumer.offset.sync.enable)"
	for i, c := range cases {
		want := verdict{Topic: c.topic, Possible: true, Safe: true, Reason: reason, GroupsBehind: -1, OpenTransactions: []int32{}, DirectAccess: directAccess{c.possible, c.reason}}
		if !reflect.DeepEqual(verdicts[i], want) {
			t.Errorf("dry run of a promotion: %+v, want %+v", verdicts[i], want)
		}
		wantRow(t, table, c.topic, "yes", "yes: "+reason, "0", "0", "0", "0.0", "not synced", "no", yesOrNo(c.possible)+": "+c.reason)
	}
}

// verdict is what `klink mirror promote --dry-run -o json` prints of a topic.
type verdict struct {
	Topic            string
	Possible, Safe   bool
	Reason           string
	Lag              int64
	GroupsSynced     bool         `json:"groups_synced"`
	GroupsBehind     int          `json:"groups_behind"`
	OpenTransactions []int32      `json:"open_transactions"`
	DirectAccess     directAccess `json:"direct_access"`
}

// wantRow checks that a table has a row of these cells.
func wantRow(t *testing.T, table string, cells ...string) {
	t.Helper()
	for line := range strings.Lines(table) {
		got := strings.Split(strings.TrimSpace(line), "|")
		for i := range got {
			got[i] = strings.TrimSpace(got[i])
		}
		if slices.Equal(got, cells) {
			return
		}
	}
	t.Errorf("no row %q in\n%s", cells, table)
}

func yesOrNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// stopped stops aligned mirrors and lets clients go straight to the broker, as the dry run said
// they could.
func (e *exact) stopped(t *testing.T) {
	e.k.MustCLI(t, "mirror", "failover", "far", "ledger")
	awaitMirrorState(t, e.k, "far", "STOPPED", "")
	awaitMirrorState(t, e.k, "ledger", "STOPPED", "")
	e.wantSeeks(t, "ledger", 4) // its markers remain
	for _, topic := range []string{"far", "ledger"} {
		end := e.sourceEnd(t, topic, 0)
		cl := e.destination.Client(t, kgo.RecordPartitioner(kgo.ManualPartitioner()))
		r, err := cl.ProduceSync(e.ctx, &kgo.Record{Topic: topic, Value: []byte("written around klink")}).First()
		if err != nil {
			t.Fatal(err)
		}
		if r.Offset != end {
			t.Errorf("%s: the first record that was written around klink got offset %d, the source ended at %d", topic, r.Offset, end)
		}
		around, through := readFranz(t, e.destination.Bootstrap(), topic, 0), readFranz(t, e.k.Bootstrap(), topic, 0)
		assertSame(t, topic+" after the stop", around, through)
		if !slices.ContainsFunc(through, func(r record) bool { return r.partition == 0 && r.offset == end && r.value == "written around klink" }) {
			t.Errorf("%s: what was written around klink is not at offset %d", topic, end)
		}
		if got, want := e.toldDirectAccess(t, topic), (directAccess{true, "all partitions have the offsets of the source at the brokers"}); got != want {
			t.Errorf("%s: after the stop direct access is described as %+v, want %+v", topic, got, want)
		}
	}
}

func (e *exact) toldDirectAccess(t *testing.T, topic string) directAccess {
	t.Helper()
	d, err := describeMirror(t, e.k, topic)
	if err != nil {
		t.Fatal(err)
	}
	return d.DirectAccess
}
