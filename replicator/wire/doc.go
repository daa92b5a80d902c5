// Package wire is the replicator's own connection to a broker, for the two requests that carry
// batches: Fetch at the source and Produce at the destination. Everything else goes through
// franz-go.
//
// The package exists to control memory. A fetch response is read from the socket into memory that
// the caller owns and accounts for; a produce request is written from such memory by reference
// (writev). Neither allocates anything per request, partition or batch. A connection is used by one
// goroutine. It has one request in flight, or several that were sent without a pause
// (Conn.SendMore).
//
// Reading order: dialer.go (where connections come from), conn.go (one of them), versions.go and
// login.go (what it begins with), message.go (a request in memory), then the two requests and the
// two responses, one file each.
//
// Everything that a broker sends is untrusted: a length is checked against the bytes that are
// there, or against a bound, before it is used. No parser panics (see the fuzz targets), and all
// agree with kmsg (differential tests).
package wire
