// Package needs says what klink needs of a cluster, for what, and what is lost without it; and it
// asks a cluster whether that is there. Clusters of different makes differ: they lack APIs, refuse
// requests about the cluster, or limit the configs of topics. klink asks, and does not assume.
//
// Read need.go first, then the tables: destination.go and source.go. They are the only place that
// lists the rights: docs/operations.md and docs/vendors.md have what markdown.go makes of them.
// check.go asks a cluster: apis.go for APIs, rights.go for rights, limits.go for limits.
//
// Nothing here changes a cluster: CreateTopics only validates, and WriteTxnMarkers has no marker.
//
// The package keeps nothing, has no lock and starts no goroutine. It imports admin/linkconfig,
// admin/topicconfig, internal/kafkaclient and protocol.
package needs
