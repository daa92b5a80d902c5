package proxy

import (
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// logEvery is how often the same reason for closing connections is logged. Closes in between are
// only counted.
const logEvery = 5 * time.Second

// closeLog logs why connections are closed, at a limited rate, so that a client that hammers the
// proxy does not fill the disk.
type closeLog struct {
	logger     *slog.Logger
	mu         sync.Mutex
	last       [numReasons]time.Time
	suppressed [numReasons]int
}

// closed logs the end of a connection. Everyday reasons go to the debug level.
func (l *closeLog) closed(r Reason, listener, remote string, broker int32, err error) {
	switch r {
	case ReasonClient, ReasonUpstream, ReasonIdle, ReasonDrain:
		l.logger.Debug("connection closed", "reason", r.String(), "listener", listener, "client", remote, "broker", broker, "err", err)
		return
	case ReasonPanic: // logged where it happened, with its stack
		return
	}
	now := time.Now()
	l.mu.Lock()
	if now.Sub(l.last[r]) < logEvery {
		l.suppressed[r]++
		l.mu.Unlock()
		return
	}
	n := l.suppressed[r]
	l.last[r], l.suppressed[r] = now, 0
	l.mu.Unlock()
	l.logger.Warn("connection closed", "reason", r.String(), "listener", listener, "client", remote, "broker", broker, "err", err, "suppressed", n)
}

// gnetLogger passes gnet's log to slog. gnet's info and warn levels become debug here.
type gnetLogger struct{ *slog.Logger }

func (l gnetLogger) Debugf(format string, args ...any) { l.Debug(fmt.Sprintf(format, args...)) }
func (l gnetLogger) Infof(format string, args ...any)  { l.Debug(fmt.Sprintf(format, args...)) }
func (l gnetLogger) Warnf(format string, args ...any)  { l.Debug(fmt.Sprintf(format, args...)) }
func (l gnetLogger) Errorf(format string, args ...any) {
	// For some calls gnet also reports nil errors.
	if len(args) > 0 && args[len(args)-1] == nil {
		return
	}
	l.Error(fmt.Sprintf(format, args...))
}
func (l gnetLogger) Fatalf(format string, args ...any) { l.Error(fmt.Sprintf(format, args...)) }
