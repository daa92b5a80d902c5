// Package model has the links and mirrors of a destination, and the state machine that moves them.
//
// Read model.go first: links, mirrors, events, and the snapshot of all of them (State). machine.go
// has the inputs and effects of the machine; machine_link.go and machine_mirror.go have its
// transitions, which testdata/machine tells as stories.
//
// The package is pure: no clock, no socket, no lock, no goroutine. It imports protocol/timeline and
// nothing else of klink. The replicator, telemetry and the control plane (package admin) share it.
package model
