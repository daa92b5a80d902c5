// Package offsets carries the committed offsets of groups from the source of a link to its mirrors.
//
// # Reading order
//
//	rule.go    Case: what klink does about one offset; pure
//	memory.go  Memory: what klink remembers of a link's offsets, and what of it is stored
//	sync.go    Sync: it carries the offsets of many groups over, once
//	read.go    the input of a Sync: the offsets at both clusters, and where the mirrors end
//
// When a Sync runs, for which groups, and with which filters, is decided in package admin.
//
// # Locks
//
// Memory.lock is held from reading the offsets at the source until the commits that follow from
// them are done, over network I/O: it serialises that. It is a channel, so that a context can give
// up on it. No other lock is taken under it. The package starts no goroutine but those of package
// parallel, which it waits for.
//
// # Imports
//
// The package imports admin/groups, admin/model, admin/sources, admin/store,
// internal/kafkaclient, internal/parallel and internal/retry.
package offsets
