package kafkatest

import (
	"fmt"
	"testing"
	"time"
)

// WaitFor polls until done returns true. After the timeout it fails the test, with `what` and the
// last state of done. The timeout is for a hung system, not a measurement: be generous.
func WaitFor(t testing.TB, timeout time.Duration, what string, done func() (ok bool, state string)) {
	t.Helper()
	await(t, timeout, what, fmt.Sprintf("waited %v for %s", timeout, what), func() (bool, int64, string) {
		ok, state := done()
		return ok, 0, state
	})
}

// WaitForProgress is WaitFor for work whose duration depends on the machine. It fails the test when
// progress has not grown for the duration `still`.
func WaitForProgress(t testing.TB, still time.Duration, what string, done func() (ok bool, progress int64, state string)) {
	t.Helper()
	await(t, still, what, fmt.Sprintf("waited for %s, %v without progress", what, still), done)
}

// await polls done until it is ok, and gives up when progress has not grown for the duration
// `still`.
func await(t testing.TB, still time.Duration, what, over string, done func() (ok bool, progress int64, state string)) {
	t.Helper()
	most, deadline := int64(-1), time.Now().Add(still)
	for {
		ok, progress, state := done()
		if ok {
			return
		}
		if progress > most {
			most, deadline = progress, time.Now().Add(still)
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s; last: %s", over, state)
		}
		select {
		case <-t.Context().Done():
			t.Fatalf("the test ended while it waited for %s; last: %s", what, state)
		case <-time.After(50 * time.Millisecond):
		}
	}
}
