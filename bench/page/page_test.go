package page

import (
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"klink/bench"
)

var rewrite = flag.Bool("rewrite", false, "rewrite the files in testdata/golden")

func testReport(t *testing.T) *bench.Report {
	t.Helper()
	require.FileExists(t, "testdata/report.json")
	r, err := bench.ReadReport("testdata/report.json")
	require.NoError(t, err)
	return r
}

func frame(t *testing.T) []byte {
	t.Helper()
	text, err := os.ReadFile("testdata/frame.md")
	require.NoError(t, err)
	return text
}

// TestGolden renders a report with made-up figures. If it fails, run go test ./bench/page -rewrite
// and look at the difference.
func TestGolden(t *testing.T) {
	dir := t.TempDir()
	if *rewrite {
		dir = "testdata/golden"
		require.NoError(t, os.RemoveAll(dir))
		require.NoError(t, os.MkdirAll(dir, 0o755))
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, File), frame(t), 0o644))
	changed, err := Update(dir, testReport(t))
	require.NoError(t, err)
	require.Contains(t, changed, File)
	want := files(t, "testdata/golden")
	require.Greater(t, len(want), 8)
	require.Equal(t, want, files(t, dir), "run go test ./bench/page -rewrite and look at the difference")

	// Rendered again from what came of it, nothing changes.
	changed, err = Update(dir, testReport(t))
	require.NoError(t, err)
	require.Empty(t, changed)
}

// files are the texts of a directory, by name.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	require.NoError(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		name, _ := filepath.Rel(dir, path)
		all[name] = string(text)
		return err
	}))
	return all
}

// TestTheDocsAreWhatTheResultsSay: docs/benchmarks.md and the plots of docs/bench are what
// docs/bench/results.json renders to.
func TestTheDocsAreWhatTheResultsSay(t *testing.T) {
	const docs = "../../docs"
	r, err := bench.ReadReport(filepath.Join(docs, PlotDir, "results.json"))
	require.NoError(t, err)
	there := files(t, docs)
	out, err := Render([]byte(there[File]), r)
	require.NoError(t, err)
	require.Equal(t, string(out.Page), there[File], "make bench-report renders it")
	for name, svg := range out.Plots {
		require.Equal(t, string(svg), there[filepath.Join(PlotDir, name)], "make bench-report renders %s", name)
	}
	for name := range there {
		if dir, file := filepath.Split(name); dir == PlotDir+"/" && strings.HasSuffix(file, ".svg") {
			require.Contains(t, out.Plots, file, "no result has this plot: make bench-report removes it")
		}
	}
}

// TestMarkers: content without a place is refused, and nothing outside the markers changes.
func TestMarkers(t *testing.T) {
	r := testReport(t)
	out, err := Render(frame(t), r)
	require.NoError(t, err)
	outside := func(page []byte) string { return string(markers.ReplaceAll(page, nil)) }
	require.Equal(t, outside(frame(t)), outside(out.Page))
	require.Contains(t, string(out.Page), "<!-- bench:other -->\nNot measured yet.\n<!-- /bench -->")
	for page, problem := range map[string]string{
		"<!-- bench:mirror -->\n<!-- /bench -->":                                              `no place for the benchmark "instances"`,
		string(frame(t)) + "<!-- bench:more -->\n":                                            "has no partner",
		string(frame(t)) + "<!-- /bench -->\n":                                                "has no partner",
		string(frame(t)) + "<!-- bench:mirror -->\n<!-- /bench -->\n":                         "twice",
		strings.Replace(string(frame(t)), "<!-- /bench -->", "<!-- bench:mirror -->\nx\n", 1): "has no partner",
	} {
		_, err := Render([]byte(page), r)
		require.ErrorContains(t, err, problem)
	}
}

// TestVerdict: ahead, behind and neither, from the ratios within rounds, whichever way is better;
// floors and variants of klink are no peers.
func TestVerdict(t *testing.T) {
	s := &bench.Series{}
	put := func(workload, subject string, m bench.Metric, rounds ...float64) {
		for i, v := range rounds {
			s.Runs = append(s.Runs, bench.Run{Workload: workload, Subject: subject, Round: i + 1, Values: map[bench.Metric]float64{m: v}})
		}
	}
	for _, m := range []bench.Metric{bench.MBPerSecond, bench.CPUPerGB} {
		put("more", klink, m, 100, 10)
		put("more", "peer", m, 200, 30)
		put("more", "raw", m, 150, 15)
		put("less", klink, m, 100, 10)
		put("less", "peer", m, 50, 9)
		put("both", klink, m, 100, 10)
		put("both", "peer", m, 101, 9)
		put("alone", klink, m, 1)
		put("alone", "klink-unjoined", m, 9)
		put("nobody", "peer", m, 1)
	}
	put("some-steady", klink, bench.MBPerSecond, 1)
	put("some-steady", "peer", bench.MBPerSecond, 1)
	workloads := s.Workloads()
	up := judge(s, shown{bench.MBPerSecond, "", "", higher}, workloads)
	require.Equal(t, verdict{
		ahead: []string{"less"}, even: []string{"both (peer has 0.955 x (0.900–1.01))"}, behind: []string{"**more** (peer has 2.50 x (2.00–3.00))"},
		alone: []string{"alone"}, unknown: []string{"nobody"}, fixed: []string{"some-steady"},
	}, up)
	require.Equal(t, "More is better. klink is **behind** in **more** (peer has 2.50 x (2.00–3.00)). It has no figure in nobody. "+
		"It cannot be told apart in both (peer has 0.955 x (0.900–1.01)). It is ahead of every peer in less. No peer was measured in alone. The rate is given in some-steady: who keeps up has it.",
		up.sentence(shown{better: higher}))
	down := judge(s, shown{bench.CPUPerGB, "", "", lower}, workloads)
	require.Equal(t, []string{"more"}, down.ahead)
	require.Equal(t, []string{"**less** (peer has 0.700 x (0.500–0.900))"}, down.behind)
	require.Equal(t, []string{"more (raw)"}, down.floors)
	require.Equal(t, "Less is better. klink is ahead of every peer in each of these workloads.", verdict{ahead: []string{"a", "b"}}.sentence(shown{better: lower}))
}

// TestKinds: workloads with three brokers have plots of their own.
func TestKinds(t *testing.T) {
	s := &bench.Series{}
	for _, w := range []string{"rf3-16k", "far-destination", "large", "far", "12"} {
		s.Runs = append(s.Runs, bench.Run{Workload: w, Subject: klink, Round: 1, Values: map[bench.Metric]float64{bench.MBPerSecond: 1}})
	}
	require.Equal(t, []kind{{"three brokers", []string{"rf3-16k", "far-destination"}}, {"", []string{"large", "far"}}}, kindsOf(s, bench.MBPerSecond))
}

// TestVariants: klink with other settings is said to be just that.
func TestVariants(t *testing.T) {
	s := &bench.Series{Runs: []bench.Run{{Workload: "w", Subject: "raw"}, {Workload: "w", Subject: "copy"}, {Workload: "w", Subject: "klink-unjoined"}, {Workload: "w", Subject: klink}}}
	require.Equal(t, []string{klink, "klink-unjoined", "copy", "raw"}, subjectsOf(s))
	var b strings.Builder
	facts(&b, s)
	require.Contains(t, b.String(), "| variants of klink | klink-unjoined (klink with append.join.below=0, ")
}

// TestNothingIsHidden: runs with a problem and absent subjects are named. A metric that this
// package does not know still gets a table.
func TestNothingIsHidden(t *testing.T) {
	r := testReport(t)
	s := r.Of("mirror")
	s.Runs[0].Values["new figure"] = 5
	out, err := Render(frame(t), r)
	require.NoError(t, err)
	page := string(out.Page)
	require.Contains(t, page, "- far, mirrormaker2, round 2: read what was not written: partition 3 offset 77\n")
	require.Contains(t, page, "| not measured | kroxylicious: not to be had from the registries: 404 |")
	require.Contains(t, page, "#### new figure\n")
	require.Contains(t, page, "klink is **behind** in **small** (mirrormaker2 has ")
	for i := range s.Runs {
		if s.Runs[i].Subject == klink {
			s.Runs[i].Problem = "it died"
		}
	}
	out, err = Render(frame(t), r)
	require.NoError(t, err)
	require.Contains(t, string(out.Page), "**large** (no figure of klink)")
}

// TestPlots: they are XML, have a title, name every subject, and stay inside their frame; odd
// figures break none.
func TestPlots(t *testing.T) {
	r := testReport(t)
	odd := bench.Series{Bench: "other", Runs: []bench.Run{
		{Workload: "a<b>&\"c", Subject: "x\"<y>", Round: 1, Values: map[bench.Metric]float64{bench.MBPerSecond: 0, bench.P50: 0, bench.P99: 0}},
		{Workload: "a<b>&\"c", Subject: klink, Round: 1, Values: map[bench.Metric]float64{bench.MBPerSecond: math.SmallestNonzeroFloat64, bench.P99: 1e12}, Samples: map[bench.Metric][]float64{bench.P99: {0, 0, 0}}},
		{Workload: "a<b>&\"c", Subject: "dead", Round: 1, Problem: "it died"},
		{Workload: "1", Subject: klink, Round: 1, Values: map[bench.Metric]float64{bench.MBPerSecond: 0}},
		{Workload: "2", Subject: klink, Round: 1, Problem: "it died"},
	}}
	r.Put(odd)
	out, err := Render(frame(t), r)
	require.NoError(t, err)
	require.Greater(t, len(out.Plots), 10)
	number := regexp.MustCompile(`\b(?:x|x1|x2|cx)="(-?[0-9.]+)"`)
	for name, svg := range out.Plots {
		d := xml.NewDecoder(strings.NewReader(string(svg)))
		for {
			if _, err := d.Token(); errors.Is(err, io.EOF) {
				break
			} else {
				require.NoError(t, err, name)
			}
		}
		require.Contains(t, string(svg), "<title>", name)
		require.NotContains(t, string(svg), "NaN", name)
		require.NotContains(t, string(svg), "Inf", name)
		require.Less(t, len(svg), 40_000, name)
		for _, m := range number.FindAllStringSubmatch(string(svg), -1) {
			require.LessOrEqual(t, len(m[1]), 6, "%s: %s", name, m[0])
			require.False(t, strings.HasPrefix(m[1], "-"), "%s: %s", name, m[0])
		}
	}
	text := string(out.Plots["mirror-throughput.svg"])
	for _, subject := range []string{klink, "mirrormaker2", "copy", "raw", "relay"} {
		require.Contains(t, text, ">"+subject+"<")
	}
}

func TestFigures(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 1: "1.00", 0.0012345: "0.00123", 12.345: "12.3", 123.45: "123", 1234.5: "1,230", 1234567: "1,230,000", 99.99: "100.0", -1500: "-1,500"} {
		require.Equal(t, want, figure(v))
	}
	for v, want := range map[float64]string{0: "0", 0.1: "0.1", 0.30000000000000004: "0.3", 2.5: "2.5", 500: "500", 2000: "2000", 20000: "20,000"} {
		require.Equal(t, want, tickText(v))
	}
	require.Equal(t, "2.00 (1.00–3.00)", spreadText(bench.SpreadOf([]float64{1, 2, 3}), ""))
	require.Equal(t, "1.00 x", spreadText(bench.SpreadOf([]float64{1, 1}), " x"))
	require.Equal(t, "-", spreadText(bench.SpreadOf(nil), ""))
}

func TestAxes(t *testing.T) {
	a := logAxis(1.3, 45, 0, 100)
	require.InDeltaSlice(t, []float64{1, 2, 5, 10, 20, 50}, a.ticks, 1e-9)
	require.InDelta(t, 0, a.at(0), 1e-9)
	require.InDelta(t, 100, a.at(50), 1e-9)
	require.InDeltaSlice(t, []float64{0.1, 1, 10, 100}, logAxis(0.1, 99, 0, 1).ticks, 1e-9)
	require.InDeltaSlice(t, []float64{0, 100, 200, 300, 400, 500}, linearAxis(420, 0, 1).ticks, 1e-9)
	require.InDelta(t, 1, linearAxis(500, 0, 1).at(500), 1e-9)
}
