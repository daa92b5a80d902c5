package aclsync

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// numbered returns an ACL that differs for each i.
func numbered(i int) Binding {
	return Binding{ResourceType: 2, Pattern: 3, Name: fmt.Sprint("t", i), Principal: "User:a", Host: "*", Operation: 3, Permission: 3}
}

// TestPlanAgainstItsTwin: the plan for many ACLs is what a table says for each ACL alone.
func TestPlanAgainstItsTwin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		source, destination, others, before := Set{}, Set{}, Set{}, Set{}
		own := map[Binding]int{}
		const universe = 12
		for i := range universe {
			a := numbered(i)
			for name, set := range map[string]Set{"source": source, "destination": destination, "others": others, "before": before} {
				if rapid.Bool().Draw(t, fmt.Sprint(name, i)) {
					set.Add(a)
				}
			}
			if rapid.Bool().Draw(t, fmt.Sprint("own", i)) {
				own[a] = i
			}
		}
		p := MakePlan(source, destination, own, others)
		twice := p
		twice.OnlyIfMissing(before)
		for i := range universe {
			a := numbered(i)
			_, o := own[a]
			s, d, other := source.Has(a), destination.Has(a), others.Has(a)
			// The columns: at the source, at the destination, remembered here, remembered by
			// others.
			var want string
			switch [4]bool{s, d, o, other} {
			case [4]bool{true, false, false, false}, [4]bool{true, false, false, true}, [4]bool{true, false, true, false}, [4]bool{true, false, true, true}:
				want = "add"
			case [4]bool{true, true, false, true}:
				want = "join"
			case [4]bool{false, true, true, false}, [4]bool{false, false, true, false}:
				want = "delete"
			case [4]bool{false, true, true, true}, [4]bool{false, false, true, true}:
				want = "leave"
			}
			got := func(p Plan) (in string) {
				for name, list := range map[string][]Binding{"add": p.Adds, "join": p.Joins, "delete": p.Deletes, "leave": p.Leaves} {
					if slices.Contains(list, a) {
						in += name
					}
				}
				return in
			}
			require.Equal(t, want, got(p), "%v", a)
			if (want == "delete" || want == "leave") && !before.Has(a) {
				want = ""
			}
			require.Equal(t, want, got(twice))
			ours, there := p.Present[a]
			require.Equal(t, s && d, there)
			require.Equal(t, s && d && (o || other), ours)
		}
		for _, list := range [][]Binding{p.Adds, p.Joins, p.Deletes, p.Leaves} {
			require.True(t, slices.IsSortedFunc(list, compare))
		}
	})
}

// TestPlanOverTime drives two links into one destination, a person who creates and deletes ACLs
// there, sources that change, and runs that die between any two steps. klink never deletes an ACL
// that the person created first. Once all runs end well, klink leaves no ACL behind that no source
// has.
func TestPlanOverTime(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const universe, links = 5, 2
		destination, local := Set{}, Set{} // local: created by the person, and not by klink before
		source := [links]Set{{}, {}}
		remembered := [links]map[Binding]bool{{}, {}}
		created := Set{} // by klink, and there

		sync := func(l, steps int) {
			step := func() bool { steps--; return steps >= 0 }
			others := Set{}
			others.Add(slices.Collect(maps.Keys(remembered[1-l]))...)
			p := MakePlan(source[l], destination, remembered[l], others)
			if !step() {
				return
			}
			for _, a := range slices.Concat(p.Adds, p.Joins) {
				remembered[l][a] = true
			}
			for _, a := range p.Leaves {
				delete(remembered[l], a)
			}
			for _, a := range p.Adds {
				if !step() {
					return
				}
				destination.Add(a)
				created.Add(a)
			}
			for _, a := range p.Deletes {
				if !step() {
					return
				}
				require.False(t, local.Has(a), "a local ACL is deleted")
				delete(destination, a)
				delete(created, a)
			}
			if !step() {
				return
			}
			for _, a := range p.Deletes {
				delete(remembered[l], a)
			}
		}
		for range rapid.IntRange(1, 40).Draw(t, "ops") {
			a, l := numbered(rapid.IntRange(0, universe-1).Draw(t, "acl")), rapid.IntRange(0, links-1).Draw(t, "link")
			switch rapid.IntRange(0, 4).Draw(t, "op") {
			case 0:
				source[l].Add(a)
			case 1:
				delete(source[l], a)
			case 2: // nobody can tell who created an ACL that klink was about to create
				if !remembered[0][a] && !remembered[1][a] {
					destination.Add(a)
					local.Add(a)
				}
			case 3:
				delete(destination, a)
				delete(local, a)
				delete(created, a)
			case 4:
				sync(l, rapid.IntRange(0, 2*universe+3).Draw(t, "steps"))
			}
			for a := range created {
				require.True(t, remembered[0][a] || remembered[1][a], "klink created %s and would never delete it", a)
			}
			for a := range local {
				require.True(t, destination.Has(a))
			}
		}
		for range 2 {
			sync(0, 1000)
			sync(1, 1000)
		}
		for i := range universe {
			a := numbered(i)
			require.Equal(t, source[0].Has(a) || source[1].Has(a) || local.Has(a), destination.Has(a), "%s", a)
		}
		for l := range links {
			source[l] = Set{}
			sync(l, 1000)
		}
		require.Equal(t, local, destination)
		require.Empty(t, remembered[0])
		require.Empty(t, remembered[1])
	})
}
