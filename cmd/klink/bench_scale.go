package main

import (
	"context"

	"github.com/spf13/cobra"

	"klink/bench"
	"klink/bench/mirror"
)

func (a *app) benchScaleCommand() *cobra.Command {
	return a.benchOfKlink("scale", mirror.Scale, "Measure what 10,000 mirror partitions cost a single klink",
		`Creates mirrors of 50 topics with 200 partitions each, and measures how long that takes. Then it restarts klink several times, each time with
one more record in every partition, and measures how long klink needs to copy them all, and how much memory, CPU and how many fetch
sessions it uses when nothing is written. It compares what klink has mirrored with the source.`,
		"only 10 of the topics, and one round", 2)
}

func (a *app) benchInstancesCommand() *cobra.Command {
	return a.benchOfKlink("instances", mirror.Instances, "Measure how several instances of klink share the work",
		`Measures how fast one, two and three instances of klink catch up with one topic of 12 partitions, on this machine. It compares what they have
mirrored with the source.`,
		"less data, and one round", 3)
}

// benchOfKlink makes the command of a benchmark without peers.
func (a *app) benchOfKlink(name string, run func(context.Context, *mirror.Options) (*bench.Series, error), short, long, quick string, rounds int) *cobra.Command {
	var o mirror.Options
	cmd := &cobra.Command{
		Use: name, Short: short, Long: long,
		Example: "  klink bench " + name + " --out bench.json\n  klink bench " + name + " --quick",
		Args:    exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.Rounds < 1 {
				return usagef("--rounds: must be at least 1")
			}
			if cmd.Flags().Changed("scale") && !(o.Scale > 0) {
				return usagef("--scale: must be above 0")
			}
			if o.Quick && !cmd.Flags().Changed("rounds") {
				o.Rounds = 1
			}
			o.Version, o.Progress, o.Command = buildText(), a.out, repeatable(cmd)
			_, err := run(cmd.Context(), &o)
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Out, "out", "", "report `FILE` for the results; replaces those of an earlier run")
	f.IntVar(&o.Rounds, "rounds", rounds, "how often to measure")
	f.BoolVar(&o.Quick, "quick", false, quick)
	f.BoolVar(&o.Keep, "keep", false, "keep the log directory, and print its name")
	f.Float64Var(&o.Scale, "scale", 0, "multiply the amount of data by `FACTOR`")
	return cmd
}
