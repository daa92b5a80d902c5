package telemetry

import (
	"container/list"
	"net"
	"net/http"
	"sync"
)

// maxConnections is how many connections the server has at one time. A scraper and a few probes
// take one each.
const maxConnections = 64

// limit keeps the number of connections of an http.Server bounded. A new one takes the place of the
// one that has been without a request for the longest time, so that connections that only wait do
// not keep a probe out.
type limit struct {
	most int

	mu      sync.Mutex
	waiting list.List                  // of net.Conn without a request, the longest waiting first
	conns   map[net.Conn]*list.Element // all; nil = at work on a request
}

// state is http.Server.ConnState.
func (l *limit) state(conn net.Conn, state http.ConnState) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conns == nil {
		l.conns = map[net.Conn]*list.Element{}
	}
	if e := l.conns[conn]; e != nil {
		l.waiting.Remove(e)
	}
	switch state {
	case http.StateNew:
		for len(l.conns) >= l.most {
			oldest := l.waiting.Front()
			if oldest == nil { // all are at work
				_ = conn.Close() // its end is reported, too
				break
			}
			l.waiting.Remove(oldest)
			delete(l.conns, oldest.Value.(net.Conn))
			_ = oldest.Value.(net.Conn).Close()
		}
		l.conns[conn] = l.waiting.PushBack(conn)
	case http.StateIdle:
		l.conns[conn] = l.waiting.PushBack(conn)
	case http.StateActive:
		l.conns[conn] = nil
	default: // closed, or taken over by a handler
		delete(l.conns, conn)
	}
}
