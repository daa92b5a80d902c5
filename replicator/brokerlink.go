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

// addresses are where the brokers of a cluster are, by what its metadata said last.
type addresses struct {
	mu     sync.Mutex
	byNode map[int32]string
}

// learn takes the brokers of a metadata response. One that is not in it keeps its address: it may
// be down for a moment.
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

// brokerLink is a connection to a broker, made anew when it is lost or the broker has moved. For
// one goroutine.
type brokerLink struct {
	dialer *wire.Dialer
	at     *addresses
	node   int32
	conn   *wire.Conn
}

// preparer builds a request for a connection, which has its versions.
type preparer interface {
	prepare(c *wire.Conn) (wire.Request, error)
}

// send sends a request, over the connection there is or another one. An error is a
// *wire.UnsentError if the broker cannot have got it; what was not sent because an old connection
// had ended is sent over another one.
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

// rest waits until the broker takes requests again; an error is that of ctx.
func (l *brokerLink) rest(ctx context.Context) error {
	if l.conn == nil {
		return nil
	}
	return l.conn.Rest(ctx)
}

// connect makes sure that there is a connection; fresh says that it was just made.
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

// neverSent says that a request failed before any of it was sent.
func neverSent(err error) bool {
	var unsent *wire.UnsentError
	var op *net.OpError
	return errors.As(err, &unsent) || errors.As(err, &op) && op.Op == "dial"
}
