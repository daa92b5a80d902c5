package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"

	"klink/protocol/linkapi"
)

const (
	// promoteTimeout is the default time-out of a promotion.
	promoteTimeout = 5 * time.Minute
	// maxPromoteTimeout is the longest that klink waits for anything.
	maxPromoteTimeout = 10 * time.Minute
)

// promoteVerdictJSON is the result of `mirror promote --dry-run` for a topic. Numbers: -1 =
// unknown.
type promoteVerdictJSON struct {
	Topic string `json:"topic"`
	// Possible: a promotion could begin now. Safe: it would finish at once, with nothing left to
	// copy and no transaction open. Reason says why, or why not.
	Possible bool   `json:"possible"`
	Safe     bool   `json:"safe"`
	Reason   string `json:"reason"`
	Lag      int64  `json:"lag"`       // the largest of all partitions
	TotalLag int64  `json:"total_lag"` // the sum of all partitions
	// LagBytes is an estimate: the sum over partitions of the lag times the average bytes per
	// offset in the mirror's log.
	LagBytes   int64   `json:"lag_bytes"`
	LagSeconds float64 `json:"lag_seconds"` // since a partition last had everything; the longest
	// GroupsSynced: the promotion copies committed offsets of groups from the source. GroupsBehind
	// is the number of groups whose offsets at the source are not at the destination yet.
	// GroupsReason says why that number is not known, or which groups will not get their offsets.
	GroupsSynced bool   `json:"groups_synced"`
	GroupsBehind int32  `json:"groups_behind"`
	GroupsReason string `json:"groups_reason"`
	// OpenTransactions are the partitions that have an open transaction at the source.
	OpenTransactions []int32          `json:"open_transactions"`
	DirectAccess     directAccessJSON `json:"direct_access"`
}

func (a *app) mirrorPromote() *cobra.Command {
	var dryRun bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "promote [TOPIC...]",
		Short: "Stop mirroring once nothing is left to copy, and make the topics writable; cannot be undone",
		Long: `Stops mirroring once the mirror has every record of its source, and no new records have come for a moment. Stop the topic's producers
at the source before or during the promotion, since klink cannot keep them from writing there, and start them at the destination
afterwards. klink waits for transactions that are open at the source.

Until then mirroring continues, and the mirror is shown as PENDING_STOPPED. If the promotion is not complete after --timeout, klink
cancels it: the mirror is ACTIVE again, and the command says what it waited for. You can repeat an interrupted command; it waits for
the promotion in progress. "klink mirror resume" cancels the promotion, "klink mirror failover" stops the mirror at once.

With --dry-run nothing changes. For each topic the command shows whether the promotion could begin now, whether it would be complete at
once, and if not, what it would wait for: how far the mirror is behind in offsets, in bytes (an estimate: offsets times the average size
of an offset in the mirror's log) and in seconds since it last had everything; and whether a transaction is open at the source. It also
shows how many consumer groups have an offset at the source that is not at the destination yet, which the promotion would copy, and
whether clients can connect directly to the brokers afterwards.`,
	}
	which := a.addMirrorsFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if timeout < time.Millisecond || timeout > maxPromoteTimeout {
			return usagef("--timeout: %v is not between 1ms and %v", timeout, maxPromoteTimeout)
		}
		return a.withCluster(func(cl *cluster, adm *kadm.Client) error {
			topics, err := which.topics(cmd.Context(), cl, args)
			if err != nil {
				return err
			}
			e := &ending{a: a, cl: cl, topics: topics, op: linkapi.MirrorPromote, timeout: timeout}
			if dryRun {
				return e.promoteDryRun(cmd.Context(), adm)
			}
			return e.run(cmd.Context())
		})
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only show how far behind the mirrors are, and what the promotion would wait for")
	cmd.Flags().DurationVar(&timeout, "timeout", promoteTimeout, "how long the promotion may take before klink cancels it")
	return cmd
}

func (e *ending) promoteDryRun(ctx context.Context, adm *kadm.Client) error {
	verdicts, rows := []promoteVerdictJSON{}, [][]any{}
	var failures []error
	if len(e.topics) > 0 {
		checked, err := e.alter(ctx, true)
		if err != nil {
			return err
		}
		mirrors, err := describeMirrors(ctx, e.cl, e.topics)
		if err != nil {
			return err
		}
		sizes := logSizes(ctx, adm, mirrors)
		for i, m := range mirrors {
			err := resultError(checked[i].ErrorCode, checked[i].ErrorMessage)
			if err == nil {
				err = resultError(m.ErrorCode, m.ErrorMessage)
			}
			if err != nil {
				failures = append(failures, prefixed("topic", e.topics[i], err))
			}
			v := promoteVerdict(m, checked[i], err, sizes)
			verdicts = append(verdicts, v)
			rows = append(rows, []any{
				v.Topic, yesNo(v.Possible), verdictText(v), offset(v.Lag), offset(v.TotalLag), sizeText(v.LagBytes), secondsText(v.LagSeconds),
				groupsText(v), openTransactions(v.OpenTransactions), directAccessText(m),
			})
		}
	}
	err := e.a.show(verdicts, []string{
		"Mirror Topic", "Promote Possible", "Safe", "Max Per Partition Mirror Lag", "Mirror Lag", "Approximate Bytes", "Seconds", "Groups Behind", "Open Transaction", "Direct Access",
	}, rows)
	return errors.Join(append(failures, err)...)
}

// partitionID identifies a partition.
type partitionID struct {
	topic     string
	partition int32
}

// logSizes returns the log sizes in bytes of the mirrors that are behind. A size that no broker
// reports is missing.
func logSizes(ctx context.Context, adm *kadm.Client, mirrors []linkapi.DescribedMirror) map[partitionID]int64 {
	sizes := map[partitionID]int64{}
	var ask kadm.TopicsSet
	for _, m := range mirrors {
		for _, p := range m.Partitions {
			if p.Lag > 0 {
				ask.Add(m.Topic, p.Partition)
			}
		}
	}
	if len(ask) == 0 {
		return sizes
	}
	described, _ := adm.DescribeAllLogDirs(ctx, ask) // missing sizes are unknown
	described.Each(func(d kadm.DescribedLogDir) {
		d.Topics.Each(func(p kadm.DescribedLogDirPartition) {
			id := partitionID{p.Topic, p.Partition}
			sizes[id] = max(sizes[id], p.Size) // the largest replica
		})
	})
	return sizes
}

// hasOpenTransaction reports whether a transaction was open at the source when klink last saw it.
func hasOpenTransaction(p linkapi.DescribedPartition) bool {
	return p.SourceLastStableOffset >= 0 && p.SourceLastStableOffset < p.SourceEndOffset
}

// promoteVerdict summarizes a described mirror and klink's check of its promotion. refused is why
// it cannot be promoted, nil if it can.
func promoteVerdict(m linkapi.DescribedMirror, checked linkapi.AlteredMirror, refused error, sizes map[partitionID]int64) promoteVerdictJSON {
	v := promoteVerdictJSON{
		Topic: m.Topic, Possible: refused == nil, OpenTransactions: []int32{},
		GroupsSynced: checked.GroupsSynced, GroupsBehind: checked.GroupsBehind,
		DirectAccess: directAccessJSON{m.DirectAccess, m.DirectAccessReason},
	}
	if checked.GroupsMessage != nil {
		v.GroupsReason = *checked.GroupsMessage
	}
	if refused != nil {
		v.Reason = refused.Error()
	}
	if len(m.Partitions) == 0 {
		v.Lag, v.TotalLag, v.LagBytes, v.LagSeconds = -1, -1, -1, -1
	}
	for _, p := range m.Partitions {
		// The maximum and the sum are unknown if any partition's lag is.
		if p.Lag < 0 || v.Lag < 0 {
			v.Lag, v.TotalLag = -1, -1
		} else {
			v.Lag, v.TotalLag = max(v.Lag, p.Lag), v.TotalLag+p.Lag
		}
		if p.LagMs < 0 || v.LagSeconds < 0 {
			v.LagSeconds = -1
		} else {
			v.LagSeconds = max(v.LagSeconds, float64(p.LagMs)/1000)
		}
		if bytes := lagBytes(p, sizes[partitionID{m.Topic, p.Partition}]); bytes < 0 || v.LagBytes < 0 {
			v.LagBytes = -1
		} else {
			v.LagBytes += bytes
		}
		if hasOpenTransaction(p) {
			v.OpenTransactions = append(v.OpenTransactions, p.Partition)
		}
	}
	switch {
	case refused != nil:
	case m.State == "STOPPED":
		v.Safe, v.Reason = true, "it is already STOPPED"
	case m.Error != "":
		v.Reason = fmt.Sprintf("it cannot continue now (%s)", m.Error)
	case len(v.OpenTransactions) > 0:
		v.Reason = "it waits for a transaction that is open at the source"
	case v.Lag < 0:
		v.Reason = "its lag is unknown"
	case v.Lag > 0:
		v.Reason = "it waits until the lag is 0"
	case v.GroupsSynced && v.GroupsBehind < 0:
		v.Reason = "it has everything that its source had when it last answered, but may leave offsets of groups behind"
	default:
		v.Safe, v.Reason = true, "it has everything that its source had when it last answered"
		if v.GroupsBehind > 0 {
			v.Reason += fmt.Sprintf(", and carries over the offsets of %s", groupsCount(v.GroupsBehind))
		}
	}
	if refused == nil && v.GroupsReason != "" && m.State != "STOPPED" {
		v.Reason += "; " + v.GroupsReason
	}
	return v
}

func groupsCount(n int32) string {
	if n == 1 {
		return "1 group"
	}
	return fmt.Sprintf("%d groups", n)
}

func groupsText(v promoteVerdictJSON) string {
	switch {
	case v.GroupsSynced:
		return offset(int64(v.GroupsBehind))
	case !v.Possible:
		return "unknown"
	}
	return "not synced"
}

// lagBytes estimates the size in bytes of a partition's lag from the size of its log; -1 = unknown.
func lagBytes(p linkapi.DescribedPartition, size int64) int64 {
	switch {
	case p.Lag == 0:
		return 0
	case p.Lag < 0, size <= 0, p.MirrorStartOffset < 0, p.MirrorEndOffset <= p.MirrorStartOffset:
		return -1
	}
	return int64(float64(size) / float64(p.MirrorEndOffset-p.MirrorStartOffset) * float64(p.Lag))
}

func verdictText(v promoteVerdictJSON) string { return yesNo(v.Safe) + ": " + v.Reason }

func sizeText(bytes int64) string {
	switch {
	case bytes < 0:
		return "unknown"
	case bytes == 0:
		return "0"
	}
	return fmt.Sprintf("~%d", bytes)
}

func secondsText(seconds float64) string {
	if seconds < 0 {
		return "unknown"
	}
	return fmt.Sprintf("%.1f", seconds)
}

func openTransactions(partitions []int32) string {
	if len(partitions) == 0 {
		return "no"
	}
	return "partitions " + ids(partitions)
}
