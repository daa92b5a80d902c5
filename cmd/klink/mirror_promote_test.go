package main

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"klink/protocol/linkapi"
)

func TestPromoteVerdict(t *testing.T) {
	for name, c := range map[string]struct {
		ps   []linkapi.DescribedPartition
		err  error
		want promoteVerdictJSON
	}{
		"caught up": {
			[]linkapi.DescribedPartition{{SourceEndOffset: 5, SourceLastStableOffset: 5}},
			nil,
			promoteVerdictJSON{Possible: true, OpenTransactions: []int32{}},
		},
		"behind": {
			[]linkapi.DescribedPartition{{Lag: 7}, {Lag: 3}},
			nil,
			promoteVerdictJSON{Possible: true, Lag: 7, OpenTransactions: []int32{}},
		},
		"an unknown lag is not the smaller one": {
			[]linkapi.DescribedPartition{{Lag: 7}, {Lag: -1}, {Lag: 3}},
			nil,
			promoteVerdictJSON{Possible: true, Lag: -1, OpenTransactions: []int32{}},
		},
		"open transactions": {
			[]linkapi.DescribedPartition{{SourceEndOffset: 5, SourceLastStableOffset: 4, Lag: 1}, {Partition: 1, SourceEndOffset: 5, SourceLastStableOffset: -1}, {Partition: 2, SourceEndOffset: 5}},
			nil,
			promoteVerdictJSON{Possible: true, Lag: 1, OpenTransactions: []int32{0, 2}},
		},
		"refused": {nil, errors.New("it is STOPPED"), promoteVerdictJSON{Reason: "it is STOPPED", Lag: -1, OpenTransactions: []int32{}}},
	} {
		t.Run(name, func(t *testing.T) {
			c.want.Topic, c.want.DirectAccess = "orders", directAccessJSON{true, "aligned"}
			got := promoteVerdict(linkapi.DescribedMirror{Topic: "orders", DirectAccess: true, DirectAccessReason: "aligned", Partitions: c.ps}, c.err)
			require.Equal(t, c.want, got)
		})
	}
}

func TestMirrorPromote(t *testing.T) {
	w := newWorld(t)
	w.mirror("orders", "one", "two")
	out := w.must("", "mirror", "promote", "--dry-run", "orders")
	require.Contains(t, out, "Promote Possible")
	require.Contains(t, out, "yes: all partitions have the offsets of the source at the brokers")
	out = w.must("", "mirror", "describe", "orders")
	require.Contains(t, out, "Direct Access")
	require.NotContains(t, out, "Not Aligned")

	_, stderr, code := w.run("", "mirror", "promote", "orders")
	require.Equal(t, 1, code)
	require.Contains(t, stderr, "failover")
	require.Contains(t, w.must("", "mirror", "describe", "orders"), "ACTIVE", "nothing has changed")

	w.must("", "mirror", "failover", "orders")
	out, stderr, code = w.run("", "mirror", "promote", "--dry-run", "orders", "none")
	require.Equal(t, 1, code)
	require.Contains(t, stderr, "STOPPED already")
	require.Contains(t, stderr, "no mirror topic 'none'")
	require.Contains(t, out, "orders")
}
