package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"klink/internal/kafkaclient"
)

func (a *app) contextCommand() *cobra.Command {
	return group("context", "Name clusters, so that commands can use them with --cluster",
		a.contextCreate(), a.contextUse(), a.contextList(), a.contextShow(), a.contextDelete())
}

func (a *app) contextCreate() *cobra.Command {
	var (
		configs []string
		check   bool
	)
	cmd := &cobra.Command{
		Use:   "create NAME --bootstrap-server HOST:PORT [--command-config FILE] [--config KEY=VALUE]... [--check]",
		Short: "Store the address and client properties of a cluster under a name",
		Long: `Stores the address and client properties of a cluster under a name, in a file that only you can read. The first
context becomes the current one. An existing context with the same name is replaced. Properties that klink does not use
are not stored.

With --check the command first connects to each broker at the address that it advertises, as clients do; at klink, to each of
its ports. It prints a line for each broker, and if one fails, it stores nothing.

` + configValuesHelp + `

A context keeps references in secrets: they are looked up whenever the context is used.`,
		Example: `  klink context create src --bootstrap-server source.example:9092 --command-config source.config
  klink context create dst --bootstrap-server klink.example:19092
  klink context create src --bootstrap-server source.example:9092 --command-config source.config --check`,
		Args: exactArgs("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			name := args[0]
			if name == "" || strings.ContainsAny(name, " \t\r\n") {
				return usagef("invalid context name %q", name)
			}
			p, _, err := a.commandProperties()
			if err != nil {
				return err
			}
			if a.bootstrap != "" {
				p["bootstrap.servers"] = a.bootstrap
			}
			given := kafkaclient.Properties{}
			for _, c := range configs {
				key, value, err := cutConfig(c)
				if err != nil {
					return err
				}
				given[key] = value
			}
			used, ignored, err := given.Check()
			if err != nil {
				return fmt.Errorf("--config: %w", err)
			}
			maps.Copy(p, used)
			if p, err = portable(p); err != nil {
				return err
			}
			if p["bootstrap.servers"] == "" {
				return usagef("no address given for the cluster: use --bootstrap-server")
			}
			resolved, err := p.Resolve()
			if err != nil {
				return err
			}
			if _, err := resolved.Options(); err != nil {
				return err
			}
			if check {
				if err := a.checkBrokers(cmd.Context(), resolved); err != nil {
					return fmt.Errorf("context %q is not stored: %w", name, err)
				}
			}
			a.tellIgnored(ignored)
			contexts, err := a.loadContexts()
			if err != nil {
				return err
			}
			contexts.Contexts[name] = p
			if contexts.Current == "" {
				contexts.Current = name
			}
			if err := contexts.save(); err != nil {
				return err
			}
			fmt.Fprintf(a.out, "Created context %q.\n", name)
			return nil
		},
	}
	cmd.Flags().StringArrayVar(&configs, "config", nil, "client property `KEY=VALUE`; may be repeated")
	cmd.Flags().BoolVar(&check, "check", false, "first connect to each broker at the address that it advertises")
	return cmd
}

// checkBrokers connects to each broker of the cluster that p describes, and prints what came of it.
func (a *app) checkBrokers(ctx context.Context, p kafkaclient.Properties) error {
	cl, err := connectWith(p)
	if err != nil {
		return err
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	tried, err := kafkaclient.TryBrokers(ctx, cl.Client)
	if err != nil {
		return cl.fail(err)
	}
	for _, b := range tried {
		fmt.Fprintln(a.out, b)
	}
	if failed := kafkaclient.FailedBrokers(tried); failed != nil {
		return failed
	}
	return nil
}

func (a *app) contextUse() *cobra.Command {
	return &cobra.Command{
		Use:               "use NAME",
		Short:             "Make a context the current one",
		Args:              exactArgs("NAME"),
		ValidArgsFunction: a.completeContexts,
		RunE: func(_ *cobra.Command, args []string) error {
			contexts, err := a.loadContexts()
			if err != nil {
				return err
			}
			if _, ok := contexts.Contexts[args[0]]; !ok {
				return fmt.Errorf("unknown context %q: see `klink context list`", args[0])
			}
			contexts.Current = args[0]
			if err := contexts.save(); err != nil {
				return err
			}
			fmt.Fprintf(a.out, "Using context %q.\n", args[0])
			return nil
		},
	}
}

type contextJSON struct {
	Name             string `json:"name"`
	Current          bool   `json:"current"`
	BootstrapServers string `json:"bootstrap_servers"`
}

func (a *app) contextList() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the contexts",
		Args:  exactArgs(),
		RunE: func(*cobra.Command, []string) error {
			contexts, err := a.loadContexts()
			if err != nil {
				return err
			}
			list, rows := []contextJSON{}, [][]any{}
			for _, name := range contexts.names() {
				c := contextJSON{name, name == contexts.Current, contexts.Contexts[name]["bootstrap.servers"]}
				mark := ""
				if c.Current {
					mark = "*"
				}
				list = append(list, c)
				rows = append(rows, []any{mark, c.Name, c.BootstrapServers})
			}
			return a.show(list, []string{"Current", "Name", "Bootstrap Servers"}, rows)
		},
	}
}

func (a *app) contextShow() *cobra.Command {
	return &cobra.Command{
		Use:               "show [NAME]",
		Short:             "Show the client properties of a context, without secrets",
		Args:              atMostOne("NAME"),
		ValidArgsFunction: a.completeContexts,
		RunE: func(_ *cobra.Command, args []string) error {
			contexts, err := a.loadContexts()
			if err != nil {
				return err
			}
			name := contexts.Current
			if len(args) == 1 {
				name = args[0]
			}
			if name == "" {
				return usagef("no current context: give the name of one")
			}
			p, ok := contexts.Contexts[name]
			if !ok {
				return fmt.Errorf("unknown context %q: see `klink context list`", name)
			}
			shown, rows := map[string]string{}, [][]any{}
			for _, key := range slices.Sorted(maps.Keys(p)) {
				shown[key] = p[key]
				if kafkaclient.Sensitive(key) {
					shown[key] = "[hidden]"
				}
				rows = append(rows, []any{key, shown[key]})
			}
			return a.show(map[string]any{"name": name, "current": name == contexts.Current, "properties": shown}, []string{"Property", "Value"}, rows)
		},
	}
}

func (a *app) contextDelete() *cobra.Command {
	return &cobra.Command{
		Use:               "delete NAME",
		Short:             "Forget a context",
		Args:              exactArgs("NAME"),
		ValidArgsFunction: a.completeContexts,
		RunE: func(_ *cobra.Command, args []string) error {
			contexts, err := a.loadContexts()
			if err != nil {
				return err
			}
			if _, ok := contexts.Contexts[args[0]]; !ok {
				return fmt.Errorf("unknown context %q: see `klink context list`", args[0])
			}
			delete(contexts.Contexts, args[0])
			if contexts.Current == args[0] {
				contexts.Current = ""
			}
			if err := contexts.save(); err != nil {
				return err
			}
			fmt.Fprintf(a.out, "Deleted context %q.\n", args[0])
			return nil
		},
	}
}

// completeContexts completes names of contexts.
func (a *app) completeContexts(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	contexts, err := a.loadContexts()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return contexts.names(), cobra.ShellCompDirectiveNoFileComp
}

// atMostOne allows one argument or none.
func atMostOne(name string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		return exactArgs(name)(cmd, args)
	}
}
