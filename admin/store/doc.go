// Package store keeps links, mirrors and timelines in the state topic of the destination, and reads
// them into memory. It says what the records look like, and what is true of them; what is done with
// links and mirrors is decided in package admin.
//
// # Reading order
//
//	store.go       Store: it applies the records of the topic, those that cannot be read included
//	tx.go          Tx: one change, which reads and writes records
//	record.go      keys, versions, bounds; one file for each kind (record_mirror.go, ...)
//	state.go       the snapshot of all links and mirrors; snapshot.go: what the router needs of it
//	timelines.go   the timelines that readers and owners share, and checkpoints
//	acls.go, instances.go   remembered ACLs; the instances of klink, and who has seen what
//	secrets.go     how sensitive configs are sealed
//	topic.go       the topic itself: it is created, and checked
//
// docs/state.md tells operators the same.
//
// # Locks
//
// The log's lock (caslog.Log.Hold) guards all that was read. Changes and snapshots are evaluated
// under it, and nothing that waits may run there. The lock of Open (picture) is taken before it: it
// is held while a snapshot is handed out. The package starts no goroutine; the log does.
//
// # Imports
//
// The package imports admin/aclsync, admin/caslog, admin/linkconfig, admin/model and
// admin/topicconfig, and never admin.
package store
