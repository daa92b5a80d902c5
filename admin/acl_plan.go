package admin

// aclPlan lists what the ACL sync of a link has to do.
type aclPlan struct {
	// adds are ACLs of the source that the destination lacks. klink remembers them first, then
	// creates them.
	adds []aclBinding
	// joins are ACLs of the source that klink created for another link. This link remembers them,
	// too.
	joins []aclBinding
	// deletes are ACLs that only this link remembers and that the source no longer has. klink
	// deletes them first, then forgets them.
	deletes []aclBinding
	// leaves are ACLs that the source no longer has but that another link remembers, too. This link
	// only forgets them.
	leaves []aclBinding
	// present are ACLs of the source that the destination has; the value is true if klink remembers
	// them.
	present map[aclBinding]bool
}

// planACLs compares the ACLs of the source that are to be synced with those of the destination,
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
func planACLs[R any](source, destination aclSet, remembered map[aclBinding]R, others aclSet) aclPlan {
	p := aclPlan{present: map[aclBinding]bool{}}
	for _, a := range sortedACLs(source) {
		_, own := remembered[a]
		switch {
		case !destination.has(a):
			p.adds = append(p.adds, a)
		case own:
			p.present[a] = true
		case others.has(a):
			p.joins = append(p.joins, a)
			p.present[a] = true
		default:
			p.present[a] = false
		}
	}
	for _, a := range sortedACLs(remembered) {
		switch {
		case source.has(a):
		case others.has(a):
			p.leaves = append(p.leaves, a)
		default:
			p.deletes = append(p.deletes, a)
		}
	}
	return p
}

// onlyIfMissing drops the removal of all ACLs except those in before, which are the ones that the
// source lacked at the previous look. So klink removes an ACL only if two looks in a row missed it.
func (p *aclPlan) onlyIfMissing(before aclSet) {
	keep := func(from []aclBinding) (kept []aclBinding) {
		for _, a := range from {
			if before.has(a) {
				kept = append(kept, a)
			}
		}
		return kept
	}
	p.deletes, p.leaves = keep(p.deletes), keep(p.leaves)
}

// missing returns the remembered ACLs that the source does not have.
func (p *aclPlan) missing() aclSet {
	s := aclSet{}
	s.add(p.deletes...)
	s.add(p.leaves...)
	return s
}

// idle reports whether there is nothing to do.
func (p *aclPlan) idle() bool { return len(p.adds)+len(p.joins)+len(p.deletes)+len(p.leaves) == 0 }
