package page

import (
	"fmt"
	"slices"
	"strings"

	"klink/bench"
)

// shownOf returns the metrics of a series, in the order of their tables.
func shownOf(s *bench.Series) (list []shown) {
	has := map[bench.Metric]bool{}
	for _, r := range s.Runs {
		for m := range r.Values {
			has[m] = true
		}
	}
	for _, m := range metrics {
		if has[m.metric] {
			list = append(list, m)
		}
		delete(has, m.metric)
	}
	var others []string
	for m := range has {
		if !slices.Contains(untold, m) {
			others = append(others, string(m))
		}
	}
	slices.Sort(others)
	for _, m := range others {
		list = append(list, shown{metric: bench.Metric(m), title: m})
	}
	return list
}

// subjectsOf returns the subjects of a series: klink, then its variants, then peers, then floors,
// each in the order of their first run.
func subjectsOf(s *bench.Series) (names []string) {
	for _, w := range s.Workloads() {
		for _, name := range s.Subjects(w) {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	rank := func(name string) int {
		if name == klink {
			return 0
		}
		if _, variant := variants[name]; variant {
			return 1
		}
		if _, floor := floors[name]; floor {
			return 3
		}
		return 2
	}
	slices.SortStableFunc(names, func(a, b string) int { return rank(a) - rank(b) })
	return names
}

// workloadsWith returns the workloads in which any subject has a metric, and subjectsWith the
// subjects that have it.
func workloadsWith(s *bench.Series, m bench.Metric) (names []string) {
	for _, w := range s.Workloads() {
		if slices.ContainsFunc(s.Subjects(w), func(subject string) bool { return len(s.Values(w, subject, m)) > 0 }) {
			names = append(names, w)
		}
	}
	return names
}

func subjectsWith(s *bench.Series, m bench.Metric) (names []string) {
	for _, subject := range subjectsOf(s) {
		if slices.ContainsFunc(s.Workloads(), func(w string) bool { return len(s.Values(w, subject, m)) > 0 }) {
			names = append(names, subject)
		}
	}
	return names
}

// table writes a metric of all subjects in all workloads, with the verdict below it.
func table(b *strings.Builder, s *bench.Series, m shown) {
	workloads, subjects := workloadsWith(s, m.metric), subjectsWith(s, m.metric)
	title := m.title
	if m.unit != "" {
		title += ", " + m.unit
	}
	fmt.Fprintf(b, "#### %s\n\n| workload |", title)
	for _, subject := range subjects {
		b.WriteString(" " + subject + " |")
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(subjects)) + "\n")
	for _, w := range workloads {
		b.WriteString("| " + cell(w) + " |")
		for _, subject := range subjects {
			text := spreadText(bench.SpreadOf(s.Values(w, subject, m.metric)), "")
			if ratios := s.Ratios(w, subject, klink, m.metric); subject != klink && len(ratios) > 0 {
				text += "<br>" + times(bench.SpreadOf(ratios))
			}
			b.WriteString(" " + text + " |")
		}
		b.WriteString("\n")
	}
	if m.better != neither {
		b.WriteString("\n" + judge(s, m, workloads).sentence(m) + "\n")
	}
	b.WriteString("\n")
}

// cell returns text that cannot end a cell of a table.
func cell(text string) string { return strings.NewReplacer("|", "\\|", "\n", " ").Replace(text) }
