package oauth

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// kafkas are Kafka's defaults, without chance.
var kafkas = Policy{WindowFactor: 0.8, MinPeriod: time.Minute, Buffer: 5 * time.Minute, RetryBackoff: 100 * time.Millisecond, RetryBackoffMax: 10 * time.Second}

// issuer is a Fetch whose tokens live for an hour. It counts, and fails as it is told.
type issuer struct {
	mu    sync.Mutex
	n     int
	fails error
}

func (i *issuer) fetch(context.Context) (Token, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.n++
	if i.fails != nil {
		return Token{}, i.fails
	}
	now := time.Now()
	return Token{Value: strconv.Itoa(i.n), Issued: now, Expires: now.Add(time.Hour)}, nil
}

// fail makes it fail from now on; nil ends that.
func (i *issuer) fail(err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.fails = err
}

// asked is how often it was asked.
func (i *issuer) asked() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.n
}

// use logs in, and returns the token or the error.
func use(s *source) string {
	token, err := s.current(context.Background())
	if err != nil {
		return err.Error()
	}
	return token.Value
}

func later(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// TestTokensAreRefreshedAhead: a token that is in use is replaced at 80 % of its life, without
// waiting for a login; one that nobody uses is not.
func TestTokensAreRefreshedAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := &issuer{}
		s := &source{fetch: i.fetch, policy: kafkas}
		require.Equal(t, "1", use(s))
		later(47 * time.Minute)
		require.Equal(t, "1", use(s))
		require.Equal(t, 1, i.asked())
		later(2 * time.Minute)
		require.Equal(t, 2, i.asked(), "the timer has asked")
		later(2 * time.Hour)
		require.Equal(t, 2, i.asked(), "nobody has used the second token")
		require.Equal(t, "3", use(s))
		later(49 * time.Minute)
		require.Equal(t, "4", use(s))
	})
}

// TestAnOutageOfTheIssuer: logins have the old token for as long as it lives, then the error, at
// once; the issuer is asked ever more rarely; all is well when it is back.
func TestAnOutageOfTheIssuer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := &issuer{}
		s := &source{fetch: i.fetch, policy: kafkas}
		require.Equal(t, "1", use(s))
		i.fail(failed("down"))
		later(59 * time.Minute)
		require.Equal(t, "1", use(s))
		asked := i.asked()
		require.Greater(t, asked, 50, "every ten seconds, a few times each")
		later(2 * time.Minute)
		require.Equal(t, "down", use(s))
		later(time.Minute)
		asked = i.asked()
		require.Equal(t, "down", use(s))
		require.Equal(t, "down", use(s), "the failure is remembered")
		require.Equal(t, asked+quickTries, i.asked())
		i.fail(nil)
		later(20 * time.Second)
		require.Regexp(t, `^\d+$`, use(s))
	})
}

// TestTheEndOfAToken: a login does not begin with a token that is about to expire if there is
// another one.
func TestTheEndOfAToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := &issuer{}
		s := &source{fetch: i.fetch, policy: kafkas}
		require.Equal(t, "1", use(s))
		i.fail(refused("down"))
		later(time.Hour - 3*time.Second)
		require.Equal(t, "1", use(s), "there is no other one")
		i.fail(nil)
		later(2 * time.Second)
		s.mu.Lock()
		s.retryAt = time.Now()
		s.mu.Unlock()
		require.NotEqual(t, "1", use(s))
	})
}

// TestARefusalIsNotRepeated: a wrong secret is tried once a round.
func TestARefusalIsNotRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := &issuer{fails: refused("wrong secret")}
		s := &source{fetch: i.fetch, policy: kafkas}
		for range 100 {
			require.Equal(t, "wrong secret", use(s))
		}
		require.Equal(t, 1, i.asked())
	})
}

// TestALoginGivesUp: a login that ends does not end the round, and one that has failed before does
// not wait for an issuer that does not answer.
func TestALoginGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answer, done := make(chan error), 0
		s := &source{policy: kafkas, fetch: func(context.Context) (Token, error) {
			err := <-answer
			done++
			return Token{Value: "late", Expires: time.Now().Add(time.Hour)}, err
		}}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := s.current(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		answer <- refused("no")
		synctest.Wait()
		later(time.Second)
		require.Equal(t, "no", use(s), "the round goes on, the login does not wait for it")
		answer <- nil
		synctest.Wait()
		require.Equal(t, "late", use(s))
		require.Equal(t, 2, done)
	})
}

// TestARefusedTokenIsForgotten: if the broker refuses a token, the next login gets another one,
// but not ever more of them.
func TestARefusedTokenIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := &issuer{}
		s := &source{fetch: i.fetch, policy: kafkas}
		m := &mechanism{source: s}
		login := func() {
			session, _, err := m.Authenticate(t.Context(), "b:1")
			require.NoError(t, err)
			done, out, err := session.Challenge([]byte(`{"status":"invalid_token"}`))
			require.ErrorContains(t, err, "invalid_token")
			require.False(t, done)
			require.Empty(t, out)
		}
		for range 20 {
			login()
			later(time.Second)
		}
		require.InDelta(t, 2, i.asked(), 1)
	})
}

func TestRefreshAt(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	at := func(p Policy, issued, expires, chance float64) float64 {
		second := func(s float64) time.Time { return now.Add(time.Duration(s * float64(time.Second))) }
		return p.refreshAt(Token{Issued: second(issued), Expires: second(expires)}, now, chance).Sub(now).Seconds()
	}
	jitter := kafkas
	jitter.WindowJitter = 0.05
	require.InDelta(t, 2880, at(kafkas, 0, 3600, 1), 0.01)
	require.InDelta(t, 3060, at(jitter, 0, 3600, 1), 0.01)
	require.InDelta(t, 1080, at(kafkas, -1800, 1800, 0), 0.01, "it counts from when the token was issued")
	require.InDelta(t, 700, at(kafkas, 0, 1000, 0), 0.01, "five minutes before its end at the latest")
	require.InDelta(t, 60, at(kafkas, -3000, 600, 0), 0.01, "a minute from now at the earliest")
	require.InDelta(t, 8, at(kafkas, 0, 10, 0), 0.01, "a token with a short life")
	require.InDelta(t, 0.5, at(kafkas, -10, 0.5, 0), 0.01)
	require.Equal(t, 10*time.Second, kafkas.backoff(1000))
	require.Equal(t, 400*time.Millisecond, kafkas.backoff(3))
}

func TestTokensOfTheContext(t *testing.T) {
	s := &source{policy: kafkas, fetch: func(context.Context) (Token, error) { return Token{}, context.Canceled }}
	_, err := s.current(t.Context())
	var e *Error
	require.ErrorAs(t, err, &e)
	require.False(t, errors.Is(err, context.Canceled))
}
