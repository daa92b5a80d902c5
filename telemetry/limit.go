package telemetry

import (
	"container/list"
	"net"
	"net/http"
	"sync"
)

// maxConnections bounds the server's open connections. A scraper and a few probes use one each.
const maxConnections = 64

// limit bounds the number of connections of an http.Server. At the bound, a new connection replaces
// the one that has been idle longest. So idle connections never keep a probe out.
type limit struct {
	most int

	mu      sync.Mutex
	waiting list.List                  // of net.Conn without a request, the longest idle first
	conns   map[net.Conn]*list.Element // all connections; nil = serving a request
}

// state is the server's http.Server.ConnState.
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
			if oldest == nil { // all are serving requests
				_ = conn.Close() // its closing is reported, too
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
