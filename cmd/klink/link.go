package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"

	"klink/admin/linkconfig"
	"klink/protocol/linkapi"
)

func (a *app) linkCommand() *cobra.Command {
	return group("link", "Create, show, change and delete cluster links",
		a.linkCreate(), a.linkList(), a.linkDescribe(), a.linkUpdate(), a.linkDelete(), a.linkTaskCommand(), a.linkACL())
}

// timeoutMs is the time-out in requests of the link API.
const timeoutMs = int32(requestTimeout / time.Millisecond)

func (a *app) linkCreate() *cobra.Command {
	var (
		source                      linkSource
		dryRun, noValidate, connect bool
	)
	cmd := &cobra.Command{
		Use:   "create NAME --config-file FILE [--config KEY=VALUE]...",
		Short: "Create a link to a source cluster",
		Long: `Creates a link from the cluster behind klink to a source cluster. FILE has the address and the credentials of the
source as Java client properties, and any link configs; --help lists them. Client properties that links do not use are
not sent. Before it creates the link, klink connects to each broker of the source at the address that it advertises, and
refuses a link to a source that it could not read. klink reads the files that FILE names, such as ssl.truststore.location,
on its own machine, and only in its --link-file-directories. --config also accepts the JSON of filters alone.

With --dry-run klink checks the configs and changes nothing. It does not connect to the source, unless --connect says so.

` + configValuesHelp + `

` + keepReferencesHelp,
		Example: `  klink link create east-west --config-file source.config
  klink link create east-west --config-file source.config --config 'ssl.truststore.certificates=${dir:/etc/pki:source-ca.pem}'
  klink link create east-west --config-file source.config --config auto.create.mirror.topics.enable=true \
    --config '{"topicFilters":[{"name":"orders-","patternType":"PREFIXED","filterType":"INCLUDE"}]}'`,
		Args: exactArgs("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			configs, err := source.configs(a)
			if err != nil {
				return err
			}
			if connect && !dryRun {
				return usagef("--connect is only for --dry-run: without it, klink connects to the source in any case, or not at all with --no-validate")
			}
			if len(configs) == 0 {
				return usagef("no source given for the link: use --config-file, or --config bootstrap.servers=HOST:PORT")
			}
			link := linkapi.CreateLink{Name: args[0]}
			for _, key := range slices.Sorted(maps.Keys(configs)) {
				value := configs[key]
				link.Configs = append(link.Configs, linkapi.Config{Name: key, Value: &value})
			}
			watch, err := a.watchSecrets(configs)
			if err != nil {
				return err
			}
			return a.withCluster(func(cl *cluster, _ *kadm.Client) error {
				resp, err := request[*linkapi.CreateLinksResponse](cmd.Context(), cl, &linkapi.CreateLinksRequest{
					TimeoutMs: timeoutMs, ValidateOnly: dryRun, SkipConnect: noValidate || dryRun && !connect, Links: []linkapi.CreateLink{link},
				})
				if err != nil {
					return err
				}
				if len(resp.Results) != 1 {
					return fmt.Errorf("%s answered with %d results for one link", cl.address, len(resp.Results))
				}
				r := resp.Results[0]
				if err := resultError(r.ErrorCode, r.ErrorMessage); err != nil {
					return prefixed("link", args[0], err)
				}
				switch {
				case !dryRun:
					fmt.Fprintf(a.out, "Created cluster link %q.\n", args[0])
				case connect:
					fmt.Fprintf(a.out, "Cluster link %q can be created.\n", args[0])
				default:
					fmt.Fprintf(a.out, "The configs of cluster link %q are valid. klink has not connected to the source: add --connect for that.\n", args[0])
				}
				return nil
			}, watch...)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&source.file, "config-file", "", "`FILE` of properties: the source's address and credentials, and link configs")
	flags.StringArrayVar(&source.pairs, "config", nil, "link config `KEY=VALUE`, or the JSON of filters, on top of the file; may be repeated")
	flags.BoolVar(&source.keep, "keep-references", false, keepReferencesUsage)
	flags.BoolVar(&dryRun, "dry-run", false, "only check the configs")
	flags.BoolVar(&connect, "connect", false, "with --dry-run, also connect to the source")
	flags.BoolVar(&noValidate, "no-validate", false, "do not connect to the source and its brokers first")
	cmd.SetUsageTemplate(cmd.UsageTemplate() + "\nLink configs:\n\n" + indent(linkconfig.Help()))
	return cmd
}

// indent indents text by two columns.
func indent(text string) string {
	return "  " + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n  ") + "\n"
}

type listedLinkJSON struct {
	Name            string `json:"name"`
	ID              string `json:"id"`
	State           string `json:"state"`
	Error           string `json:"error"`
	SourceClusterID string `json:"source_cluster_id"`
	Mirrors         int32  `json:"mirrors"`
}

func listLinks(ctx context.Context, cl *cluster) ([]linkapi.ListedLink, error) {
	resp, err := request[*linkapi.ListLinksResponse](ctx, cl, &linkapi.ListLinksRequest{})
	if err != nil {
		return nil, err
	}
	return resp.Links, resultError(resp.ErrorCode, resp.ErrorMessage)
}

func (a *app) completeLinks() func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return a.completion(func(ctx context.Context, cl *cluster) (names []string, err error) {
		links, err := listLinks(ctx, cl)
		for _, l := range links {
			names = append(names, l.Name)
		}
		return names, err
	})
}

func (a *app) linkList() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the links",
		Args:  exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withCluster(func(cl *cluster, _ *kadm.Client) error {
				links, err := listLinks(cmd.Context(), cl)
				if err != nil {
					return err
				}
				list, rows := []listedLinkJSON{}, [][]any{}
				for _, l := range links {
					list = append(list, listedLinkJSON{l.Name, l.ID, l.State, l.Error, l.SourceClusterID, l.MirrorCount})
					rows = append(rows, []any{l.Name, l.State, orDash(&l.Error), l.SourceClusterID, l.MirrorCount})
				}
				return a.show(list, []string{"Link Name", "State", "Error", "Source Cluster", "Mirror Topics"}, rows)
			})
		},
	}
}

type describedLinkJSON struct {
	Name                 string            `json:"name"`
	ID                   string            `json:"id"`
	State                string            `json:"state"`
	Error                string            `json:"error"`
	ErrorMessage         string            `json:"error_message"`
	SourceClusterID      string            `json:"source_cluster_id"`
	DestinationClusterID string            `json:"destination_cluster_id"`
	Configs              map[string]string `json:"configs"`
}

func (a *app) linkDescribe() *cobra.Command {
	return &cobra.Command{
		Use:               "describe NAME",
		Short:             "Show the state and the configs of a link",
		Args:              exactArgs("NAME"),
		ValidArgsFunction: a.completeLinks(),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withCluster(func(cl *cluster, _ *kadm.Client) error {
				resp, err := request[*linkapi.DescribeLinksResponse](cmd.Context(), cl, &linkapi.DescribeLinksRequest{Names: args})
				if err != nil {
					return err
				}
				if err := resultError(resp.ErrorCode, resp.ErrorMessage); err != nil {
					return err
				}
				if len(resp.Links) != 1 {
					return fmt.Errorf("%s answered with %d results for one link", cl.address, len(resp.Links))
				}
				l := resp.Links[0]
				if err := resultError(l.ErrorCode, l.ErrorMessage); err != nil {
					return prefixed("link", args[0], err)
				}
				return a.showLink(l)
			})
		},
	}
}

func (a *app) showLink(l linkapi.DescribedLink) error {
	if a.output == "json" {
		configs := map[string]string{}
		for _, c := range l.Configs {
			if c.Value != nil {
				configs[c.Name] = *c.Value
			}
		}
		return a.json(describedLinkJSON{l.Name, l.ID, l.State, l.Error, l.StateMessage, l.SourceClusterID, l.DestinationClusterID, configs})
	}
	a.table([]string{"Link", l.Name}, [][]any{
		{"Id", l.ID},
		{"State", l.State},
		{"Error", orDash(&l.Error)},
		{"Error Message", orDash(&l.StateMessage)},
		{"Source Cluster", orDash(&l.SourceClusterID)},
		{"Destination Cluster", orDash(&l.DestinationClusterID)},
	})
	fmt.Fprintln(a.out)
	rows := [][]any{}
	for _, c := range l.Configs {
		set := "yes"
		if c.IsDefault {
			set = "default"
		}
		value := ""
		if c.Value != nil {
			value = *c.Value
		}
		rows = append(rows, []any{c.Name, paragraph(value), set}) // PEM has several lines
	}
	a.table([]string{"Config", "Value", "Set"}, rows)
	return nil
}

func (a *app) linkUpdate() *cobra.Command {
	var (
		source  linkSource
		deletes []string
		dryRun  bool
	)
	cmd := &cobra.Command{
		Use:   "update NAME [--config KEY=VALUE]... [--config-file FILE]",
		Short: "Change configs of a link",
		Long: "Changes configs of a link: all of them, or none if klink refuses one. Configs that you do not name do not change. " +
			"`klink link create --help` lists all configs. The JSON of filters alone, an object with groupFilters, aclFilters or topicFilters, sets " +
			"the config for them; it replaces all filters of that kind. If you change where or how klink logs in at the source, also give the " +
			"link's secrets, even if they stay the same.\n\n" + configValuesHelp + "\n\n" + keepReferencesHelp,
		Example: `  klink link update east-west --config metadata.max.age.ms=5000
  klink link update east-west --config cluster.link.paused=true
  klink link update east-west --config '{"topicFilters":[{"name":"*","patternType":"LITERAL","filterType":"INCLUDE"}]}'`,
		Args:              exactArgs("NAME"),
		ValidArgsFunction: a.completeLinks(),
		RunE: func(cmd *cobra.Command, args []string) error {
			configs, err := source.configs(a)
			if err != nil {
				return err
			}
			link := linkapi.AlterLink{Name: args[0]}
			for _, key := range slices.Sorted(maps.Keys(configs)) {
				value := configs[key]
				link.Configs = append(link.Configs, linkapi.AlterConfig{Name: key, Op: linkapi.ConfigSet, Value: &value})
			}
			for _, key := range deletes {
				link.Configs = append(link.Configs, linkapi.AlterConfig{Name: key, Op: linkapi.ConfigDelete})
			}
			if len(link.Configs) == 0 {
				return usagef("nothing to change: give --config, --config-file or --delete-config")
			}
			watch, err := a.watchSecrets(configs)
			if err != nil {
				return err
			}
			return a.withCluster(func(cl *cluster, _ *kadm.Client) error {
				resp, err := request[*linkapi.AlterLinkConfigsResponse](cmd.Context(), cl, &linkapi.AlterLinkConfigsRequest{
					TimeoutMs: timeoutMs, ValidateOnly: dryRun, Links: []linkapi.AlterLink{link},
				})
				if err != nil {
					return err
				}
				if err := firstError("link", resp.Results); err != nil {
					return err
				}
				if dryRun {
					fmt.Fprintf(a.out, "Cluster link %q can be updated.\n", args[0])
				} else {
					fmt.Fprintf(a.out, "Updated cluster link %q.\n", args[0])
				}
				return nil
			}, watch...)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&source.file, "config-file", "", "`FILE` of properties to set")
	flags.StringArrayVar(&source.pairs, "config", nil, "link config `KEY=VALUE` to set, or the JSON of filters, on top of the file; may be repeated")
	flags.BoolVar(&source.keep, "keep-references", false, keepReferencesUsage)
	flags.StringArrayVar(&deletes, "delete-config", nil, "link config `KEY` to reset to its default; may be repeated")
	flags.BoolVar(&dryRun, "dry-run", false, "only check whether the link could be changed")
	return cmd
}

func (a *app) linkDelete() *cobra.Command {
	var force, dryRun bool
	cmd := &cobra.Command{
		Use:   "delete NAME [--force]",
		Short: "Delete a link",
		Long: `Deletes a link. klink refuses if the link has mirrors that are not stopped, unless you stop them with --force. Topics
and their records are kept.`,
		Args:              exactArgs("NAME"),
		ValidArgsFunction: a.completeLinks(),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withCluster(func(cl *cluster, _ *kadm.Client) error {
				resp, err := request[*linkapi.DeleteLinksResponse](cmd.Context(), cl, &linkapi.DeleteLinksRequest{
					TimeoutMs: timeoutMs, ValidateOnly: dryRun, Force: force, Names: args,
				})
				if err != nil {
					return err
				}
				if err := firstError("link", resp.Results); err != nil {
					return err
				}
				if dryRun {
					fmt.Fprintf(a.out, "Cluster link %q can be deleted.\n", args[0])
				} else {
					fmt.Fprintf(a.out, "Deleted cluster link %q.\n", args[0])
				}
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "stop the link's mirrors first")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only check whether the link could be deleted")
	return cmd
}

// firstError returns the first error among results that each name a link or a topic.
func firstError(kind string, results []linkapi.NameResult) error {
	for _, r := range results {
		if err := resultError(r.ErrorCode, r.ErrorMessage); err != nil {
			return prefixed(kind, r.Name, err)
		}
	}
	return nil
}
