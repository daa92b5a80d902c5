package group

import "time"

// Lease is how long an instance may count on being a member of the group, and so on being the only
// one that appends to the partitions of its slots. It is pure: times come as arguments.
//
// The coordinator gives up a member from which it has received nothing for the session time-out,
// and the slots go to others. The coordinator starts its time-out when a request arrives. The
// member starts its own, by its own clock, when it sends the request, which is earlier. So the
// member's lease ends first. margin allows for clocks that run at different rates, and for an
// append that is on its way to the log when the lease ends.
//
// The lease lasts only while both of the machine's clocks say so: the monotonic clock stands still
// while a machine is suspended, and people set the other one.
//
// Invariant: a lease that was once seen to have ended stays ended, however soon an answer comes
// after that. Only grant begins again what was stopped because of it.
type Lease struct {
	Session, Margin time.Duration
	Held            bool
	Until           time.Time
}

// Grant begins a lease as of sent, the time at which a request was sent that has been answered. It
// returns false if that is too long ago.
func (l *Lease) Grant(sent, now time.Time) bool {
	l.Held, l.Until = true, sent.Add(l.Session-l.Margin)
	return l.Valid(now)
}

// Renew extends the lease, if it has not ended: the coordinator has answered a request that was
// sent at sent.
func (l *Lease) Renew(sent, now time.Time) {
	if until := sent.Add(l.Session - l.Margin); l.Valid(now) && until.After(l.Until) {
		l.Until = until
	}
}

// Valid reports whether the lease lasts.
func (l *Lease) Valid(now time.Time) bool {
	l.Held = l.Held && now.Before(l.Until) && now.Round(0).Before(l.Until.Round(0))
	return l.Held
}
