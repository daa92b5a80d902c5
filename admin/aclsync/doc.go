// Package aclsync decides which ACLs of a source a destination gets. It says what an ACL is, which
// of them a link's filters select, which are never copied, and what one run has to do.
//
// Reading order: binding.go (an ACL), filter.go (acl.filters), guard.go (what klink leaves out),
// plan.go (what to create and delete, and why), requests.go (the requests to either cluster).
//
// plan.go is pure. Nothing here keeps state or starts a goroutine; the task in package admin does.
// The package imports admin/filter, internal/kafkaclient and franz-go.
package aclsync
