package kafkaclient

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// DialTrouble is a franz-go hook that keeps the last error of connecting. A request that runs out
// of time while the client retries the connection reports only the time-out. Safe for concurrent
// use.
type DialTrouble struct{ last atomic.Pointer[error] }

var _ kgo.HookBrokerConnect = (*DialTrouble)(nil)

// OnBrokerConnect implements kgo.HookBrokerConnect.
func (d *DialTrouble) OnBrokerConnect(_ kgo.BrokerMetadata, _ time.Duration, _ net.Conn, err error) {
	if err == nil {
		d.last.Store(nil)
	} else if !errors.Is(err, context.Canceled) && !errors.Is(err, kgo.ErrClientClosed) {
		d.last.Store(&err)
	}
}

// Last returns the error of the last attempt to connect; nil if it succeeded, or there was none.
func (d *DialTrouble) Last() error {
	if err := d.last.Load(); err != nil {
		return *err
	}
	return nil
}
