// Package wire is the replicator's own connection to a broker, for the two requests that carry
// batches: Fetch at the source and Produce at the destination. Everything else goes through
// franz-go.
//
// What it is for: a fetch response is read from the socket into memory that the caller owns and
// accounts for, a produce request is written from there by reference (writev), and neither
// allocates anything per request, partition or batch. A connection has one request in flight, and
// is used by one goroutine.
//
// Reading order: dialer.go (where connections come from), conn.go (one of them), versions.go and
// login.go (what it begins with), message.go (a request in memory), then the two requests and the
// two responses, one file each.
//
// Everything that a broker sends is untrusted: a length is checked against what is there, or
// against a bound, before it is believed. No parser panics (see the fuzz targets), and all agree
// with kmsg (differential tests).
package wire
