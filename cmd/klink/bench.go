package main

import (
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"klink/bench"
)

func (a *app) benchCommand() *cobra.Command {
	cmd := group("bench", "Measure klink next to what people would use instead, or put load on a cluster",
		a.benchMirrorCommand(),
		a.benchSubjectCommand(),
		a.benchScaleCommand(), a.benchInstancesCommand(),
		a.benchProxy(), a.benchRelay(),
		a.benchLoad(),
		a.benchReport(),
	)
	cmd.Long = `Measures klink and its peers on this machine, on Apache Kafka clusters that the command starts itself (needs Java 17 and
Maven). docs/benchmarks.md has the results and the method.`
	return cmd
}

// benchFlags adds the flags that all stand-alone benchmarks share.
func benchFlags(f *pflag.FlagSet, o *bench.Options) {
	f.StringVar(&o.Out, "out", "", "report `FILE` for the results; replaces those of an earlier run")
	f.IntVar(&o.Rounds, "rounds", 3, "how often to measure every subject; subjects take turns")
	f.BoolVar(&o.Quick, "quick", false, "less data and fewer workloads, for development")
	f.StringSliceVar(&o.Workloads, "workload", nil, "only these workloads (default: all)")
	f.StringSliceVar(&o.Subjects, "subject", nil, "only these subjects (default: all that are available)")
	f.BoolVar(&o.Keep, "keep", false, "keep the log directory, and print its name")
}
