package bench

import (
	"io"
	"slices"
)

// Options are common to the benchmarks.
type Options struct {
	Out       string // report file; "" = none
	Rounds    int    // at least 1
	Quick     bool
	Workloads []string // names; none = all
	Subjects  []string // names; none = all
	Other     string   // another build of klink, to be measured too; "" = none
	Keep      bool     // the directory of logs
	Version   string   // of this klink
	Command   string   // that repeats the run, for the report
	Progress  io.Writer
}

// WantsWorkload reports whether the options ask for a workload.
func (o *Options) WantsWorkload(name string) bool {
	return len(o.Workloads) == 0 || slices.Contains(o.Workloads, name)
}

// WantsSubject is [Options.WantsWorkload] for subjects.
func (o *Options) WantsSubject(name string) bool {
	return len(o.Subjects) == 0 || slices.Contains(o.Subjects, name)
}
