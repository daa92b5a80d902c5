package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"klink/admin/needs"
	"klink/internal/kafkaclient"
	"klink/protocol/linkapi"
)

// checkTimeout bounds a check. Brokers that do not answer one request cost ten seconds.
const checkTimeout = 2 * time.Minute

// needJSON is a need as `klink check` shows it.
type needJSON struct {
	Side        string `json:"side"`
	Kind        string `json:"kind"`
	Name        string `json:"name"`
	For         string `json:"for"`
	Required    bool   `json:"required"`
	State       string `json:"state"`
	Consequence string `json:"consequence"`
	Detail      string `json:"detail"`
}

type checkJSON struct {
	ClusterID string     `json:"cluster_id"`
	Needs     []needJSON `json:"needs"`
}

func (a *app) checkCommand() *cobra.Command {
	var (
		destination bool
		link, file  string
	)
	cmd := &cobra.Command{
		Use:   "check (--destination | --link NAME | --destination-config FILE)",
		Short: "Show what klink needs of a cluster, and what is lost without it",
		Long: `Asks the destination, or the source of a link, for every API, right and limit that klink needs, and shows for what, whether it
is there, and what is lost without it. States are ok; missing: the cluster does not have it, or not enough; denied: the user may not
use it; unknown: the cluster cannot be asked, or there is nothing yet to ask about. Nothing is changed at the cluster.

The klink at the address asks, with its own credentials or those of the link. With --destination-config the command itself asks, so
that a destination can be checked before klink runs: FILE has bootstrap.servers, and the credentials that klink is to have.

The exit code is 1 if something that klink cannot mirror without is missing or denied.`,
		Example: `  klink check --destination
  klink check --link east-west -o json
  klink check --destination-config klink.config`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			given := 0
			for _, is := range []bool{destination, link != "", file != ""} {
				if is {
					given++
				}
			}
			if given != 1 {
				return usagef("give one of --destination, --link and --destination-config")
			}
			if file != "" {
				return a.checkDirectly(cmd.Context(), file)
			}
			return a.withCluster(func(cl *cluster, _ *kadm.Client) error {
				req := &linkapi.CheckClusterRequest{TimeoutMs: int32(checkTimeout.Milliseconds())}
				if link != "" {
					req.Link = &link
				}
				resp, err := request[*linkapi.CheckClusterResponse](cmd.Context(), cl, req)
				if err != nil {
					return err
				}
				if err := resultError(resp.ErrorCode, resp.ErrorMessage); err != nil {
					return err
				}
				return a.showCheck(resp.ClusterID, resp.Needs)
			})
		},
	}
	cmd.Flags().BoolVar(&destination, "destination", false, "check the destination of klink")
	cmd.Flags().StringVar(&link, "link", "", "check the source of the link `NAME`")
	cmd.Flags().StringVar(&file, "destination-config", "", "check the cluster of this `FILE` of Java client properties as a destination, without klink")
	_ = cmd.RegisterFlagCompletionFunc("link", a.completeLinks())
	return cmd
}

// checkDirectly checks a destination without a klink.
func (a *app) checkDirectly(ctx context.Context, file string) error {
	p, err := kafkaclient.Load(file)
	if err != nil {
		return fmt.Errorf("--destination-config: %w", err)
	}
	opts, err := p.Options()
	if err != nil {
		return fmt.Errorf("--destination-config: %w", err)
	}
	if p["bootstrap.servers"] == "" {
		return usagef("--destination-config: %s must have bootstrap.servers", file)
	}
	client, err := kgo.NewClient(append(opts, kgo.RequestRetries(2))...)
	if err != nil {
		return fmt.Errorf("--destination-config: %w", err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	id, found, err := needs.Check(ctx, needs.Options{Side: needs.Destination, Client: client})
	if err != nil {
		return fmt.Errorf("%s: %w", p["bootstrap.servers"], err)
	}
	return a.showCheck(id, found)
}

// showCheck prints a row for each need. The error names what is required and not there.
func (a *app) showCheck(clusterID string, found []linkapi.ClusterNeed) error {
	out, rows := checkJSON{clusterID, []needJSON{}}, [][]any{}
	var lacking []string
	for _, n := range found {
		out.Needs = append(out.Needs, needJSON{n.Side, n.Kind, n.Name, n.Use, n.Required, n.State, n.Consequence, n.Detail})
		required := "no"
		if n.Required {
			required = "yes"
		}
		if n.Required && (n.State == linkapi.NeedMissing || n.State == linkapi.NeedDenied) {
			lacking = append(lacking, n.Name)
		}
		rows = append(rows, []any{n.State, n.Kind, n.Name, required, n.Use, n.Consequence, orDash(&n.Detail)})
	}
	if err := a.show(out, []string{"State", "Kind", "Need", "Required", "For", "Without It", "Detail"}, rows); err != nil {
		return err
	}
	if len(lacking) > 0 {
		return fmt.Errorf("klink cannot mirror without: %s", strings.Join(lacking, ", "))
	}
	return nil
}
