package bench

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Report holds the measurements of benchmarks, as kept in a file.
type Report struct {
	Version int      `json:"version"` // of the format: reportVersion
	Series  []Series `json:"series"`
}

const reportVersion = 1

// Series is one run of a benchmark. Its figures are comparable, because they were measured
// interleaved on one machine.
type Series struct {
	// Bench names the benchmark: "mirror", "proxy", "memory" ...
	Bench   string    `json:"bench"`
	Command string    `json:"command"` // the command that repeats it
	Began   time.Time `json:"began"`
	Machine Machine   `json:"machine"`
	// Absent lists the subjects that were not available, and why.
	Absent []Absent `json:"absent,omitempty"`
	Runs   []Run    `json:"runs"`
}

// Absent is a subject that should have been measured and was not available.
type Absent struct {
	Subject string `json:"subject"`
	Why     string `json:"why"`
}

// Run is one measurement.
type Run struct {
	Workload string `json:"workload"`
	Subject  string `json:"subject"`
	Round    int    `json:"round"` // from 1
	// Values has the figures by metric: see metrics.go for their names and units.
	Values map[Metric]float64 `json:"values"`
	// Samples has the values that were sampled over time, at equal intervals: mostly lag.
	Samples map[Metric][]float64 `json:"samples,omitempty"`
	// SampleEvery is the interval of the samples, in seconds.
	SampleEvery float64 `json:"sample_every_s,omitempty"`
	// Problem is why the run does not count: the records read were not those written, or the
	// subject died.
	Problem string `json:"problem,omitempty"`
}

// ReadReport reads a report file. A missing file is an empty report.
func ReadReport(path string) (*Report, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return &Report{Version: reportVersion}, nil
	}
	if err != nil {
		return nil, err
	}
	r := &Report{}
	if err := json.Unmarshal(text, r); err != nil {
		return nil, fmt.Errorf("%s is not a report of benchmarks: %w", path, err)
	}
	if r.Version != reportVersion {
		return nil, fmt.Errorf("%s has format version %d, but this klink reads %d: run the benchmarks again", path, r.Version, reportVersion)
	}
	return r, nil
}

// Put adds a series, and removes the one of the same benchmark, if there is one.
func (r *Report) Put(s Series) {
	r.Series = slices.DeleteFunc(r.Series, func(old Series) bool { return old.Bench == s.Bench })
	r.Series = append(r.Series, s)
	slices.SortFunc(r.Series, func(a, b Series) int { return compareText(a.Bench, b.Bench) })
}

// Of returns the series of a benchmark, nil if it was not run.
func (r *Report) Of(bench string) *Series {
	for i := range r.Series {
		if r.Series[i].Bench == bench {
			return &r.Series[i]
		}
	}
	return nil
}

// Write writes the report to a file, whole or not at all.
func (r *Report) Write(path string) error {
	text, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".report-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(append(text, '\n'))
	if err = errors.Join(err, tmp.Chmod(0o644), tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}
