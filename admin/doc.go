// Package admin is klink's control plane: it keeps links and mirrors, and the service that answers
// the link API. It publishes immutable snapshots to the router and to the replicator.
//
// # Rooms
//
//	model    links, mirrors, their state machine; pure
//	caslog   a compacted topic in which every change is a compare-and-set
//	store    the state topic: records, transactions on them, snapshots
//	filter   the filters of link configs
//	aclsync  which ACLs of a source are copied
//	linkconfig  the configs of links, and which configs of topics follow
//	topicconfig  reads and sets the configs of topics
//	sources  connects to the source of a link, and says what is wrong with it
//	groups   lists the groups of a cluster, and commits offsets for them
//	offsets  carries the committed offsets of groups from a source to its mirrors
//	transactions  the open transactions that a new mirror has to wait for
//	needs    what klink needs of a cluster, and whether that is there
//	notices  how a mirror's topic differs from what klink has made of it
//	facts    what the router asks for, and klink has to look up
//
// # Reading order
//
//	service.go       Service: what it is made of, and its life
//	handle.go        the link API: one file per request (create_links.go, alter_mirrors.go, ...)
//	create_mirror.go, reconcile.go, stop.go, promote.go   the life of a mirror
//	task*.go         what is done for a link from time to time
//	cleaner.go       what keeps the destination's cleaner off void batches
//
// # Locks
//
// The log's lock (caslog.Log.Hold) guards what was read from the state topic; changes and snapshots
// are evaluated under it, and nothing that waits may run there. Service.publishMu is taken before
// it, and serialises snapshots. DESIGN.md, section 9, has the order.
package admin
