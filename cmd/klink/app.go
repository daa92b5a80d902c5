package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"klink/internal/config"
)

// version is set by the linker (make build).
var version = ""

// The exit codes. A command that normally ends with SIGINT (consume, serve) then exits with exitOK.
const (
	exitOK    = 0
	exitError = 1
	exitUsage = 2
)

// app is one run of the command line.
type app struct {
	in       io.Reader
	out, err io.Writer // filtered by printable while a command runs
	// stdout and stderr are the writers below out and err.
	stdout, stderr io.Writer
	// configDir is the directory of the contexts file; "" = klink's part of the user's config
	// directory.
	configDir string

	// values of the flags that all commands share
	cluster       string
	bootstrap     string
	commandConfig string
	output        string
}

// run executes one command line and returns its exit code. It touches no global state, so that
// tests and the demo can call it with what a person would type.
func run(ctx context.Context, args []string, in io.Reader, out, err io.Writer) int {
	a := &app{in: in, out: out, err: err, configDir: os.Getenv("KLINK_CONFIG_DIR")}
	return a.run(ctx, args)
}

func (a *app) run(ctx context.Context, args []string) int {
	a.stdout, a.stderr = a.out, a.err
	out, failures := &printable{to: a.out}, &printable{to: a.err}
	a.out, a.err = out, failures
	defer failures.flush()
	defer out.flush()
	root := a.root()
	root.SetArgs(args)
	cmd, failure := root.ExecuteContextC(ctx)
	if failure == nil {
		return exitOK
	}
	if ctx.Err() != nil && errors.Is(failure, context.Canceled) {
		failure = errors.New("interrupted")
	}
	fmt.Fprintf(a.err, "Error: %v\n", failure)
	var bad *config.Error
	if errors.As(failure, new(*usageError)) || errors.As(failure, &bad) || strings.HasPrefix(failure.Error(), "unknown command ") {
		fmt.Fprintf(a.err, "Run '%s --help' for usage.\n", cmd.CommandPath())
		return exitUsage
	}
	return exitError
}

// usageError reports a command line that makes no sense.
type usageError struct{ problem string }

func (e *usageError) Error() string { return e.problem }

func usagef(format string, args ...any) error { return &usageError{fmt.Sprintf(format, args...)} }

// root builds the command tree.
func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "klink",
		Short: "Cluster links and read-only mirror topics for stock Kafka",
		Long: `klink gives a stock Kafka cluster links to other clusters: read-only mirror topics that have the
offsets of their source.

"klink serve" runs in front of the destination cluster; Kafka clients and the other commands talk to
its address. Name the cluster with --cluster (a context, see "klink context") or --bootstrap-server.`,
		Version:       versionText(),
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          help,
	}
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &usageError{err.Error()} })
	root.CompletionOptions.HiddenDefaultCmd = false

	flags := root.PersistentFlags()
	flags.StringVar(&a.cluster, "cluster", "", "`NAME` of the context to use (default: the current one)")
	flags.StringVar(&a.bootstrap, "bootstrap-server", "", "`HOST:PORT` of klink or of a Kafka cluster, instead of the context's; several with commas")
	flags.StringVar(&a.commandConfig, "command-config", "", "`FILE` of Java client properties, on top of the context's")
	flags.StringVarP(&a.output, "output", "o", "table", "`FORMAT`: table or json")
	_ = root.RegisterFlagCompletionFunc("cluster", a.completeContexts)
	_ = root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "json"}, cobra.ShellCompDirectiveNoFileComp))
	root.PersistentPreRunE = func(*cobra.Command, []string) error {
		if a.output != "table" && a.output != "json" {
			return usagef("--output: unknown format %q; use table or json", a.output)
		}
		if _, ignored, err := a.commandProperties(); err == nil { // the command itself tells an error
			a.tellIgnored(ignored)
		}
		return nil
	}

	root.AddCommand(a.benchCommand(), a.checkCommand(), a.contextCommand(), a.credentialsCommand(), a.linkCommand(), a.demoCommand(), a.groupCommand(), a.mirrorCommand(), a.serveCommand(), a.topicCommand())
	return root
}

// help is RunE of a command that only groups others.
func help(cmd *cobra.Command, _ []string) error { return cmd.Help() }

// group makes a command that only groups others.
func group(use, short string, commands ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, RunE: help, Args: func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return usagef("unknown command %q for %q", args[0], cmd.CommandPath())
		}
		return nil
	}}
	cmd.AddCommand(commands...)
	return cmd
}

// exactArgs requires one argument for each name.
func exactArgs(names ...string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		switch {
		case len(args) < len(names):
			return usagef("missing argument %s", names[len(args)])
		case len(args) > len(names):
			return usagef("unexpected argument %q", args[len(names)])
		}
		return nil
	}
}

// minArgs requires at least one argument.
func minArgs(name string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) == 0 {
			return usagef("missing argument %s", name)
		}
		return nil
	}
}

// release is the version of this source, as in CHANGELOG.md.
const release = "0.1.0"

// versionText returns the release, and the build where that is known.
func versionText() string {
	if build := buildText(); build != "" {
		return release + " (" + build + ")"
	}
	return release
}

// buildText returns the commit from the linker, or what the Go tool recorded of the build.
func buildText() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		return info.Main.Version
	}
	return ""
}
