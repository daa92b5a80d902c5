// Package wire is a plain Kafka client for benchmarks: it sends requests over one connection and
// reads the answers, without metadata that it keeps, without batching and without retries. So a
// benchmark measures the path of a request, and what it costs to make one hardly counts.
//
// klink's own client, replicator/wire, is another one on purpose. This one is the floor that klink
// is measured against; shared code would hide what is slow in it.
//
// Reading order: conn.go (a connection: one request at a time, or several that wait for their
// answers), produce.go and metadata.go (requests over it), record_batch.go, and then fetcher.go and
// producer.go, which ask the same thing again and again and check every answer.
//
// There are no locks. A connection belongs to one goroutine; of a pipelined one, one goroutine may
// send while another receives. The package imports nothing of klink.
package wire
