package oauth

import "time"

// Policy says when tokens are refreshed, in the terms of Kafka's sasl.login.refresh.* and
// sasl.login.retry.*.
type Policy struct {
	// WindowFactor is the part of a token's life after which it is refreshed.
	WindowFactor float64
	// WindowJitter is the most that is added to WindowFactor, at random.
	WindowJitter float64
	// MinPeriod is how long a token is left alone at least, and Buffer how long before its end it is
	// refreshed at the latest. Neither counts if a token lives for less than both together.
	MinPeriod, Buffer time.Duration
	// RetryBackoff is how long to wait after a failure. The wait doubles up to RetryBackoffMax.
	RetryBackoff, RetryBackoffMax time.Duration
}

// leastWait is the least time between two refreshes of a token that does not change, as that of a
// file that nobody has rewritten.
const leastWait = time.Second

// refreshAt returns when to refresh a token that was received now, as Kafka's
// ExpiringCredentialRefreshingLogin does. chance is from 0 to 1.
func (p Policy) refreshAt(t Token, now time.Time, chance float64) time.Time {
	factor := p.WindowFactor + p.WindowJitter*chance
	part := func(of time.Duration) time.Duration { return time.Duration(float64(of) * factor) }
	left := t.Expires.Sub(now)
	if p.MinPeriod+p.Buffer > left {
		return now.Add(max(part(left), min(left, leastWait)))
	}
	at := t.Issued.Add(part(t.Expires.Sub(t.Issued)))
	switch first, last := now.Add(p.MinPeriod), t.Expires.Add(-p.Buffer); {
	case at.After(last):
		return last
	case at.Before(first):
		return first
	}
	return at
}

// backoff returns how long to wait after so many failures in a row.
func (p Policy) backoff(failures int) time.Duration {
	wait := p.RetryBackoff
	for range min(failures-1, 30) {
		if wait >= p.RetryBackoffMax {
			break
		}
		wait *= 2
	}
	return min(wait, p.RetryBackoffMax)
}
