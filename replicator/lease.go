package replicator

import "time"

// lease is how long an instance may count on being a member of the group, and so on being the only
// one that appends to the partitions of its slots. It is pure: times come as arguments.
//
// The group's coordinator gives up a member from which it has not heard for the session time-out,
// and gives its slots to others. What it heard it heard after it was sent. So a member that counts
// from the moment at which it sent what was answered, by a clock of its own, is done before the
// coordinator is; margin is for clocks that run at different rates, and for an append that is on
// its way to the log when the lease ends.
//
// Both of the machine's clocks must say that it lasts: the monotonic one stands still while a
// machine is suspended, the other one is set by people.
//
// Invariant: a lease that was once seen to have ended stays ended, however quickly an answer comes
// after that. What was stopped because of it is begun again by grant.
type lease struct {
	session, margin time.Duration
	held            bool
	until           time.Time
}

// grant begins a lease with something that was answered and was sent at the time sent; false if
// that is too long ago.
func (l *lease) grant(sent, now time.Time) bool {
	l.held, l.until = true, sent.Add(l.session-l.margin)
	return l.valid(now)
}

// renew makes a lease last longer, if it has not ended.
func (l *lease) renew(sent, now time.Time) {
	if until := sent.Add(l.session - l.margin); l.valid(now) && until.After(l.until) {
		l.until = until
	}
}

// valid says whether the lease lasts.
func (l *lease) valid(now time.Time) bool {
	l.held = l.held && now.Before(l.until) && now.Round(0).Before(l.until.Round(0))
	return l.held
}
