package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"

	"klink/protocol/linkapi"
)

type describedMirrorJSON struct {
	Link         string                   `json:"link"`
	Topic        string                   `json:"topic"`
	SourceTopic  string                   `json:"source_topic"`
	State        string                   `json:"state"`
	Error        string                   `json:"error"`
	ErrorMessage string                   `json:"error_message"`
	StateTime    *string                  `json:"state_time"`
	DirectAccess directAccessJSON         `json:"direct_access"`
	Partitions   []describedPartitionJSON `json:"partitions"`
	ConfigDrift  []configDriftJSON        `json:"config_drift"`
	// Notices say how the topic differs from what klink made of it, and what to do.
	Notices []string `json:"notices"`
}

// configDriftJSON is a config of the topic that differs from the source's and does not follow it.
// null = that cluster has no value for it.
type configDriftJSON struct {
	Name        string  `json:"name"`
	SourceValue *string `json:"source_value"`
	MirrorValue *string `json:"mirror_value"`
}

// directAccessJSON says whether clients can connect directly to the brokers after promotion.
type directAccessJSON struct {
	Possible bool   `json:"possible"`
	Reason   string `json:"reason"`
}

// describedPartitionJSON has the source's offsets; -1 = unknown.
type describedPartitionJSON struct {
	Partition              int32   `json:"partition"`
	SourceStartOffset      int64   `json:"source_start_offset"`
	SourceEndOffset        int64   `json:"source_end_offset"`
	SourceLastStableOffset int64   `json:"source_last_stable_offset"`
	MirrorStartOffset      int64   `json:"mirror_start_offset"`
	MirrorEndOffset        int64   `json:"mirror_end_offset"`
	Lag                    int64   `json:"lag"`
	LastFetchTime          *string `json:"last_fetch_time"`
	Aligned                bool    `json:"aligned"`
	// Shift is the logical less the physical offset. ShiftBegan is the first offset that differs;
	// -1 = none.
	Shift       int64  `json:"shift"`
	ShiftBegan  int64  `json:"shift_began"`
	ShiftReason string `json:"shift_reason"`
	// JoinedBatches counts batches of the source that were appended as parts of others, since an
	// instance took over the mirror.
	JoinedBatches int64 `json:"joined_batches"`
}

func (a *app) mirrorDescribe() *cobra.Command {
	return &cobra.Command{
		Use:   "describe TOPIC",
		Short: "Show the state of a mirror topic and of its partitions",
		Long: `Shows the state of a mirror topic, how far each partition is behind its source, and whether clients can connect directly to
the brokers after mirroring has been stopped. They can if every partition is aligned, which means that its records have the
source's offsets in the broker's log too. If a partition is not aligned, it shows from which offset on, by how much, and why.

It lists the topic's configs that differ from the source's, except those that klink copies from the source (see
topic.config.sync.include). Notices show what else somebody changed, not through klink, and what to do: they wrote to the topic,
added partitions, deleted records or changed replicas.

Joined batches are batches of the source that klink has joined with others into one batch, since the current instance began to
copy the mirror (append.join.below).`,
		Args:              exactArgs("TOPIC"),
		ValidArgsFunction: a.completeMirrors(),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withCluster(func(cl *cluster, _ *kadm.Client) error {
				mirrors, err := describeMirrors(cmd.Context(), cl, args)
				if err != nil {
					return err
				}
				m := mirrors[0]
				if err := resultError(m.ErrorCode, m.ErrorMessage); err != nil {
					return prefixed("mirror", args[0], err)
				}
				return a.showMirror(m)
			})
		},
	}
}

// describeMirrors describes mirrors in the order of topics. Each result has its own error.
func describeMirrors(ctx context.Context, cl *cluster, topics []string) ([]linkapi.DescribedMirror, error) {
	resp, err := request[*linkapi.DescribeMirrorsResponse](ctx, cl, &linkapi.DescribeMirrorsRequest{Topics: topics})
	if err != nil {
		return nil, err
	}
	if err := resultError(resp.ErrorCode, resp.ErrorMessage); err != nil {
		return nil, err
	}
	if len(resp.Mirrors) != len(topics) {
		return nil, fmt.Errorf("%s answered with %d results for %d mirrors", cl.address, len(resp.Mirrors), len(topics))
	}
	return resp.Mirrors, nil
}

func describedPartition(p linkapi.DescribedPartition) describedPartitionJSON {
	return describedPartitionJSON{
		Partition: p.Partition, SourceStartOffset: p.SourceStartOffset, SourceEndOffset: p.SourceEndOffset,
		SourceLastStableOffset: p.SourceLastStableOffset, MirrorStartOffset: p.MirrorStartOffset, MirrorEndOffset: p.MirrorEndOffset,
		Lag: p.Lag, LastFetchTime: timeText(p.LastFetchTimeMs), Aligned: p.Aligned, Shift: p.Shift, ShiftBegan: p.ShiftBegan,
		ShiftReason: p.ShiftReason, JoinedBatches: p.JoinedBatches,
	}
}

func (a *app) showMirror(m linkapi.DescribedMirror) error {
	out := describedMirrorJSON{
		m.Link, m.Topic, m.SourceTopic, m.State, m.Error, m.StateMessage, timeText(m.StateTimeMs),
		directAccessJSON{m.DirectAccess, m.DirectAccessReason},
		[]describedPartitionJSON{},
		[]configDriftJSON{},
		append([]string{}, m.Notices...),
	}
	joined := int64(0)
	rows, shifts, drift := [][]any{}, [][]any{}, [][]any{}
	for _, p := range m.Partitions {
		out.Partitions = append(out.Partitions, describedPartition(p))
		joined += p.JoinedBatches
		rows = append(rows, []any{
			p.Partition, offset(p.SourceEndOffset), offset(p.MirrorEndOffset), offset(p.Lag), orDash(timeText(p.LastFetchTimeMs)),
			offset(p.SourceLastStableOffset), yesNo(p.Aligned),
		})
		if !p.Aligned {
			shifts = append(shifts, []any{p.Partition, offset(p.ShiftBegan), p.Shift, orDash(&p.ShiftReason)})
		}
	}
	for _, d := range m.ConfigDrift {
		out.ConfigDrift = append(out.ConfigDrift, configDriftJSON{d.Name, d.SourceValue, d.MirrorValue})
		drift = append(drift, []any{d.Name, orDash(d.SourceValue), orDash(d.MirrorValue)})
	}
	if a.output == "json" {
		return a.json(out)
	}
	a.table([]string{"Mirror Topic", m.Topic}, [][]any{
		{"Link", m.Link},
		{"Source Topic", m.SourceTopic},
		{"State", m.State},
		{"Error", orDash(&m.Error)},
		{"Error Message", orDash(&m.StateMessage)},
		{"State Time", orDash(out.StateTime)},
		{"Direct Access", directAccessText(m)},
		{"Joined Batches", joined},
	})
	for _, n := range m.Notices {
		fmt.Fprintln(a.out, "\nNotice: "+n)
	}
	fmt.Fprintln(a.out)
	a.table([]string{"Partition", "Source End Offset", "Mirror End Offset", "Lag", "Last Fetch Time", "Source Last Stable Offset", "Aligned"}, rows)
	if len(shifts) > 0 {
		fmt.Fprintln(a.out)
		a.table([]string{"Not Aligned Partition", "From Offset", "Shift", "Reason"}, shifts)
	}
	if len(drift) > 0 {
		fmt.Fprintln(a.out, "\nConfigs that differ from the source and are not copied from it:")
		a.table([]string{"Config", "Source Value", "Mirror Value"}, drift)
	}
	return nil
}

func directAccessText(m linkapi.DescribedMirror) string {
	return yesNo(m.DirectAccess) + ": " + m.DirectAccessReason
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
