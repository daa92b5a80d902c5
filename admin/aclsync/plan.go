package aclsync

// Plan lists what the ACL sync of a link has to do.
type Plan struct {
	// Adds are ACLs of the source that the destination lacks. klink remembers them first, then
	// creates them.
	Adds []Binding
	// Joins are ACLs of the source that klink created for another link. This link remembers them,
	// too.
	Joins []Binding
	// Deletes are ACLs that only this link remembers and that the source no longer has. klink
	// deletes them first, then forgets them.
	Deletes []Binding
	// Leaves are ACLs that the source no longer has but that another link remembers, too. This link
	// only forgets them.
	Leaves []Binding
	// Present are ACLs of the source that the destination has; the value is true if klink remembers
	// them.
	Present map[Binding]bool
}

// MakePlan compares the ACLs of the source that are to be synced with those of the destination,
// with those that this link remembers, and with those that other links remember. All lists of the
// plan are sorted.
//
// klink deletes an ACL only if it remembers it. It remembers an ACL only if the destination lacked
// it, or if klink had created it for another link. So an ACL that was at the destination before
// klink wanted it stays, whatever the source does.
//
// The set destination decides only what is created. klink asks for a deletion even if the ACL seems
// to be gone: the broker that answered may lag behind, and once klink forgets an ACL that still
// exists, nothing ever deletes it.
func MakePlan[R any](source, destination Set, remembered map[Binding]R, others Set) Plan {
	p := Plan{Present: map[Binding]bool{}}
	for _, a := range Sorted(source) {
		_, own := remembered[a]
		switch {
		case !destination.Has(a):
			p.Adds = append(p.Adds, a)
		case own:
			p.Present[a] = true
		case others.Has(a):
			p.Joins = append(p.Joins, a)
			p.Present[a] = true
		default:
			p.Present[a] = false
		}
	}
	for _, a := range Sorted(remembered) {
		switch {
		case source.Has(a):
		case others.Has(a):
			p.Leaves = append(p.Leaves, a)
		default:
			p.Deletes = append(p.Deletes, a)
		}
	}
	return p
}

// OnlyIfMissing drops the removal of all ACLs except those in before, which are the ones that the
// source lacked at the previous look. So klink removes an ACL only if two looks in a row missed it.
func (p *Plan) OnlyIfMissing(before Set) {
	keep := func(from []Binding) (kept []Binding) {
		for _, a := range from {
			if before.Has(a) {
				kept = append(kept, a)
			}
		}
		return kept
	}
	p.Deletes, p.Leaves = keep(p.Deletes), keep(p.Leaves)
}

// Missing returns the remembered ACLs that the source does not have.
func (p *Plan) Missing() Set {
	s := Set{}
	s.Add(p.Deletes...)
	s.Add(p.Leaves...)
	return s
}

// Idle reports whether there is nothing to do.
func (p *Plan) Idle() bool { return len(p.Adds)+len(p.Joins)+len(p.Deletes)+len(p.Leaves) == 0 }
