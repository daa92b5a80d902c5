package replicator

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
)

// A partition is aligned where its physical offsets are the source's, so that even a client that
// goes around klink reads every record at the source's offset. Two means keep it so: burn.go before
// the first record, markers.go for holes later on. Neither is needed for the mirror to be right:
// where one is not possible the partition goes on with a shift.

// alignReason names why a partition is not aligned, for programs.
type alignReason string

const (
	// alignTooFar: more offsets than offset.alignment.max lie below the source's log start.
	alignTooFar alignReason = "TOO_MANY_OFFSETS"
	// alignNotPermitted: klink's principal lacks a permission; its name is in the message.
	alignNotPermitted alignReason = "NOT_PERMITTED"
	// alignPolicy: the topic's cleanup policy, or a policy of the destination, forbids it.
	alignPolicy alignReason = "POLICY_VIOLATION"
	// alignUnsupported: the destination does not know the request, the codec or the format.
	alignUnsupported alignReason = "UNSUPPORTED"
	// alignHoleTooLarge: a hole has more offsets than are filled with markers.
	alignHoleTooLarge alignReason = "HOLE_TOO_LARGE"
	// alignOvershot: fillers were appended twice, so that the log ends beyond the source's log
	// start.
	alignOvershot alignReason = "OVERSHOT"
	// alignRefused: the destination refuses for another reason, in the message.
	alignRefused alignReason = "REFUSED"
)

// notAligned says that physical offsets cannot be made the source's, and why. It is no failure:
// nothing in the log is wrong, and the mirror goes on with a shift from where its log ends, which
// has to be read again.
type notAligned struct {
	reason  alignReason
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

// refusedAlign is the notAligned of a request that the destination refused for good; nil if another
// attempt may succeed or the request may have been carried out. need names the permission that the
// request takes.
func refusedAlign(err error, what, need string) *notAligned {
	var code *kerr.Error
	if !errors.As(err, &code) {
		return nil
	}
	reason, message := alignReason(""), what
	switch code {
	case kerr.TopicAuthorizationFailed, kerr.ClusterAuthorizationFailed, kerr.TransactionalIDAuthorizationFailed:
		reason, message = alignNotPermitted, fmt.Sprintf("%s: klink's principal needs %s", what, need)
	case kerr.PolicyViolation:
		reason = alignPolicy
	case kerr.UnsupportedVersion, kerr.UnsupportedForMessageFormat, kerr.UnsupportedCompressionType:
		reason = alignUnsupported
	case kerr.InvalidRecord, kerr.InvalidTimestamp, kerr.InvalidRequest, kerr.InvalidTopicException,
		kerr.InvalidProducerEpoch, kerr.InvalidTxnState, kerr.InvalidProducerIDMapping, kerr.TransactionCoordinatorFenced:
		reason = alignRefused
	default:
		return nil
	}
	return &notAligned{reason: reason, message: message, cause: err}
}

// patience counts answers that are neither a success nor a refusal that is known for good. Outages
// are waited out, as Kafka marks their codes retriable; any other code is believed after a few
// times.
type patience struct{ strikes int }

// attemptsToBelieve is how often a code that Kafka does not call retriable has to come in a row to
// count as a refusal.
const attemptsToBelieve = 3

func (p *patience) reset() { p.strikes = 0 }

// lost says that err has come too often.
func (p *patience) lost(err error) bool {
	var code *kerr.Error
	if !errors.As(err, &code) || code.Retriable {
		return false
	}
	p.strikes++
	return p.strikes >= attemptsToBelieve
}

// unanswered is the error of a request that was sent, at least in part, and has no answer: it may
// still be on its way, and be carried out later.
type unanswered struct{ err error }

func (u unanswered) Error() string { return u.err.Error() }
func (u unanswered) Unwrap() error { return u.err }

// asUnanswered marks the error of a request as unanswered if any of it was sent.
func asUnanswered(err error) error {
	if err == nil || neverSent(err) {
		return err
	}
	return unanswered{err}
}

func isUnanswered(err error) bool {
	var u unanswered
	return errors.As(err, &u)
}

// pace spreads work evenly over time: perSecond units a second, over all who share it. Whoever
// comes first goes first, at once.
type pace struct {
	perSecond float64

	mu   sync.Mutex
	free time.Time // when what has been let through will be paid for
}

func newPace(perSecond float64) *pace { return &pace{perSecond: perSecond} }

// reserve is how long to wait before n units that are asked for now.
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
	if d := p.reserve(time.Now(), n); d > 0 && !sleep(ctx, d) {
		return ctx.Err()
	}
	return ctx.Err()
}
