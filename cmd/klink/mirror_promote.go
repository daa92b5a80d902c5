package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"

	"klink/protocol/linkapi"
)

// promoteVerdictJSON is what `mirror promote --dry-run` says of a topic.
type promoteVerdictJSON struct {
	Topic string `json:"topic"`
	// Possible: promoting could begin now; Reason says why not. It ends once Lag is 0, which it cannot be while a
	// transaction is open at the source.
	Possible bool   `json:"possible"`
	Reason   string `json:"reason"`
	Lag      int64  `json:"lag"` // the largest of the partitions; -1 = unknown
	// OpenTransactions are the partitions in which a transaction is open at the source.
	OpenTransactions []int32          `json:"open_transactions"`
	DirectAccess     directAccessJSON `json:"direct_access"`
}

func (a *app) mirrorPromote() *cobra.Command {
	cmd := a.mirrorAlter("promote", "Stop mirroring once nothing is left to copy, and make the topics writable; not reversible", linkapi.MirrorPromote, stopped)
	cmd.Long = `Stops mirroring once the mirror has every record of its source. With --dry-run nothing is changed: for each topic it shows
whether that could begin now, how far the mirror is behind, whether a transaction that is open at the source is in the way, and
whether clients can go straight to the brokers afterwards.`
	change := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if dry, _ := cmd.Flags().GetBool("dry-run"); dry {
			return a.promoteDryRun(cmd, args)
		}
		return change(cmd, args)
	}
	return cmd
}

func (a *app) promoteDryRun(cmd *cobra.Command, topics []string) error {
	return a.withCluster(func(cl *cluster, _ *kadm.Client) error {
		req := &linkapi.AlterMirrorsRequest{TimeoutMs: timeoutMs, ValidateOnly: true}
		for _, topic := range topics {
			req.Mirrors = append(req.Mirrors, linkapi.AlterMirror{Topic: topic, Op: linkapi.MirrorPromote})
		}
		checked, err := request[*linkapi.AlterMirrorsResponse](cmd.Context(), cl, req)
		if err != nil {
			return err
		}
		if len(checked.Results) != len(topics) {
			return fmt.Errorf("%s answered with %d results for %d mirrors", cl.address, len(checked.Results), len(topics))
		}
		mirrors, err := describeMirrors(cmd.Context(), cl, topics)
		if err != nil {
			return err
		}
		verdicts, rows := []promoteVerdictJSON{}, [][]any{}
		var failures []error
		for i, m := range mirrors {
			err := resultError(checked.Results[i].ErrorCode, checked.Results[i].ErrorMessage)
			if err == nil {
				err = resultError(m.ErrorCode, m.ErrorMessage)
			}
			if err != nil {
				failures = append(failures, prefixed("topic", topics[i], err))
			}
			v := promoteVerdict(m, err)
			verdicts = append(verdicts, v)
			rows = append(rows, []any{v.Topic, yesNo(v.Possible), offset(v.Lag), openTransactions(v.OpenTransactions), directAccessText(m)})
		}
		if err := a.show(verdicts, []string{"Mirror Topic", "Promote Possible", "Max Per Partition Mirror Lag", "Open Transaction", "Direct Access"}, rows); err != nil {
			return err
		}
		return errors.Join(failures...)
	})
}

// promoteVerdict sums up a described mirror; refused is why it cannot be promoted, nil if it can.
func promoteVerdict(m linkapi.DescribedMirror, refused error) promoteVerdictJSON {
	v := promoteVerdictJSON{
		Topic: m.Topic, Possible: refused == nil, OpenTransactions: []int32{}, DirectAccess: directAccessJSON{m.DirectAccess, m.DirectAccessReason},
	}
	if refused != nil {
		v.Reason = refused.Error()
	}
	if len(m.Partitions) == 0 {
		v.Lag = -1
	}
	for _, p := range m.Partitions {
		switch {
		case p.Lag < 0 || v.Lag < 0:
			v.Lag = -1 // the largest of several is not known when one of them is not
		default:
			v.Lag = max(v.Lag, p.Lag)
		}
		if p.SourceLastStableOffset >= 0 && p.SourceLastStableOffset < p.SourceEndOffset {
			v.OpenTransactions = append(v.OpenTransactions, p.Partition)
		}
	}
	return v
}

func openTransactions(partitions []int32) string {
	if len(partitions) == 0 {
		return "no"
	}
	return "partitions " + ids(partitions)
}
