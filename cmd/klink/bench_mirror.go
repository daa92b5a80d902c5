package main

import (
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"klink/bench/mirror"
)

func (a *app) benchMirrorCommand() *cobra.Command {
	var o mirror.Options
	cmd := &cobra.Command{
		Use:   "mirror",
		Short: "Measure mirroring: throughput, CPU, memory and lag",
		Long: `Measures klink, MirrorMaker 2, a copy loop in franz-go, a raw produce loop and a byte relay on the same data: catch-up from a
full source, and the lag at a fixed rate. The command compares what each of them has mirrored with the source; a run that
differs does not count, and the exit code is 1. It shows the remaining time at the beginning and after each round.

Workloads: ` + strings.Join(mirror.Workloads(), ", ") + `.
Subjects: ` + strings.Join(mirror.Subjects(), ", ") + `.

The destination is one broker. For rf3-* it is three brokers, with replication factor 3 and min.insync.replicas 2. For
far-destination it is three brokers that are 2 ms from klink, and 1 ms from each other. rf3-lag writes 2,000
single-record batches per second into one partition, and shows the lag behind the source's acknowledgements in the first
and the last third of the run, so that you see whether it grows. klink-unjoined is klink with append.join.below=0.

The clusters' data is in TMPDIR (default /tmp).`,
		Example: `  klink bench mirror --out bench.json
  klink bench mirror --quick
  klink bench mirror --workload large,small --subject klink,copy --rounds 1
  klink bench mirror --workload rf3-lag --subject klink --steady 1m`,
		Args: exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			flags := cmd.Flags()
			switch {
			case o.Rounds < 1:
				return usagef("--rounds: must be at least 1")
			case flags.Changed("scale") && !(o.Scale > 0):
				return usagef("--scale: must be above 0")
			case flags.Changed("steady") && o.Steady < time.Second:
				return usagef("--steady: must be at least one second")
			}
			if err := known("--workload", o.Workloads, mirror.Workloads()); err != nil {
				return err
			}
			if err := known("--subject", o.Subjects, mirror.Subjects()); err != nil {
				return err
			}
			if o.Quick && !flags.Changed("rounds") {
				o.Rounds = 1
			}
			o.Version, o.Progress, o.Command = buildText(), a.out, repeatable(cmd)
			_, err := mirror.Run(cmd.Context(), &o)
			return err
		},
	}
	f := cmd.Flags()
	benchFlags(f, &o.Options)
	f.DurationVar(&o.Budget, "budget", 15*time.Minute, "start no measurement after `DURATION`; 0 = all rounds of all workloads")
	f.Float64Var(&o.Scale, "scale", 0, "multiply the amount of data by `FACTOR` (default: 1; with --quick 0.3)")
	f.DurationVar(&o.Steady, "steady", 0, "`DURATION` of the phase at a fixed rate (default: 5s, or 2.5s with --quick)")
	return cmd
}

// benchSubjectCommand is the hidden command by which benchmarks start this binary as a subject.
func (a *app) benchSubjectCommand() *cobra.Command {
	var f mirror.Floor
	cmd := &cobra.Command{
		Use:    "subject NAME",
		Short:  "Run one of the programs that klink is measured against",
		Hidden: true,
		Args:   exactArgs("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.Run(cmd.Context(), args[0])
		},
	}
	cmd.Flags().StringVar(&f.From, "from", "", "`HOST:PORT` of the source")
	cmd.Flags().StringVar(&f.To, "to", "", "`HOST:PORT` of the destination")
	cmd.Flags().StringSliceVar(&f.Topics, "topics", nil, "topics to copy")
	cmd.Flags().BoolVar(&f.Lz4, "lz4", false, "compress what is produced")
	cmd.Flags().IntVar(&f.PartitionFetch, "partition-fetch", 4<<20, "bytes to fetch from a partition at once")
	cmd.Flags().IntVar(&f.Lanes, "lanes", 3, "connections to produce over")
	return cmd
}

// known refuses names that are not in there.
func known(flag string, names, there []string) error {
	for _, name := range names {
		if !slices.Contains(there, name) {
			return usagef("%s: unknown name %q; known: %s", flag, name, strings.Join(there, ", "))
		}
	}
	return nil
}

// repeatable returns the command line as the user typed it, but without --out.
func repeatable(cmd *cobra.Command) string {
	words := []string{cmd.CommandPath()}
	cmd.Flags().Visit(func(f *pflag.Flag) {
		value := f.Value.String()
		if s, ok := f.Value.(pflag.SliceValue); ok {
			value = strings.Join(s.GetSlice(), ",")
		}
		if f.Name != "out" {
			words = append(words, "--"+f.Name+"="+value)
		}
	})
	return strings.Join(words, " ")
}
