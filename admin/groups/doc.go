// Package groups has the requests about the groups of a cluster: which there are, and commits of
// their offsets by klink, which is a member of none.
//
// list.go lists groups; commit.go commits offsets, and says when another attempt may help. Which
// offset a group should have is decided elsewhere: in package offsets, and for the end of a mirror
// in package admin (clamp.go).
//
// The package keeps nothing, takes no lock and starts no goroutine. It imports admin/model,
// internal/kafkaclient and internal/retry.
package groups
