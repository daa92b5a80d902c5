package main

import (
	"context"

	"github.com/spf13/cobra"

	"klink/bench"
	"klink/bench/mirror"
)

func (a *app) benchScaleCommand() *cobra.Command {
	return a.benchOfKlink("scale", mirror.Scale, "Measure what 10,000 mirror partitions cost one klink",
		`Makes mirrors of 50 topics of 200 partitions, and measures how long that takes; then starts klink again and again, each time with one more
record in every partition, and measures how long it takes to have them all, and what klink takes of memory, CPU and fetch
sessions when nothing is written. What is mirrored is read and compared with the source.`,
		"only 10 of the topics, and one round", 2)
}

func (a *app) benchInstancesCommand() *cobra.Command {
	return a.benchOfKlink("instances", mirror.Instances, "Measure what several instances of klink cost that share the work",
		`Measures how one, two and three instances of klink catch up with one topic of 12 partitions, on this machine. What is mirrored is read and compared
with the source.`,
		"less data, and one round", 3)
}

// benchOfKlink makes the command of a benchmark without peers.
func (a *app) benchOfKlink(name string, run func(context.Context, *mirror.Options) (*bench.Serie, error), short, long, quick string, rounds int) *cobra.Command {
	var o mirror.Options
	cmd := &cobra.Command{
		Use: name, Short: short, Long: long,
		Example: "  klink bench " + name + " --out bench.json\n  klink bench " + name + " --quick",
		Args:    exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.Rounds < 1 {
				return usagef("--rounds: want a number from 1 on")
			}
			if cmd.Flags().Changed("scale") && !(o.Scale > 0) {
				return usagef("--scale: want a number above 0")
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
	f.StringVar(&o.Out, "out", "", "report `FILE` to put the results in, in place of those of an earlier run")
	f.IntVar(&o.Rounds, "rounds", rounds, "how often it is measured")
	f.BoolVar(&o.Quick, "quick", false, quick)
	f.BoolVar(&o.Keep, "keep", false, "keep the directory with logs, and print its name")
	f.Float64Var(&o.Scale, "scale", 0, "`FACTOR` of how much there is")
	return cmd
}
