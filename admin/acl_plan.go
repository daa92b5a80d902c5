package admin

// aclPlan is what the ACL sync of a link has to do.
type aclPlan struct {
	// adds are ACLs of the source that the destination lacks. They are remembered first and created
	// then.
	adds []aclBinding
	// joins are ACLs of the source that another link has created. They are remembered by this link,
	// too.
	joins []aclBinding
	// deletes are ACLs that this link remembers, that no other link does, and that the source does
	// not have any more. They are deleted first and forgotten then.
	deletes []aclBinding
	// leaves are ACLs that the source does not have any more and that another link remembers. They
	// are only forgotten.
	leaves []aclBinding
	// present are ACLs of the source that the destination has; true = klink remembers them.
	present map[aclBinding]bool
}

// planACLs compares the ACLs of the source that are to be synced with those of the destination,
// with what the link remembers, and with what other links do. All lists are in order.
//
// An ACL is deleted only if it is remembered, and remembered only if the destination lacked it, or
// if klink had created it for another link. So an ACL that was there before klink wanted it stays,
// whatever the source does.
//
// What the destination is said to have decides about creations alone. A deletion is asked for even
// if the ACL seems to be gone: the broker that was asked may have been late, and to forget an ACL
// that is there would be to leave it for ever.
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

// onlyIfMissing drops the removal of all ACLs but those of a set: what the source did not have when
// it was looked at before.
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

// missing are the remembered ACLs that the source does not have.
func (p *aclPlan) missing() aclSet {
	s := aclSet{}
	s.add(p.deletes...)
	s.add(p.leaves...)
	return s
}

// idle says that everything is as it should be.
func (p *aclPlan) idle() bool { return len(p.adds)+len(p.joins)+len(p.deletes)+len(p.leaves) == 0 }
