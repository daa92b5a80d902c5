// Package linkconfig has the configs of links, and those of topics that links sync: names, types,
// defaults, bounds, which of them are secrets, and which of a topic's configs follow the source.
//
// Reading order: table.go is the table of link configs; validate.go checks values; custody.go keeps
// secrets from going elsewhere than they were given for; references.go does so for secrets that are
// kept in files of klink's machine; topic.go says what a mirror's topic gets;
// start_offset.go reads mirror.start.offset.spec; replication.go is what the replicator reads;
// docs.go writes docs/configs.md and help.
//
// The package is pure: no state, no goroutine. It imports admin/filter, admin/aclsync, admin/model,
// internal/kafkaclient and protocol.
package linkconfig
