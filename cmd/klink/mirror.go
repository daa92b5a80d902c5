package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"

	"klink/protocol/linkapi"
)

func (a *app) mirrorCommand() *cobra.Command {
	return group("mirror", "Show, pause, resume and stop mirror topics",
		a.mirrorList(), a.mirrorDescribe(),
		a.mirrorAlter("pause", "Pause mirroring; the topics stay read-only", linkapi.MirrorPause, "Paused mirroring for topic %q.\n"),
		a.mirrorAlter("resume", "Resume mirroring after a pause", linkapi.MirrorResume, "Resumed mirroring for topic %q.\n"),
		a.mirrorPromote(),
		a.mirrorFailover("failover", "Stop mirroring at once and make the topics writable; cannot be undone"),
	)
}

// topicMirrorCommand is the older spelling of failover.
func (a *app) topicMirrorCommand() *cobra.Command {
	return group("mirror", "Stop mirror topics",
		a.mirrorFailover("stop", "Stop mirroring at once and make the topics writable; the same as `klink mirror failover`"))
}

type listedMirrorJSON struct {
	Link          string  `json:"link"`
	Topic         string  `json:"topic"`
	SourceTopic   string  `json:"source_topic"`
	State         string  `json:"state"`
	Error         string  `json:"error"`
	StateTime     *string `json:"state_time"`
	NumPartitions int32   `json:"num_partitions"`
	MaxLag        int64   `json:"max_lag"`
}

func listMirrors(ctx context.Context, cl *cluster, link *string) ([]linkapi.ListedMirror, error) {
	resp, err := request[*linkapi.ListMirrorsResponse](ctx, cl, &linkapi.ListMirrorsRequest{Link: link, IncludeStopped: true})
	if err != nil {
		return nil, err
	}
	return resp.Mirrors, resultError(resp.ErrorCode, resp.ErrorMessage)
}

func (a *app) completeMirrors() func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return a.completion(func(ctx context.Context, cl *cluster) (names []string, err error) {
		mirrors, err := listMirrors(ctx, cl, nil)
		for _, m := range mirrors {
			names = append(names, m.Topic)
		}
		return names, err
	})
}

func (a *app) mirrorList() *cobra.Command {
	var link string
	cmd := &cobra.Command{
		Use:   "list [--link LINK]",
		Short: "List the mirror topics, including stopped ones",
		Args:  exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withCluster(func(cl *cluster, _ *kadm.Client) error {
				var only *string
				if cmd.Flags().Changed("link") {
					only = &link
				}
				mirrors, err := listMirrors(cmd.Context(), cl, only)
				if err != nil {
					return err
				}
				list, rows := []listedMirrorJSON{}, [][]any{}
				for _, m := range mirrors {
					list = append(list, listedMirrorJSON{m.Link, m.Topic, m.SourceTopic, m.State, m.Error, timeText(m.StateTimeMs), m.NumPartitions, m.MaxLag})
					status := m.State
					if m.Error != "" {
						status += " (" + m.Error + ")"
					}
					rows = append(rows, []any{m.Link, m.Topic, m.SourceTopic, status, orDash(timeText(m.StateTimeMs)), m.NumPartitions, offset(m.MaxLag)})
				}
				return a.show(list, []string{"Link Name", "Mirror Topic Name", "Source Topic Name", "Mirror Status", "Status Time", "Num Partitions", "Max Per Partition Mirror Lag"}, rows)
			})
		},
	}
	cmd.Flags().StringVar(&link, "link", "", "only mirrors of `LINK`")
	_ = cmd.RegisterFlagCompletionFunc("link", a.completeLinks())
	return cmd
}

// mirrorAlter makes a command that changes mirrors. It prints each success, even if others fail.
func (a *app) mirrorAlter(use, short string, op int8, done string) *cobra.Command {
	var dryRun bool
	cmd := &cobra.Command{
		Use:               use + " TOPIC...",
		Short:             short,
		Args:              minArgs("TOPIC"),
		ValidArgsFunction: a.completeMirrors(),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withCluster(func(cl *cluster, _ *kadm.Client) error {
				req := &linkapi.AlterMirrorsRequest{TimeoutMs: timeoutMs, ValidateOnly: dryRun}
				for _, topic := range args {
					req.Mirrors = append(req.Mirrors, linkapi.AlterMirror{Topic: topic, Op: op})
				}
				resp, err := request[*linkapi.AlterMirrorsResponse](cmd.Context(), cl, req)
				if err != nil {
					return err
				}
				var failures []error
				for _, r := range resp.Results {
					switch err := resultError(r.ErrorCode, r.ErrorMessage); {
					case err != nil:
						failures = append(failures, prefixed("topic", r.Name, err))
					case dryRun:
						fmt.Fprintf(a.out, "Topic %q: %s is possible.\n", r.Name, use)
					default:
						fmt.Fprintf(a.out, done, r.Name)
					}
				}
				return errors.Join(failures...)
			})
		},
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only check whether it is possible")
	return cmd
}
