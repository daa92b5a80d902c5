package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"klink/internal/config"
)

func (a *app) demoCommand() *cobra.Command {
	var keep bool
	cmd := &cobra.Command{
		Use:   "demo [--keep]",
		Short: "See links and mirrors work on two embedded clusters",
		Long: `Runs two clusters inside this process with klink between them, and shows the life of a mirror: link, mirror,
the same offsets on both sides, a refused write, the stop. It needs no installation and ends by itself.`,
		Args: exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.demo(cmd.Context(), keep)
		},
	}
	cmd.Flags().BoolVar(&keep, "keep", false, "keep everything running until ^C, to try things out")
	return cmd
}

// demo is the state of one demonstration.
type demo struct {
	ctx context.Context
	out io.Writer
	dir string // holds contexts and files; removed at the end
}

func (a *app) demo(ctx context.Context, keep bool) (err error) {
	dir, err := os.MkdirTemp("", "klink-demo-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	d := &demo{ctx: ctx, out: a.out, dir: dir}

	source, err := embeddedCluster("demo-source")
	if err != nil {
		return err
	}
	defer source.Close()
	destination, err := embeddedCluster("demo-destination")
	if err != nil {
		return err
	}
	defer destination.Close()
	d.say("Two Kafka clusters run inside this process, and klink in front of the second:")
	klink, stop, err := d.serve(destination.ListenAddrs()[0], a.err)
	if err != nil {
		return err
	}
	defer func() {
		if e := stop(); err == nil {
			err = e
		}
	}()
	if err := d.tour(source.ListenAddrs()[0], klink); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	if !keep {
		return nil
	}
	d.say("Everything keeps running until ^C. In another terminal:")
	fmt.Fprintf(d.out, "  export KLINK_CONFIG_DIR=%s\n  klink mirror list\n  klink topic consume orders --from-beginning\n", dir)
	fmt.Fprintf(d.out, "source cluster:              %s\nklink:                       %s\ndestination, without klink:  %s\n",
		source.ListenAddrs()[0], klink, destination.ListenAddrs()[0])
	<-ctx.Done()
	return nil
}

// embeddedCluster is a cluster inside this process, on a free port of 127.0.0.1.
func embeddedCluster(id string) (*kfake.Cluster, error) {
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.ClusterID(id))
	if err != nil {
		return nil, fmt.Errorf("start an embedded cluster: %w", err)
	}
	return c, nil
}

// serve runs what `klink serve` runs, on free ports, and returns its address once it is ready. stop
// drains it.
func (d *demo) serve(destination string, logs io.Writer) (address string, stop func() error, err error) {
	flags := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	config.AddFlags(flags)
	if err := flags.Parse([]string{"--destination", destination, "--listen", "127.0.0.1:0", "--drain-timeout", "5s", "--log-level", "error"}); err != nil {
		return "", nil, err
	}
	cfg, err := config.Load(flags, nil)
	if err != nil {
		return "", nil, err
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(d.ctx))
	s, err := assemble(ctx, cfg, slog.New(slog.NewTextHandler(logs, &slog.HandlerOptions{Level: cfg.LogLevel})))
	if err != nil {
		cancel()
		return "", nil, err
	}
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- s.Run(ctx, func() { close(ready) }) }()
	stop = func() error {
		cancel()
		return <-done
	}
	select {
	case <-ready:
	case err := <-done:
		cancel()
		return "", nil, fmt.Errorf("klink did not start: %w", err)
	case <-d.ctx.Done():
		return "", nil, stop()
	}
	address = s.proxy.Addr().String()
	fmt.Fprintf(d.out, "$ klink serve --destination %s --listen %s\n", destination, address)
	return address, stop, nil
}

// tour walks through the life of a mirror.
func (d *demo) tour(source, klink string) error {
	d.say("Name them:")
	if err := d.steps(
		step{args: "context create src --bootstrap-server " + source, shows: `Created context "src".`},
		step{args: "context create dst --bootstrap-server " + klink, shows: `Created context "dst".`},
		step{args: "context use dst", shows: `Using context "dst".`},
	); err != nil {
		return err
	}

	d.say("Create a topic at the source, and delete its first two records, so that its log starts at offset 2:")
	if err := d.steps(
		step{args: "topic create orders --partitions 1 --cluster src", shows: `Created topic "orders".`},
		step{args: "topic produce orders --cluster src", input: "order 1\norder 2"},
		step{args: "topic produce orders --cluster src", input: "order 3\norder 4\norder 5"},
	); err != nil {
		return err
	}
	if err := d.deleteRecords(source, 2); err != nil {
		return err
	}

	d.say("Link the destination to the source, and mirror the topic:")
	file := filepath.Join(d.dir, "source.config")
	if err := os.WriteFile(file, []byte("bootstrap.servers="+source+"\n"), 0o600); err != nil {
		return err
	}
	fmt.Fprintf(d.out, "$ cat source.config\nbootstrap.servers=%s\n", source)
	if err := d.steps(
		step{args: "link create east-west --config-file source.config", shows: `Created cluster link "east-west".`},
		step{args: "topic create orders --link east-west --mirror-topic orders", shows: `Created topic "orders".`},
	); err != nil {
		return err
	}

	d.say("The mirror has the source's records at the source's offsets:")
	const consume = "topic consume orders --from-beginning --print-offset --max-messages 3 --timeout 10s"
	records := "Offset:2\torder 3\nOffset:3\torder 4\nOffset:4\torder 5\n"
	if err := d.steps(
		step{args: consume + " --cluster src", shows: records},
		step{args: consume, shows: records},
		step{args: "mirror list", shows: "ACTIVE"},
	); err != nil {
		return err
	}

	d.say("It is read-only:")
	if err := d.steps(step{args: "topic produce orders", input: "mine", code: exitError, shows: "Cannot append records to read-only mirror topic 'orders'"}); err != nil {
		return err
	}

	d.say("Stop it, and it is writable. New records follow those of the source:")
	return d.steps(
		step{args: "topic mirror stop orders", shows: `Stopped mirroring for topic "orders".`},
		step{args: "topic produce orders", input: "mine"},
		step{args: "topic consume orders --partition 0 --offset 4 --print-offset --max-messages 2 --timeout 10s", shows: "Offset:4\torder 5\nOffset:5\tmine\n"},
		step{args: "mirror list", shows: "STOPPED"},
	)
}

// say prints a headline.
func (d *demo) say(text string) { fmt.Fprintf(d.out, "\n# %s\n", text) }

// step is a command, its standard input, and the output that it must show.
type step struct {
	args  string // without spaces inside an argument
	input string
	code  int
	shows string
}

// steps runs commands as a user would type them. It returns an error if the output of a step is
// wrong.
func (d *demo) steps(steps ...step) error {
	for _, s := range steps {
		command := "klink " + s.args
		if s.input != "" {
			command = fmt.Sprintf("printf '%s\\n' | %s", strings.ReplaceAll(s.input, "\n", `\n`), command)
		}
		fmt.Fprintf(d.out, "$ %s\n", command)
		args := strings.Fields(s.args)
		for i, arg := range args {
			if arg == "source.config" {
				args[i] = filepath.Join(d.dir, arg)
			}
		}
		var shown bytes.Buffer
		both := io.MultiWriter(d.out, &shown)
		a := &app{in: strings.NewReader(s.input), out: both, err: both, configDir: d.dir}
		code := a.run(d.ctx, args)
		if err := d.ctx.Err(); err != nil {
			return err
		}
		if code != s.code || !strings.Contains(shown.String(), s.shows) {
			return fmt.Errorf("the demo failed: `%s` ended with %d and should have shown %q", command, code, s.shows)
		}
	}
	return nil
}

// deleteRecords deletes the records of the demo's topic before an offset. klink has no command for
// that.
func (d *demo) deleteRecords(source string, before int64) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(source))
	if err != nil {
		return err
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(d.ctx, 10*time.Second)
	defer cancel()
	offsets := kadm.Offsets{}
	offsets.AddOffset("orders", 0, before, -1)
	resp, err := kadm.NewClient(cl).DeleteRecords(ctx, offsets)
	if err == nil {
		err = resp.Error()
	}
	if err != nil {
		return fmt.Errorf("delete records at the source: %w", err)
	}
	return nil
}
