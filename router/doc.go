// Package router decides what happens to every Kafka request that a client sends through klink:
// forward it, forward it and rewrite the response, answer it here, or close the connection. It
// works on frames and immutable snapshots; on the hot path it does no I/O and takes no locks.
// Sockets belong to package proxy, links and mirrors to package admin. It imports protocol, and
// nothing else of klink.
//
// # Reading order
//
//	decision.go   Decision, Session, Stream: what the proxy asks, and what the router answers
//	router.go     Router: New, Publish; the table of handlers
//	session.go    one connection: Request is where every request comes in
//	NN_name.go    the handler of API key NN, which registers itself
//	link.go       the handler of the link API
//
// What handlers share:
//
//	snapshot.go     what is known of the mirrors; Control and Facts, what admin does for a request
//	lease.go        how long a snapshot may be used
//	directory.go    addresses of brokers, names of topic ids
//	coordinates.go  which offsets a request is translated by, and so its response
//	seek.go         offsets that no timeline knows; looks.go bounds what that costs
//	park.go         requests that wait for a fact
//	control.go      requests that create, alter or delete topics and configs
//	prove.go, follower.go, reserved_ids.go   what is checked before any handler
//	authorize.go, rights.go                  what the broker allows the client
//	refusals.go     the topics of a Produce that are refused
//
// # Locks and goroutines
//
// A session belongs to the event loop of its connection, and has no lock. Router.mu, Lease.mu,
// Directory.mu and desk.mu are leaves, and none is taken for a request that is forwarded at once.
// The package starts goroutines only within Decision.Run, and waits for them there.
package router
