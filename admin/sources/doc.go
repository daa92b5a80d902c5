// Package sources connects to the sources of links, and says in an error what is wrong with one and
// what to check.
//
// Read source.go first: Source, how it connects, and what a new mirror has to know about a topic.
// acls.go reads a source's ACLs.
//
// A Source belongs to one request, or to the tasks of one link. It has no lock of its own, and
// starts no goroutine but those of its client. It sends what it is asked to send, at once; what
// follows from the answers is decided in package admin.
//
// The package imports admin/aclsync, admin/linkconfig, admin/model, admin/sourceerror, admin/store
// (for the largest number of partitions), admin/topicconfig and internal/kafkaclient.
package sources
