package page

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"klink/bench"
)

// Rendered is the page and its plots.
type Rendered struct {
	Page  []byte
	Plots map[string][]byte // by file name, in the directory PlotDir beside the page
}

// The files, from the directory of the documentation.
const (
	File    = "benchmarks.md"
	PlotDir = "bench"
)

var (
	markers = regexp.MustCompile(`(?s)<!-- bench:([a-z0-9-]+) -->\n.*?<!-- /bench -->`)
	marker  = regexp.MustCompile(`<!-- /?bench`)
)

// Render fills in a report between the markers of a page: `<!-- bench:NAME -->` and `<!-- /bench
// -->`. NAME is that of a benchmark, or "summary". A series without markers is an error, because
// nobody would see it.
func Render(page []byte, r *bench.Report) (*Rendered, error) {
	out := &Rendered{Plots: map[string][]byte{}}
	found := markers.FindAllSubmatch(page, -1)
	if 2*len(found) != len(marker.FindAll(page, -1)) {
		return nil, errors.New("a marker <!-- bench:NAME --> or <!-- /bench --> of the page has no partner")
	}
	var names []string
	for _, m := range found {
		if name := string(m[1]); slices.Contains(names, name) {
			return nil, fmt.Errorf("the page has the markers <!-- bench:%s --> twice", name)
		} else {
			names = append(names, name)
		}
	}
	for _, s := range r.Series {
		if !slices.Contains(names, s.Bench) {
			return nil, fmt.Errorf("the page has no place for the benchmark %q: put the lines <!-- bench:%s --> and <!-- /bench --> where it is to be", s.Bench, s.Bench)
		}
	}
	out.Page = markers.ReplaceAllFunc(page, func(old []byte) []byte {
		name := string(markers.FindSubmatch(old)[1])
		var b strings.Builder
		fmt.Fprintf(&b, "<!-- bench:%s -->\n", name)
		switch s := r.Of(name); {
		case name == "summary":
			summary(&b, r)
		case s == nil:
			b.WriteString("Not measured yet.\n")
		default:
			section(&b, s, out.Plots)
		}
		b.WriteString("<!-- /bench -->")
		return []byte(b.String())
	})
	return out, nil
}

// section writes everything about a series.
func section(b *strings.Builder, s *bench.Series, plots map[string][]byte) {
	facts(b, s)
	for _, p := range plotsOf(s) {
		name := s.Bench + "-" + p.name + ".svg"
		plots[name] = p.svg
		fmt.Fprintf(b, "![%s](%s/%s)\n\n", strings.NewReplacer("[", "(", "]", ")").Replace(p.title), PlotDir, name)
	}
	b.WriteString("Each figure is the median of the rounds, with the range in brackets; in the second line is the median and the range of its ratios to klink's figure of the same round.\n\n")
	for _, m := range shownOf(s) {
		table(b, s, m)
	}
	problems(b, s)
}

// facts writes where, with what and how a series was measured.
func facts(b *strings.Builder, s *bench.Series) {
	m := s.Machine
	or := func(text string) string {
		if text == "" {
			return "not found out"
		}
		return cell(text)
	}
	fmt.Fprintf(b, "| | |\n|---|---|\n| machine | %s, %d cores, %d GiB, %s; load average before %.1f |\n", or(m.CPU), m.Cores, m.Memory, or(m.Kernel), m.Load)
	fmt.Fprintf(b, "| versions | klink %s, Apache Kafka %s, Java %s, %s |\n", or(m.Klink), or(m.Kafka), or(m.Java), or(m.Go))
	fmt.Fprintf(b, "| command | `%s` |\n| when | %s |\n| rounds | %s |\n", cell(s.Command), s.Began.UTC().Format("2006-01-02 15:04 UTC"), rounds(s))
	for _, a := range s.Absent {
		fmt.Fprintf(b, "| not measured | %s: %s |\n", cell(a.Subject), cell(firstLine(a.Why)))
	}
	for _, kind := range []struct {
		name  string
		texts map[string]string
	}{{"variants of klink", variants}, {"floors, not peers", floors}} {
		var used []string
		for _, subject := range subjectsOf(s) {
			if why, ok := kind.texts[subject]; ok {
				used = append(used, subject+" ("+why+")")
			}
		}
		if len(used) > 0 {
			fmt.Fprintf(b, "| %s | %s |\n", kind.name, strings.Join(used, ", "))
		}
	}
	b.WriteString("\n")
}

// rounds returns how often workloads were measured, interleaved.
func rounds(s *bench.Series) string {
	by := map[int][]string{}
	for _, w := range s.Workloads() {
		n := 0
		for _, r := range s.Runs {
			if r.Workload == w {
				n = max(n, r.Round)
			}
		}
		by[n] = append(by[n], w)
	}
	var counts []int
	for n := range by {
		counts = append(counts, n)
	}
	slices.SortFunc(counts, func(a, b int) int { return len(by[b])*1000 + b - len(by[a])*1000 - a })
	var parts []string
	for i, n := range counts {
		if i == 0 {
			parts = append(parts, fmt.Sprint(n))
			continue
		}
		parts = append(parts, fmt.Sprintf("%d of %s", n, strings.Join(by[n], ", ")))
	}
	return strings.Join(parts, "; ") + "; all subjects in turn in each"
}

func problems(b *strings.Builder, s *bench.Series) {
	var lines []string
	for _, r := range s.Runs {
		if r.Problem != "" {
			lines = append(lines, fmt.Sprintf("- %s, %s, round %d: %s", r.Workload, r.Subject, r.Round, firstLine(r.Problem)))
		}
	}
	if len(lines) > 0 {
		fmt.Fprintf(b, "#### Runs that do not count\n\n%d of %d:\n\n%s\n\n", len(lines), len(s.Runs), strings.Join(lines, "\n"))
	}
}

// firstLine returns the first line of a text, shortened if it is too long.
func firstLine(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	if r := []rune(line); len(r) > 300 {
		return string(r[:300]) + " ..."
	}
	return line
}

// summary writes one line for each table: where klink is behind, and in how many workloads it is
// ahead.
func summary(b *strings.Builder, r *bench.Report) {
	if len(r.Series) == 0 {
		b.WriteString("Not measured yet.\n")
		return
	}
	b.WriteString("| benchmark | figure | ahead of every peer in | not to be told apart in | **behind** in |\n|---|---|---|---|---|\n")
	for i := range r.Series {
		s := &r.Series[i]
		for _, m := range shownOf(s) {
			if m.better == neither || m.metric == bench.RecordsPerSecond && len(subjectsWith(s, bench.MBPerSecond)) > 0 {
				continue // or the same table again
			}
			v := judge(s, m, workloadsWith(s, m.metric))
			for _, w := range v.unknown {
				v.behind = append(v.behind, "**"+w+"** (no figure of klink)")
			}
			n := len(v.ahead) + len(v.even) + len(v.behind)
			if n == 0 {
				continue
			}
			list := func(of []string, separator string) string {
				if len(of) == 0 {
					return "-"
				}
				return strings.Join(of, separator)
			}
			var even []string // figures are below the table of the metric
			for _, w := range v.even {
				name, _, _ := strings.Cut(w, " (")
				even = append(even, name)
			}
			fmt.Fprintf(b, "| %s | %s, %s | %d of %d | %s | %s |\n", s.Bench, m.title, m.unit, len(v.ahead), n, list(even, ", "), list(v.behind, "; "))
		}
	}
}

// Update renders the page in a directory of documentation from a report, and writes the files that
// have changed. It removes plots that the page no longer has. It returns the names of the changed
// files, relative to that directory.
func Update(dir string, r *bench.Report) (changed []string, err error) {
	path := filepath.Join(dir, File)
	old, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	out, err := Render(old, r)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if err := os.MkdirAll(filepath.Join(dir, PlotDir), 0o755); err != nil {
		return nil, err
	}
	files := map[string][]byte{File: out.Page}
	for name, svg := range out.Plots {
		files[filepath.Join(PlotDir, name)] = svg
	}
	there, err := filepath.Glob(filepath.Join(dir, PlotDir, "*.svg"))
	if err != nil {
		return nil, err
	}
	for _, path := range there {
		if _, made := out.Plots[filepath.Base(path)]; !made {
			changed = append(changed, filepath.Join(PlotDir, filepath.Base(path)))
			if err := os.Remove(path); err != nil {
				return changed, err
			}
		}
	}
	for name, text := range files {
		path := filepath.Join(dir, name)
		if was, err := os.ReadFile(path); err == nil && bytes.Equal(was, text) {
			continue
		}
		changed = append(changed, name)
		if err := os.WriteFile(path, text, 0o644); err != nil {
			return changed, err
		}
	}
	slices.Sort(changed)
	return changed, nil
}
