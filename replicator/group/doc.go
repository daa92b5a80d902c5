// Package group has the rules by which instances share the work: which slot is whose, what members
// of the group say to each other, and how long a member may believe that it has its slots.
//
// Reading order: slots.go numbers slots and gives them out (Plan.Assign); protocol.go has claims,
// assignments and their proofs; meter.go measures the load that a member claims; lease.go says
// until when a member may act without hearing from the coordinator.
//
// The package is pure: no clock, no socket, no lock, no goroutine. It decides; member.go and
// owner.go of package replicator act. It imports nothing of klink.
package group
