package replicator

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"klink/internal/retry"
	"klink/replicator/core"
	"klink/replicator/wire"

	"github.com/twmb/franz-go/pkg/kerr"
)

// A partition is aligned if its physical offsets are the source's, so that even a client that
// bypasses klink reads every record at the source's offset. Two mechanisms keep it so: burn.go
// before the first record, markers.go for holes later on. A mirror is right without them: where one
// is not possible the partition goes on with a shift.

// notAligned is the error that physical offsets cannot be made the source's. It is no failure:
// nothing in the log is wrong. The mirror goes on with a shift from where its log ends, which has
// to be read again.
type notAligned struct {
	reason  core.AlignReason
	message string // names topic and partition, and what to do about it
	cause   error  // of the destination, nil if it was not asked
}

func (n *notAligned) Error() string {
	if n.cause == nil {
		return string(n.reason) + ": " + n.message
	}
	return fmt.Sprintf("%s: %s: %v", n.reason, n.message, n.cause)
}

func (n *notAligned) Unwrap() error { return n.cause }

// refusedAlign returns the notAligned for a request that the destination refused for good. It
// returns nil if another attempt may succeed, or if the request may have been carried out. need
// names the permission that the request needs.
func refusedAlign(err error, what, need string) *notAligned {
	var code *kerr.Error
	if !errors.As(err, &code) {
		return nil
	}
	reason, message := core.AlignReason(""), what
	switch code {
	case kerr.TopicAuthorizationFailed, kerr.ClusterAuthorizationFailed, kerr.TransactionalIDAuthorizationFailed:
		reason, message = core.AlignNotPermitted, fmt.Sprintf("%s: klink's principal needs %s", what, need)
	case kerr.PolicyViolation:
		reason = core.AlignPolicy
	case kerr.UnsupportedVersion, kerr.UnsupportedForMessageFormat, kerr.UnsupportedCompressionType:
		reason = core.AlignUnsupported
	case kerr.InvalidRecord, kerr.InvalidTimestamp, kerr.InvalidRequest, kerr.InvalidTopicException,
		kerr.InvalidProducerEpoch, kerr.InvalidTxnState, kerr.InvalidProducerIDMapping, kerr.TransactionCoordinatorFenced:
		reason = core.AlignRefused
	default:
		return nil
	}
	return &notAligned{reason: reason, message: message, cause: err}
}

// strikes counts errors that are neither a known refusal nor an outage. Kafka marks the codes of
// outages as retriable, and klink waits outages out. Any other code counts as a refusal when it has
// come a few times in a row.
type strikes struct{ inARow int }

// attemptsToBelieve is how often in a row a code that is not retriable must come to count as a
// refusal.
const attemptsToBelieve = 3

func (s *strikes) reset() { s.inARow = 0 }

// lost counts err and reports whether such errors have come too often.
func (s *strikes) lost(err error) bool {
	var code *kerr.Error
	if !errors.As(err, &code) || code.Retriable {
		return false
	}
	s.inARow++
	return s.inARow >= attemptsToBelieve
}

// unanswered is the error of a request that was sent, at least in part, and has no answer: it may
// still be in flight, and the broker may carry it out later.
type unanswered struct{ err error }

func (u unanswered) Error() string { return u.err.Error() }
func (u unanswered) Unwrap() error { return u.err }

// asUnanswered marks the error of a request as unanswered if any of it was sent.
func asUnanswered(err error) error {
	if err == nil || wire.NeverSent(err) {
		return err
	}
	return unanswered{err: err}
}

func isUnanswered(err error) bool {
	var u unanswered
	return errors.As(err, &u)
}

// pace spreads work evenly over time: perSecond units a second for all callers together. Callers go
// in the order in which they come, and the first one goes at once.
type pace struct {
	perSecond float64

	mu   sync.Mutex
	free time.Time // when the units let through so far have used up their time
}

func newPace(perSecond float64) *pace { return &pace{perSecond: perSecond} }

// reserve returns how long to wait before n units that are asked for now.
func (p *pace) reserve(now time.Time, n int64) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := p.free
	if at.Before(now) {
		at = now
	}
	p.free = at.Add(time.Duration(float64(n) / p.perSecond * float64(time.Second)))
	return at.Sub(now)
}

// wait waits until n units may go; the error is ctx's.
func (p *pace) wait(ctx context.Context, n int64) error {
	if d := p.reserve(time.Now(), n); d > 0 && retry.Sleep(ctx, d) != nil {
		return ctx.Err()
	}
	return ctx.Err()
}
