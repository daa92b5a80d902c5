package replicator

import (
	"context"
	"errors"
	"fmt"
	"time"

	"klink/admin/model"
	"klink/internal/retry"
	"klink/protocol/batch"
	"klink/replicator/core"
	"klink/replicator/memory"

	"github.com/twmb/franz-go/pkg/kerr"
)

const (
	// minFillerRecords is the least size of fillers, in records, that burn tries before it gives up
	// on a destination that calls them too large.
	minFillerRecords = 1000
	// defaultBurnRate is how many offsets are burned a second, over all partitions. A broker's
	// request thread takes 75 to 100 ms for a million, so this keeps one thread about half busy.
	defaultBurnRate = 5_000_000
	// lastFillerGraces is how many times b.grace burn waits for a filler without an answer before
	// it appends the last filler. A broker that is short of CPU keeps a request for seconds.
	lastFillerGraces = 10
)

// burnLog is what burning needs of a log; mirrorLog is one.
type burnLog interface {
	ends(ctx context.Context) (start, end int64, err error)
	walk(ctx context.Context, from, to int64, see func(batch.Header) error) error
	append(ctx context.Context, b []byte) (base int64, err error)
	deleteBefore(ctx context.Context, to int64) error
}

// burn uses up the physical offsets below the source's log start, so that the first record after
// them gets the source's offset. It appends fillers, which are batches of empty records that no
// client is shown, and then moves the log start behind them.
//
// Invariants:
//  1. The log end alone is the progress: a burn that ended anywhere can be run again from the log.
//  2. At most one append of this run is in flight. It begins at the log end that was read or
//     confirmed before it. If its result is unknown, burn reads the log end until it is certain; an
//     append without an answer is given b.grace to arrive.
//  3. Every filler is stamped with its expected offset. As long as the last one stands there, every
//     batch before it is a filler. If it does not, burn looks at all of them.
//  4. Nothing is deleted but fillers and, with from > 0, records that the caller says lie below the
//     source's log start.
//  5. An append that gets its expected offset never takes the log end above b.to. Only a request
//     that was believed lost can do so, of this run or of a process that was killed. It does no
//     harm while its filler has room below b.to. So before the last filler, burn waits until
//     lastFillerGraces times b.grace have passed since the last such request can have been sent. If
//     one comes even later, it takes the log end above b.to, and the burn reports OVERSHOT.
type burn struct {
	log  burnLog
	name string // topic-partition, for messages
	// The burn uses up the offsets in [from, to). from is 0 for a virgin log. For a log with
	// records, all of which now lie below the source's log start, from is the log end.
	from, to int64
	// limit is offset.alignment.max; a burn of more offsets is refused. It is the same for every
	// run of a burn.
	limit int64
	pace  *pace
	grace time.Duration
	wait  retry.Backoff
	// room is room for fillers in memory. The burn waits for it before it makes each filler, and
	// holds it until the filler was answered.
	room *memory.FillerRoom
	// moved is called with the log end as it moves; may be nil.
	moved func(end int64)

	size    int // records of the next filler at most
	most    int // records of any filler at most, also of an earlier process's
	strikes strikes
	// doubt is the latest time at which a filler that may still be in flight can have been sent;
	// zero = no filler may be in flight.
	doubt time.Time
}

// run burns until log start and log end are b.to, or until ctx ends; its error is then ctx's.
// lingering is set if an append of an earlier run may still be in flight. An append of a killed
// process may be, too, but no caller knows of it: fillers in the log show that there was such a
// process. If the log has none yet, only its first filler can be in flight, and it gets b.grace.
//
// The error is a *notAligned if alignment is not possible here; the log may then hold some fillers.
// It is a *failure with FOREIGN_WRITE if somebody else's batch is in the log, or another *failure
// if the log has lost records. Everything else is retried.
func (b *burn) run(ctx context.Context, lingering bool) error {
	if n := b.to - b.from; n > b.limit {
		return &notAligned{reason: core.AlignTooFar, message: fmt.Sprintf(
			"%s: %d offsets are below the source's log start, more than offset.alignment.max=%d", b.name, n, b.limit)}
	}
	if b.size == 0 {
		b.size = batch.MaxFiller
	}
	b.most = b.size
	if lingering {
		b.doubt = time.Now()
	}
	start, end, err := b.settle(ctx, true)
	if err != nil || start >= b.to {
		return err
	}
	if end > b.from {
		b.doubt = time.Now()
	}
	// DeleteRecords comes last, but call it now to see whether it is refused: a log full of fillers
	// would be worse than a shift.
	if err := b.deleteBefore(ctx, start); err != nil {
		return err
	}
	for end < b.to {
		if end, err = b.step(ctx, end); err != nil {
			return err
		}
	}
	return b.deleteBefore(ctx, b.to)
}

// step appends one filler at end and returns the log end after it.
func (b *burn) step(ctx context.Context, end int64) (int64, error) {
	if settled, err := b.beforeLast(ctx, end); err != nil || settled != end {
		return settled, err
	}
	n := min(int64(b.size), b.to-end)
	if err := b.pace.wait(ctx, n); err != nil {
		return end, err
	}
	base, err := b.append(ctx, int(n), end)
	if err == nil && base == end {
		b.succeeded(end + n)
		return end + n, nil
	}
	if err != nil {
		if ctx.Err() != nil {
			return end, ctx.Err()
		}
		if errors.Is(err, kerr.MessageTooLarge) || errors.Is(err, kerr.RecordListTooLarge) {
			if b.size = int(n) / 2; b.size >= minFillerRecords {
				return end, nil
			}
			return end, &notAligned{reason: core.AlignRefused, cause: err, message: fmt.Sprintf(
				"%s: max.message.bytes of the topic is too small even for %d empty records", b.name, n)}
		}
		if refused := refusedAlign(err, b.name+": burning offsets is refused", "WRITE on the topic"); refused != nil {
			return end, refused
		}
		if b.strikes.lost(err) {
			return end, &notAligned{reason: core.AlignRefused, message: b.name + ": burning offsets is refused", cause: err}
		}
		if retry.Sleep(ctx, b.wait.Next()) != nil {
			return end, ctx.Err()
		}
	}
	lingering := isUnanswered(err)
	if lingering {
		b.doubt = time.Now()
	}
	return b.settled(ctx, end, lingering)
}

// beforeLast waits for fillers that may be in flight if the next filler, at end, may be the last
// one. It returns the log end after that.
func (b *burn) beforeLast(ctx context.Context, end int64) (int64, error) {
	// There must be room for a late filler after the next one.
	if b.doubt.IsZero() || b.to-end > int64(b.size+b.most) {
		return end, nil
	}
	if retry.Sleep(ctx, time.Until(b.doubt.Add(lastFillerGraces*b.grace))) != nil {
		return end, ctx.Err()
	}
	b.doubt = time.Time{}
	return b.settled(ctx, end, false)
}

// settled returns the log end, which was at end, once it is known.
func (b *burn) settled(ctx context.Context, end int64, lingering bool) (int64, error) {
	_, settled, err := b.settle(ctx, lingering)
	if err != nil {
		return end, err
	}
	if settled > end {
		b.succeeded(settled)
	}
	return settled, nil
}

// append appends a filler of n records at end. The filler is in memory only during the call.
func (b *burn) append(ctx context.Context, n int, end int64) (base int64, err error) {
	give, err := b.room.Take(ctx, n)
	if err != nil {
		return 0, err
	}
	defer give()
	return b.log.append(ctx, batch.Filler(nil, n, end))
}

func (b *burn) succeeded(end int64) {
	b.wait.Reset()
	b.strikes.reset()
	if b.moved != nil {
		b.moved(end)
	}
}

// settle reads the log's start and end until they are known, and checks the content of the log.
// With lingering the end must stay the same for b.grace.
func (b *burn) settle(ctx context.Context, lingering bool) (start, end int64, err error) {
	quietEnd, quietSince := int64(-1), time.Time{}
	wait := retry.Backoff{Low: b.wait.Low, High: b.wait.High}
	for {
		start, end, err = b.log.ends(ctx)
		if err == nil && lingering && end == quietEnd && time.Since(quietSince) >= b.grace {
			lingering = false
		}
		switch {
		case err != nil:
		case lingering && end != quietEnd:
			quietEnd, quietSince = end, time.Now()
			wait.Reset()
		case !lingering:
			if err = b.check(ctx, start, end); err == nil {
				return start, end, nil
			}
			var foreign *core.Failure
			var short *notAligned
			if errors.As(err, &foreign) || errors.As(err, &short) {
				return start, end, err
			}
		default:
			wait.Reset()
		}
		if err != nil {
			if refused := refusedAlign(err, b.name+": reading the end of its log is refused", "DESCRIBE and READ on the topic"); refused != nil {
				return start, end, refused
			}
		}
		if retry.Sleep(ctx, wait.Next()) != nil {
			return start, end, ctx.Err()
		}
	}
}

// check checks that the log holds nothing but fillers from b.from on, and does not end above b.to.
func (b *burn) check(ctx context.Context, start, end int64) error {
	from := max(start, b.from)
	if end < b.from {
		return &core.Failure{Code: model.ErrUnexpectedTruncation, Message: fmt.Sprintf(
			"%s: the log at the destination ends at offset %d, but klink had read offset %d before: the log lost records", b.name, end, b.from)}
	}
	if end > from {
		inPlace := false
		err := b.log.walk(ctx, end-1, end, func(h batch.Header) error {
			logical, ok := fillerStamp(h)
			inPlace = ok && logical == h.BaseOffset() && h.NextOffset() == end
			return nil
		})
		if err != nil {
			return b.unreadable(err, end-1)
		}
		if !inPlace {
			at := from
			err = b.log.walk(ctx, from, end, func(h batch.Header) error {
				if _, ok := fillerStamp(h); !ok {
					return b.foreign(h.BaseOffset(), h.NextOffset())
				}
				at = h.NextOffset()
				return nil
			})
			if err != nil {
				return b.unreadable(err, at)
			}
		}
	}
	if end > b.to {
		return &notAligned{reason: core.AlignOvershot, message: fmt.Sprintf(
			"%s: fillers were appended twice, and end at offset %d instead of the source's log start %d; delete and re-create the mirror to align it",
			b.name, end, b.to)}
	}
	return nil
}

// unreadable returns FOREIGN_WRITE if a walk failed at a batch in a format that klink does not
// write, else err.
func (b *burn) unreadable(err error, at int64) error {
	if errors.Is(err, batch.ErrOldFormat) || errors.Is(err, batch.ErrUnsupported) {
		return b.foreign(at, at+1)
	}
	return err
}

func (b *burn) foreign(from, to int64) *core.Failure {
	return core.Failf(model.ErrForeignWrite, "%s: offsets %d to %d at the destination were written by somebody else while klink was aligning its offsets; delete and re-create the mirror",
		b.name, from, to-1)
}

// deleteBefore moves the log start to to, and retries until that is done or refused.
func (b *burn) deleteBefore(ctx context.Context, to int64) error {
	for {
		err := b.log.deleteBefore(ctx, to)
		if err == nil {
			b.wait.Reset()
			b.strikes.reset()
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if refused := refusedAlign(err, b.name+": DeleteRecords is refused, so the filler records would stay visible", "DELETE on the topic"); refused != nil {
			return refused
		}
		if b.strikes.lost(err) {
			return &notAligned{reason: core.AlignRefused, message: b.name + ": DeleteRecords is refused", cause: err}
		}
		if retry.Sleep(ctx, b.wait.Next()) != nil {
			return ctx.Err()
		}
	}
}

// fillerStamp returns the offset that a filler is stamped with; ok is false for any other batch.
func fillerStamp(h batch.Header) (logical int64, ok bool) {
	logical, flags, _, stamped := batch.ReadStamp(h)
	return logical, stamped && !h.Control() && flags&batch.FlagFiller != 0
}
