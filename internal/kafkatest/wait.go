package kafkatest

import (
	"testing"
	"time"
)

// WaitFor polls until done says true. When that has not happened within the timeout the test fails, with what was
// awaited and what done last said about it. The timeout is for a hung system, not a measurement: be generous.
func WaitFor(t testing.TB, timeout time.Duration, what string, done func() (ok bool, state string)) {
	t.Helper()
	deadline := time.Now().Add(timeout)
	for {
		ok, state := done()
		if ok {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("waited %v for %s; last: %s", timeout, what, state)
		}
		select {
		case <-t.Context().Done():
			t.Fatalf("the test ended while it waited for %s; last: %s", what, state)
		case <-time.After(50 * time.Millisecond):
		}
	}
}
