package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"klink/protocol/linkapi"
)

func TestPromoteVerdict(t *testing.T) {
	none := []int32{}
	text := func(s string) *string {
		if s == "" {
			return nil
		}
		return &s
	}
	for name, c := range map[string]struct {
		ps    []linkapi.DescribedPartition
		state string
		code  string
		err   error
		want  promoteVerdictJSON
	}{
		"caught up": {
			ps:   []linkapi.DescribedPartition{{SourceEndOffset: 5, SourceLastStableOffset: 5}},
			want: promoteVerdictJSON{Possible: true, Safe: true, Reason: "it has everything that its source had when it last answered", OpenTransactions: none},
		},
		"behind": {
			ps: []linkapi.DescribedPartition{
				{Lag: 7, LagMs: 1500, MirrorStartOffset: 10, MirrorEndOffset: 20}, {Partition: 1, Lag: 3, LagMs: 500, MirrorEndOffset: 10},
			},
			want: promoteVerdictJSON{
				Possible: true, Reason: "it waits until the lag is 0", Lag: 7, TotalLag: 10, LagBytes: 7*100 + 3*2, LagSeconds: 1.5, OpenTransactions: none,
			},
		},
		"an unknown lag is not the smaller one": {
			ps:   []linkapi.DescribedPartition{{Lag: 7, LagMs: 3}, {Lag: -1, LagMs: -1}, {Lag: 3, LagMs: 3}},
			want: promoteVerdictJSON{Possible: true, Reason: "its lag is unknown", Lag: -1, TotalLag: -1, LagBytes: -1, LagSeconds: -1, OpenTransactions: none},
		},
		"the size of a log that is not told": {
			ps:   []linkapi.DescribedPartition{{Partition: 5, Lag: 7, MirrorEndOffset: 10}},
			want: promoteVerdictJSON{Possible: true, Reason: "it waits until the lag is 0", Lag: 7, TotalLag: 7, LagBytes: -1, OpenTransactions: none},
		},
		"the average of an empty log": {
			ps:   []linkapi.DescribedPartition{{Lag: 7, MirrorStartOffset: 10, MirrorEndOffset: 10}},
			want: promoteVerdictJSON{Possible: true, Reason: "it waits until the lag is 0", Lag: 7, TotalLag: 7, LagBytes: -1, OpenTransactions: none},
		},
		"open transactions": {
			ps: []linkapi.DescribedPartition{
				{SourceEndOffset: 5, SourceLastStableOffset: 4, Lag: 1, MirrorEndOffset: 4}, {Partition: 1, SourceEndOffset: 5, SourceLastStableOffset: -1}, {Partition: 2, SourceEndOffset: 5},
			},
			want: promoteVerdictJSON{
				Possible: true, Reason: "it waits for a transaction that is open at the source", Lag: 1, TotalLag: 1, LagBytes: 250, OpenTransactions: []int32{0, 2},
			},
		},
		"groups are behind": {
			ps: []linkapi.DescribedPartition{{Lag: 0}},
			want: promoteVerdictJSON{
				Possible: true, Safe: true, Reason: "it has everything that its source had when it last answered, and carries over the offsets of 2 groups; busy", OpenTransactions: none,
				GroupsSynced: true, GroupsBehind: 2, GroupsReason: "busy",
			},
		},
		"groups are not known": {
			ps: []linkapi.DescribedPartition{{Lag: 0}},
			want: promoteVerdictJSON{
				Possible: true, Reason: "it has everything that its source had when it last answered, but may leave offsets of groups behind; time-out", OpenTransactions: none,
				GroupsSynced: true, GroupsBehind: -1, GroupsReason: "time-out",
			},
		},
		"groups are not synced": {
			ps: []linkapi.DescribedPartition{{Lag: 0}},
			want: promoteVerdictJSON{
				Possible: true, Safe: true, Reason: "it has everything that its source had when it last answered; off", OpenTransactions: none,
				GroupsBehind: -1, GroupsReason: "off",
			},
		},
		"stopped": {
			ps: []linkapi.DescribedPartition{{Lag: 0}}, state: "STOPPED",
			want: promoteVerdictJSON{Possible: true, Safe: true, Reason: "it is already STOPPED", OpenTransactions: none},
		},
		"without its source": {
			ps: []linkapi.DescribedPartition{{Lag: 0}}, state: "PENDING_STOPPED", code: "TIMEOUT_ERROR",
			want: promoteVerdictJSON{Possible: true, Reason: "it cannot continue now (TIMEOUT_ERROR)", OpenTransactions: none},
		},
		"refused": {err: errors.New("it is PAUSED"), want: promoteVerdictJSON{Reason: "it is PAUSED", Lag: -1, TotalLag: -1, LagBytes: -1, LagSeconds: -1, OpenTransactions: none}},
	} {
		t.Run(name, func(t *testing.T) {
			c.want.Topic, c.want.DirectAccess = "orders", directAccessJSON{true, "aligned"}
			got := promoteVerdict(linkapi.DescribedMirror{
				Topic: "orders", State: c.state, Error: c.code, DirectAccess: true, DirectAccessReason: "aligned", Partitions: c.ps,
			}, linkapi.AlteredMirror{GroupsSynced: c.want.GroupsSynced, GroupsBehind: c.want.GroupsBehind, GroupsMessage: text(c.want.GroupsReason)}, c.err, map[partitionID]int64{{"orders", 0}: 1000, {"orders", 1}: 20})
			require.Equal(t, c.want, got)
		})
	}
}

func TestGroupsText(t *testing.T) {
	for want, v := range map[string]promoteVerdictJSON{
		"0": {GroupsSynced: true}, "7": {GroupsSynced: true, GroupsBehind: 7}, "unknown": {GroupsSynced: true, GroupsBehind: -1}, "not synced": {Possible: true, GroupsBehind: -1},
	} {
		require.Equal(t, want, groupsText(v))
	}
	require.Equal(t, "unknown", groupsText(promoteVerdictJSON{GroupsBehind: -1}), "of a mirror that cannot be promoted")
}

func TestPromotionText(t *testing.T) {
	p := func(lag int64) linkapi.DescribedPartition { return linkapi.DescribedPartition{Lag: lag} }
	open := linkapi.DescribedPartition{SourceEndOffset: 9, SourceLastStableOffset: 5, Lag: 4}
	for want, mirrors := range map[string][]linkapi.DescribedMirror{
		"promoting: 0 of 1 mirrors left": {{State: "STOPPED", Partitions: []linkapi.DescribedPartition{p(3)}}},
		"promoting: 2 of 3 mirrors left, 15 offsets behind, most in b: 12": {
			{Topic: "a", Partitions: []linkapi.DescribedPartition{p(3)}}, {Topic: "b", Partitions: []linkapi.DescribedPartition{p(0), p(12)}}, {State: "STOPPED"},
		},
		"promoting: 1 of 1 mirrors left, without lag": {{Topic: "a", Partitions: []linkapi.DescribedPartition{p(0)}}},
		"promoting: 1 of 1 mirrors left, 4 offsets behind, the lag of 1 partitions is unknown, transactions are open at the source in 1, 1 cannot continue, see `klink mirror list`": {
			{Topic: "a", Error: "TIMEOUT_ERROR", Partitions: []linkapi.DescribedPartition{p(-1), open}},
		},
	} {
		require.Equal(t, want, promotionText(mirrors))
	}
}

func TestProgress(t *testing.T) {
	var out bytes.Buffer
	p := newProgress(&out)
	began := p.at
	for after, text := range []string{"a", "a", "b", "c", "d", "d", "d"} {
		p.show(text, began.Add(time.Duration(after)*2*time.Second))
	}
	p.clear()
	require.Equal(t, "c\nd\n", out.String(), "no more than a line in five seconds, and none twice")

	out.Reset()
	p.width = 6
	for _, text := range []string{"a", "a", "longer", "b"} {
		p.show(text, began)
	}
	p.clear()
	require.Equal(t, "\r\x1b[Ka\r\x1b[Klonge\r\x1b[Kb\r\x1b[K", out.String())
}

func TestMirrorPromote(t *testing.T) {
	w := newWorld(t)
	w.mirror("orders", "one", "two")
	out := w.must("", "mirror", "promote", "--dry-run", "orders")
	require.Contains(t, out, "Promote Possible")
	require.Contains(t, out, "yes: it has everything that its source had when it last answered")
	require.Contains(t, out, "yes: all partitions have the offsets of the source at the brokers")
	out = w.must("", "mirror", "describe", "orders")
	require.Contains(t, out, "Direct Access")
	require.Contains(t, out, "ACTIVE", "nothing has changed")
	require.NotContains(t, out, "Not Aligned")

	w.must("", "mirror", "pause", "orders")
	require.Contains(t, w.refused("", "mirror", "promote", "orders"), "cannot promote: it is PAUSED")
	require.Contains(t, w.refused("", "mirror", "promote", "orders", "--dry-run"), "cannot promote: it is PAUSED")
	w.must("", "mirror", "resume", "orders")
	for range 2 {
		require.Equal(t, "Stopped mirroring for topic \"orders\".\n", w.must("", "mirror", "promote", "orders", "orders"))
	}
	w.must("three", "topic", "produce", "orders")
	require.Equal(t, "one\ntwo\nthree\n", w.must("", "topic", "consume", "orders", "--from-beginning", "--max-messages", "3"))

	out, stderr, code := w.run("", "mirror", "promote", "--dry-run", "orders", "none")
	require.Equal(t, 1, code)
	require.Contains(t, out, "yes: it is already STOPPED")
	require.Contains(t, stderr, "unknown mirror topic 'none'")

	for _, args := range [][]string{
		{}, {"--all"}, {"--link", "east"}, {"--link", "east", "--all", "orders"}, {"orders", "--timeout", "0s"}, {"orders", "--timeout", "11m"},
	} {
		_, _, code := w.run("", append([]string{"mirror", "promote"}, args...)...)
		require.Equal(t, exitUsage, code, "%v", args)
	}
	require.Contains(t, w.refused("", "mirror", "promote", "--link", "none", "--all"), "none")
}

// TestMirrorPromoteWaits: a promotion waits for an open transaction. The time-out cancels it, and
// the answer says what it waited for.
func TestMirrorPromoteWaits(t *testing.T) {
	w := newWorld(t)
	w.mirror("orders", "one")
	w.mirror("other", "one")
	tx, err := kgo.NewClient(kgo.SeedBrokers(w.source), kgo.TransactionalID("tx"), kgo.DefaultProduceTopic("orders"))
	require.NoError(t, err)
	t.Cleanup(tx.Close)
	require.NoError(t, tx.BeginTransaction())
	require.NoError(t, tx.ProduceSync(t.Context(), kgo.StringRecord("two")).FirstErr())
	w.eventually("the transaction is seen", func() bool {
		return strings.Contains(w.must("", "mirror", "promote", "--dry-run", "orders"), "no: it waits for a transaction that is open at the source")
	})

	stdout, stderr, code := w.run("", "mirror", "promote", "--link", "east", "--all", "--timeout", "1500ms")
	require.Equal(t, exitError, code)
	require.Equal(t, "Stopped mirroring for topic \"other\".\n", stdout)
	require.Contains(t, stderr, "'orders' was not promoted in the time allowed, and is ACTIVE again")
	require.Contains(t, stderr, "a transaction is open at the source in partition 0")

	ctx, interrupt := context.WithCancel(t.Context())
	type result struct {
		stderr string
		code   int
	}
	interrupted := make(chan result, 1)
	go func() {
		_, stderr, code := w.runContext(ctx, strings.NewReader(""), "mirror", "promote", "orders", "--timeout", "30s")
		interrupted <- result{stderr, code}
	}()
	w.eventually("the promotion begins", func() bool { return strings.Contains(w.must("", "mirror", "describe", "orders"), "PENDING_STOPPED") })
	interrupt()
	r := <-interrupted
	require.Equal(t, exitError, r.code)
	require.Contains(t, r.stderr, "repeat the command to wait for it")
	require.Contains(t, w.must("", "mirror", "describe", "orders"), "the promotion is in progress")

	var ended []endedMirrorJSON
	joined := make(chan string, 1)
	go func() { joined <- w.must("", "mirror", "promote", "--link", "east", "--all", "-o", "json") }()
	require.NoError(t, tx.EndTransaction(t.Context(), kgo.TryCommit))
	require.NoError(t, json.Unmarshal([]byte(<-joined), &ended))
	require.Equal(t, []endedMirrorJSON{{Topic: "orders", Stopped: true, LeftBehind: []leftBehindJSON{}}}, ended)
	require.Equal(t, "one\ntwo\n", w.must("", "topic", "consume", "orders", "--from-beginning", "--max-messages", "2"))
	require.Equal(t, "All mirrors are already stopped.\n", w.must("", "mirror", "promote", "--link", "east", "--all"))
}

// TestMirrorFailoverShowsWhatIsLeftBehind, for a mirror that is behind, and for a paused one, which
// may be further behind than known.
func TestMirrorFailoverShowsWhatIsLeftBehind(t *testing.T) {
	w := newWorld(t)
	w.mirror("orders", "one")
	w.mirror("paused", "one")
	w.must("", "mirror", "pause", "paused")
	w.eventually("the pause is older than what counts", func() bool { time.Sleep(3500 * time.Millisecond); return true })
	tx, err := kgo.NewClient(kgo.SeedBrokers(w.source), kgo.TransactionalID("tx"), kgo.DefaultProduceTopic("orders"))
	require.NoError(t, err)
	t.Cleanup(tx.Close)
	require.NoError(t, tx.BeginTransaction())
	require.NoError(t, tx.ProduceSync(t.Context(), kgo.StringRecord("two")).FirstErr())
	w.eventually("the lag is seen", func() bool {
		return strings.Contains(w.must("", "mirror", "list", "-o", "json"), `"max_lag": 1`)
	})
	require.Contains(t, w.must("", "mirror", "failover", "--link", "east", "--all", "--dry-run"), "Topic \"orders\": failover is possible.")
	out := w.must("", "mirror", "failover", "--link", "east", "--all")
	require.Contains(t, out, "Stopped mirroring for topic \"orders\".\nStopped mirroring for topic \"paused\".\n")
	require.Contains(t, out, "Offsets Left Behind")
	var ended []endedMirrorJSON
	require.NoError(t, json.Unmarshal([]byte(w.must("", "mirror", "failover", "orders", "paused", "-o", "json")), &ended))
	require.Len(t, ended, 2)
	require.Equal(t, endedMirrorJSON{Topic: "orders", Stopped: true, LeftBehind: []leftBehindJSON{{0, 2, 1, nil}}}, ended[0])
	require.Len(t, ended[1].LeftBehind, 1)
	behind := ended[1].LeftBehind[0]
	require.NotNil(t, behind.SourceSeen)
	require.Contains(t, out, *behind.SourceSeen+" | at least 0")
	behind.SourceSeen = nil
	require.Equal(t, leftBehindJSON{0, 1, 0, nil}, behind)
}
