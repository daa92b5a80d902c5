package oauth

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"
)

const (
	// quickTries is how often one round tries, if a failure may be over soon.
	quickTries = 3
	// roundLimit bounds a round, whatever a Fetch waits for.
	roundLimit = 5 * time.Minute
	// patience is how long a login waits for a round if the last one failed: then the login had
	// better fail soon, and with what is wrong.
	patience = time.Second
)

// Fetch gets a new token. An error that is not an *Error is one of the context.
type Fetch func(context.Context) (Token, error)

// source holds the present token, and gets the next one in good time. Tokens are got in rounds, at
// most one at a time, which no login owns: a login that gives up does not end the round.
type source struct {
	fetch  Fetch
	policy Policy

	mu        sync.Mutex
	token     Token
	got       time.Time // when token was fetched
	refreshAt time.Time
	planned   bool // a timer will begin a round for this token
	failure   error
	failures  int           // in a row
	retryAt   time.Time     // no round before this time, after a failure
	round     chan struct{} // closed at the end of the round; nil = there is none
}

// current returns a token that has not expired. It waits for one if there is none, and for a moment
// if the present one is about to expire: a session ends with its token, and a broker refuses to
// begin another one within a second.
func (s *source) current(ctx context.Context) (Token, error) {
	s.mu.Lock()
	now := time.Now()
	lives := now.Before(s.token.Expires)
	held := s.failure != nil && s.round == nil && now.Before(s.retryAt)
	if lives && (held || s.token.Expires.Sub(now) >= s.ample()) {
		defer s.mu.Unlock()
		s.plan(now)
		return s.token, nil
	}
	last := s.failure
	if held {
		defer s.mu.Unlock()
		return Token{}, last
	}
	if s.round == nil {
		s.begin()
	}
	round := s.round
	s.mu.Unlock()

	var enough <-chan time.Time
	if lives || last != nil {
		timer := time.NewTimer(patience)
		defer timer.Stop()
		enough = timer.C
	}
	select {
	case <-round:
	case <-enough:
	case <-ctx.Done():
		return Token{}, ctx.Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch now := time.Now(); {
	case now.Before(s.token.Expires):
		s.plan(now)
		return s.token, nil
	case s.failure != nil:
		return Token{}, s.failure
	}
	return Token{}, failed("there was no token in time")
}

// ample is how long a token has to live for a login that waits for no other one.
func (s *source) ample() time.Duration {
	return min(5*time.Second, s.token.Expires.Sub(s.token.Issued)/2)
}

// forget drops a token that a broker has refused, so that the next login gets a new one; the
// issuer's keys may have changed. It keeps one that is new: another one would be refused, too.
func (s *source) forget(value string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.token.Value == value && time.Since(s.got) >= s.policy.RetryBackoffMax {
		s.token = Token{}
	}
}

// plan sees to it that the present token is refreshed. The caller holds s.mu.
func (s *source) plan(now time.Time) {
	if s.planned || s.round != nil {
		return
	}
	s.planned = true
	at := s.refreshAt
	if s.failure != nil {
		at = s.retryAt
	}
	time.AfterFunc(at.Sub(now), func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.planned = false
		if s.round == nil {
			s.begin()
		}
	})
}

// begin starts a round. The caller holds s.mu.
func (s *source) begin() {
	s.round = make(chan struct{})
	time.AfterFunc(0, s.run)
}

// run is a round.
func (s *source) run() {
	ctx, cancel := context.WithTimeout(context.Background(), roundLimit)
	defer cancel()
	token, err := s.try(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	close(s.round)
	s.round = nil
	if err == nil {
		s.token, s.got, s.failure, s.failures = token, now, nil, 0
		s.refreshAt = s.policy.refreshAt(token, now, rand.Float64())
		return
	}
	s.failures++
	s.failure, s.retryAt = err, now.Add(s.policy.backoff(s.failures))
	if now.Before(s.token.Expires) {
		s.plan(now)
	}
}

// try fetches a token. It tries again a few times after a failure that may be over soon.
func (s *source) try(ctx context.Context) (Token, error) {
	began := time.Now()
	for n := 1; ; n++ {
		token, err := s.fetch(ctx)
		var e *Error
		switch {
		case err == nil:
			return token, nil
		case !errors.As(err, &e):
			return token, failed("no token within %v", roundLimit)
		case e.refused, n == quickTries, time.Since(began) > patience:
			return token, e
		}
		timer := time.NewTimer(s.policy.backoff(n))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return token, e
		}
	}
}
