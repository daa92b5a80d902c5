// Package core decides, for one partition of a mirror, what to fetch, what to append and when to
// read the log back. It is a state machine: a method for each thing that happens, and Effects for
// what the caller has to do about it.
//
// Reading order: partition.go has the states, the invariants and the life of an append; fetch.go
// takes what a source answered; item.go is what is queued; joinable.go says which batches may go
// out as one; truncation.go finds out from leader epochs whether the source lost what was mirrored.
// testdata/partition tells sessions, and TestPlacesDecide (package replicator) drives cores against
// a model of a broker.
//
// The package is pure: no clock, no socket, no goroutine, no lock. The caller (worker.go of package
// replicator) serialises the calls. It imports protocol/batch, admin/model and replicator/memory.
package core
