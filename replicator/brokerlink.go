package replicator

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"klink/replicator/wire"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// addresses maps node ids of a cluster to host:port, from the latest Metadata responses.
type addresses struct {
	mu     sync.Mutex
	byNode map[int32]string
}

// learn stores the brokers of a Metadata response. A broker that is not in it keeps its address: it
// may be down for a moment.
func (a *addresses) learn(brokers []kmsg.MetadataResponseBroker) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.byNode == nil {
		a.byNode = map[int32]string{}
	}
	for _, b := range brokers {
		a.byNode[b.NodeID] = net.JoinHostPort(b.Host, strconv.Itoa(int(b.Port)))
	}
}

func (a *addresses) of(node int32) (string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if addr, ok := a.byNode[node]; ok {
		return addr, nil
	}
	return "", fmt.Errorf("metadata has no broker %d", node)
}

// brokerLink is a connection to a broker. It reconnects when the connection is lost or the broker
// has moved. For one goroutine.
type brokerLink struct {
	dialer *wire.Dialer
	at     *addresses
	node   int32
	conn   *wire.Conn
}

// preparer builds a request in a version that the broker of the connection supports.
type preparer interface {
	prepare(c *wire.Conn) (wire.Request, error)
}

// send sends a request over the existing connection or a new one. If the existing one had ended
// before the request was sent, it sends the request over a new one. The error is a
// *wire.UnsentError if the broker cannot have received the request.
func (l *brokerLink) send(ctx context.Context, p preparer, wait time.Duration) (*wire.Conn, error) {
	for {
		fresh, err := l.connect(ctx)
		if err != nil {
			return nil, err
		}
		req, err := p.prepare(l.conn)
		if err == nil {
			err = l.conn.Send(ctx, req, wait)
		}
		if err == nil {
			return l.conn, nil
		}
		l.close()
		var unsent *wire.UnsentError
		if fresh || ctx.Err() != nil || !errors.As(err, &unsent) {
			return nil, err
		}
	}
}

// rest waits until the broker takes requests again; the error is ctx's.
func (l *brokerLink) rest(ctx context.Context) error {
	if l.conn == nil {
		return nil
	}
	return l.conn.Rest(ctx)
}

// connect ensures that there is a connection. fresh is true if it has just been made.
func (l *brokerLink) connect(ctx context.Context) (fresh bool, err error) {
	addr, err := l.at.of(l.node)
	if err != nil {
		return false, &wire.UnsentError{Err: err}
	}
	if l.conn != nil && l.conn.Addr() == addr {
		return false, nil
	}
	l.close()
	l.conn, err = l.dialer.Connect(ctx, addr)
	return true, err
}

// close ends the connection; the next request makes another one.
func (l *brokerLink) close() {
	if l.conn != nil {
		l.conn.Close()
		l.conn = nil
	}
}
