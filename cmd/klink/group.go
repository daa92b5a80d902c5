package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"

	"klink/protocol/linkapi"
)

func (a *app) groupCommand() *cobra.Command {
	return group("group", "Move consumer groups to the destination", a.groupMigrate())
}

// migratedGroupJSON is a group that was moved, or would be with --dry-run.
type migratedGroupJSON struct {
	Group      string                  `json:"group"`
	Link       string                  `json:"link"`
	Migrated   bool                    `json:"migrated"` // its consumers may start at the destination
	Error      string                  `json:"error"`
	Partitions []migratedPartitionJSON `json:"partitions"`
}

type migratedPartitionJSON struct {
	Topic             string `json:"topic"`
	Partition         int32  `json:"partition"`
	SourceOffset      int64  `json:"source_offset"`
	DestinationOffset int64  `json:"destination_offset"` // -1 = none
	ClampedBy         int64  `json:"clamped_by"`         // -1 = unknown
}

func (a *app) groupMigrate() *cobra.Command {
	var (
		link          string
		force, dryRun bool
	)
	cmd := &cobra.Command{
		Use:   "migrate GROUP... --link LINK",
		Short: "Copy a group's offsets one last time, so that its consumers can start at the destination",
		Long: `Moves a consumer group to the destination. Stop its consumers at the source first. klink copies the offsets that the group has
committed there to the mirrors of the link one last time, and excludes the group in consumer.offset.group.filters of the link,
so that it leaves the group's offsets alone from then on. Then start the consumers at the destination. The group need not have
been synced before. You can safely repeat the command.

The table shows what the group has committed on both sides. Clamped By is how far a mirror ends below the source's offset (klink
waits some seconds for the mirror); the group then begins at the mirror's end. A higher offset at the destination was committed
there by somebody, and klink keeps it.`,
		Example:           `  klink group migrate billing --link east-west`,
		Args:              minArgs("GROUP"),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			if link == "" {
				return usagef("--link LINK is missing")
			}
			req := &linkapi.MigrateGroupsRequest{TimeoutMs: timeoutMs, ValidateOnly: dryRun}
			for _, g := range args {
				req.Groups = append(req.Groups, linkapi.MigrateGroup{Group: g, Link: link, Force: force})
			}
			return a.withCluster(func(cl *cluster, _ *kadm.Client) error {
				return a.migrateGroups(cmd.Context(), cl, req)
			})
		},
	}
	cmd.Flags().StringVar(&link, "link", "", "the `LINK` through which the group moves")
	cmd.Flags().BoolVar(&force, "force", false, "move the group even if it is active at the source; later commits there are not copied")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only show what would change")
	_ = cmd.RegisterFlagCompletionFunc("link", a.completeLinks())
	return cmd
}

func (a *app) migrateGroups(ctx context.Context, cl *cluster, req *linkapi.MigrateGroupsRequest) error {
	resp, err := request[*linkapi.MigrateGroupsResponse](ctx, cl, req)
	if err != nil {
		return err
	}
	if len(resp.Results) != len(req.Groups) {
		return fmt.Errorf("%s answered with %d results for %d groups", cl.address, len(resp.Results), len(req.Groups))
	}
	list, rows := []migratedGroupJSON{}, [][]any{}
	var failures []error
	var migrated []string
	for _, g := range resp.Results {
		out := migratedGroupJSON{Group: g.Group, Link: g.Link, Partitions: []migratedPartitionJSON{}}
		if err := resultError(g.ErrorCode, g.ErrorMessage); err != nil {
			failures = append(failures, prefixed("group", g.Group, err))
			out.Error = err.Error()
		} else if !req.ValidateOnly {
			out.Migrated = true
			migrated = append(migrated, g.Group)
		}
		for _, p := range g.Partitions {
			out.Partitions = append(out.Partitions, migratedPartitionJSON{p.Topic, p.Partition, p.SourceOffset, p.DestinationOffset, p.ClampedBy})
			destination := "none"
			if p.DestinationOffset >= 0 {
				destination = offset(p.DestinationOffset)
			}
			rows = append(rows, []any{g.Group, p.Topic, p.Partition, p.SourceOffset, destination, offset(p.ClampedBy)})
		}
		list = append(list, out)
	}
	if len(rows) > 0 || a.output == "json" {
		if err := a.show(list, []string{"Group", "Topic", "Partition", "Source Offset", "Destination Offset", "Clamped By"}, rows); err != nil {
			return err
		}
	}
	if a.output != "json" {
		for _, g := range migrated {
			fmt.Fprintf(a.out, "Group %q has moved: its consumers may start at the destination.\n", g)
		}
	}
	return errors.Join(failures...)
}
