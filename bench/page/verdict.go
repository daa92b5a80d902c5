package page

import (
	"fmt"
	"regexp"
	"strings"

	"klink/bench"
)

// verdict sorts the workloads of a table by how klink compares with the others. Ratios are within
// rounds.
type verdict struct {
	ahead   []string // klink is ahead of every peer
	even    []string // the range of the ratios to a peer includes 1; with the peer's name
	behind  []string // with the peer's name and by how much
	alone   []string // no peer was measured
	floors  []string // floors that klink is ahead of, although they do less
	fixed   []string // the workload sets the rate, so there is nothing to compare
	unknown []string // klink was not measured
}

// fixedRate matches the names of workloads with a given rate.
var fixedRate = regexp.MustCompile(`-steady$| at \d+/s\b`)

// judge compares klink, in every workload of a table, with all other subjects that were measured.
func judge(s *bench.Series, m shown, workloads []string) (v verdict) {
	for _, w := range workloads {
		if m.better == higher && fixedRate.MatchString(w) {
			v.fixed = append(v.fixed, w)
			continue
		}
		if len(s.Values(w, klink, m.metric)) == 0 {
			v.unknown = append(v.unknown, w)
			continue
		}
		var even, behind []string
		compared := false
		for _, peer := range s.Subjects(w) {
			ratios := s.Ratios(w, peer, klink, m.metric)
			if peer == klink || len(ratios) == 0 {
				continue
			}
			r := bench.SpreadOf(ratios)
			worse, better := r.Low > 1, r.High < 1 // the peer, if lower is better
			if m.better == higher {
				worse, better = better, worse
			}
			if _, floor := floors[peer]; floor {
				if worse {
					v.floors = append(v.floors, fmt.Sprintf("%s (%s)", w, peer))
				}
				continue
			}
			if _, variant := variants[peer]; variant {
				continue
			}
			compared = true
			switch {
			case better:
				behind = append(behind, fmt.Sprintf("%s has %s", peer, times(r)))
			case !worse:
				even = append(even, fmt.Sprintf("%s has %s", peer, times(r)))
			}
		}
		switch {
		case len(behind) > 0:
			v.behind = append(v.behind, fmt.Sprintf("**%s** (%s)", w, strings.Join(append(behind, even...), ", ")))
		case len(even) > 0:
			v.even = append(v.even, fmt.Sprintf("%s (%s)", w, strings.Join(even, ", ")))
		case compared:
			v.ahead = append(v.ahead, w)
		default:
			v.alone = append(v.alone, w)
		}
	}
	return v
}

func times(r bench.Spread) string { return spreadText(r, " x") }

// sentence returns the verdict as text, losses first.
func (v verdict) sentence(m shown) string {
	parts := []string{"More is better."}
	if m.better == lower {
		parts[0] = "Less is better."
	}
	name := "klink"
	say := func(what string, workloads []string, separator string) {
		if len(workloads) > 0 {
			parts = append(parts, name+" "+what+" "+strings.Join(workloads, separator)+".")
			name = "It"
		}
	}
	say("is **behind** in", v.behind, "; ")
	say("has no figure in", v.unknown, ", ")
	say("cannot be told apart in", v.even, "; ")
	if len(v.ahead) > 0 && len(v.behind)+len(v.even)+len(v.unknown) == 0 {
		parts = append(parts, "klink is ahead of every peer in each of these workloads.")
	} else {
		say("is ahead of every peer in", v.ahead, ", ")
	}
	switch {
	case len(v.alone) > 0 && len(v.ahead)+len(v.behind)+len(v.even)+len(v.unknown) == 0:
		parts = append(parts, "No peer was measured.")
	case len(v.alone) > 0:
		parts = append(parts, "No peer was measured in "+strings.Join(v.alone, ", ")+".")
	}
	say("is ahead of a floor too in", v.floors, ", ")
	if len(v.fixed) > 0 {
		parts = append(parts, "The rate is given in "+strings.Join(v.fixed, ", ")+": who keeps up has it.")
	}
	return strings.Join(parts, " ")
}
