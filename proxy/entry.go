package proxy

import "klink/router"

// entryState is what the answer to a request waits for.
type entryState uint8

const (
	awaiting entryState = iota // the broker's response
	running                    // Decision.Run, on its goroutine
	ready                      // the responses to earlier requests: frame is the answer
)

// entry is one request that has not been answered yet. pair.fifo holds it, in the order in which
// the client gets its answers. While it is awaiting, pair.sent holds it too, in the order in which
// the broker answers. The two orders differ if the decision on a whole response was another
// request.
type entry struct {
	state entryState
	// hold is set while later requests of the connection must wait for this one.
	hold bool
	// exclusive keeps hold set until the request has been answered.
	exclusive bool
	// discard: the response is read and thrown away. The entry is no longer in fifo.
	discard bool
	// keep: the response cannot be passed on yet, so it is collected in buf.
	keep bool

	stream router.Stream
	whole  func([]byte) router.Decision
	// request owns the buffer that contains frame, as long as the decision may refer to it.
	request *buffer
	frame   []byte
	// buf collects a whole or kept response, or holds an answer that is ready.
	buf *buffer
}

// collects reports whether the response is collected in buf instead of being passed on.
func (e *entry) collects() bool { return e.whole != nil || e.keep }

// newEntry takes an entry from the loop's free list.
func (l *loop) newEntry() *entry {
	if n := len(l.entries); n > 0 {
		e := l.entries[n-1]
		l.entries = l.entries[:n-1]
		return e
	}
	return new(entry)
}

// freeEntry frees an entry that nobody refers to, and its buffers.
func (l *loop) freeEntry(e *entry) {
	e.request.free()
	e.buf.free()
	*e = entry{}
	if len(l.entries) < maxFreeEntries {
		l.entries = append(l.entries, e)
	}
}

const maxFreeEntries = 256
