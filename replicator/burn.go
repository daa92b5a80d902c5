package replicator

import (
	"context"
	"errors"
	"fmt"
	"time"

	"klink/admin"
	"klink/protocol/batch"

	"github.com/twmb/franz-go/pkg/kerr"
)

const (
	// minFillerRecords is where a destination that calls fillers too large is given up.
	minFillerRecords = 1000
	// defaultBurnRate is how many offsets a second are burned, over all partitions. A broker's
	// request thread takes 75 to 100 ms for a million, so this keeps about half of one busy.
	defaultBurnRate = 5_000_000
	// lastFillerGraces is how many times the grace a filler without an answer is given to arrive,
	// before the last one is appended. A broker that is short of CPU keeps a request for seconds.
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
// them gets the source's offset: it appends fillers, batches of empty records that nobody is shown,
// and then moves the log start behind them.
//
// Invariants:
//  1. The log end is the progress, and all of it: a burn that ended anywhere is run again from the
//     log alone.
//  2. One append of this run is in flight, and it begins at the log end that was read or confirmed
//     before it. When its result is unknown the log end is read until it can be told; an append
//     without an answer is given b.grace to arrive.
//  3. Every filler is stamped with the offset where it was expected to stand. As long as the last
//     one stands there, every batch before it is a filler; when it does not, all of them are looked
//     at.
//  4. Nothing is deleted but fillers and, with from > 0, what the caller says lies below the
//     source's log start.
//  5. The log never ends above b.to by an append that got its expected offset. It can only by a
//     request that was believed lost and was not, of this run, or of a process that was killed.
//     Such a request does no harm while there is room for its filler below b.to. So the last filler
//     waits until lastFillerGraces times b.grace have passed since the last such request can have
//     been sent. One that comes even later takes the log above b.to; the burn then says OVERSHOT.
type burn struct {
	log  burnLog
	name string // topic-partition, for messages
	// The offsets to use up are those in [from, to). from is 0 for a virgin log. For a log that
	// holds records, all of them below the source's log start by now, it is where they end.
	from, to int64
	// limit is offset.alignment.max; more than that many offsets are not burned. The same for every
	// run of a burn.
	limit int64
	pace  *pace
	grace time.Duration
	wait  backoff
	// room is waited for before each filler is made, for as long as klink holds it.
	room *fillerRoom
	// moved is told the log end as it moves; may be nil.
	moved func(end int64)

	size     int // records of the next filler at most
	most     int // records of any filler at most, also of an earlier process's
	patience patience
	// doubt is when the last filler that may be on its way can have been sent at the latest; zero =
	// there is none.
	doubt time.Time
}

// run burns until log start and log end are b.to, or until ctx ends; its error is then ctx's.
// lingering says that an append of an earlier run may still be on its way. An append of a process
// that was killed may be as well, and nobody says so: the fillers in the log tell that there was
// one. Where the log has none yet, only the first can be on its way, and it gets b.grace.
//
// The error is a *notAligned when it cannot be done here; the log may then hold some fillers. It is
// a *failure with FOREIGN_WRITE when somebody else's batch is in the log. Everything else is
// retried.
func (b *burn) run(ctx context.Context, lingering bool) error {
	if n := b.to - b.from; n > b.limit {
		return &notAligned{reason: alignTooFar, message: fmt.Sprintf(
			"%s: %d offsets lie below the source's log start, more than offset.alignment.max=%d", b.name, n, b.limit)}
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
	// DeleteRecords comes last, but what would refuse it is met first: a log full of fillers would
	// be worse than a shift.
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

// step appends one filler at end and gives the log end after it.
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
			return end, &notAligned{reason: alignRefused, cause: err, message: fmt.Sprintf(
				"%s: max.message.bytes of the topic takes not even %d empty records", b.name, n)}
		}
		if refused := refusedAlign(err, b.name+": burning offsets is refused", "WRITE on the topic"); refused != nil {
			return end, refused
		}
		if b.patience.lost(err) {
			return end, &notAligned{reason: alignRefused, message: b.name + ": burning offsets is refused", cause: err}
		}
		if !sleep(ctx, b.wait.next()) {
			return end, ctx.Err()
		}
	}
	lingering := isUnanswered(err)
	if lingering {
		b.doubt = time.Now()
	}
	return b.settled(ctx, end, lingering)
}

// beforeLast waits, where the next filler at end may be the last one, for those that may be on
// their way, and gives the log end after that.
func (b *burn) beforeLast(ctx context.Context, end int64) (int64, error) {
	// After the next filler a late one has to have room.
	if b.doubt.IsZero() || b.to-end > int64(b.size+b.most) {
		return end, nil
	}
	if !sleep(ctx, time.Until(b.doubt.Add(lastFillerGraces*b.grace))) {
		return end, ctx.Err()
	}
	b.doubt = time.Time{}
	return b.settled(ctx, end, false)
}

// settled gives the log end, which was at end, once it is known.
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

// append appends a filler of n records at end. The filler is in memory only while this runs.
func (b *burn) append(ctx context.Context, n int, end int64) (base int64, err error) {
	give, err := b.room.take(ctx, n)
	if err != nil {
		return 0, err
	}
	defer give()
	return b.log.append(ctx, batch.Filler(nil, n, end))
}

func (b *burn) succeeded(end int64) {
	b.wait.reset()
	b.patience.reset()
	if b.moved != nil {
		b.moved(end)
	}
}

// settle reads the log's start and end until they are known, and checks what is in it. With
// lingering the end has to stay the same for b.grace.
func (b *burn) settle(ctx context.Context, lingering bool) (start, end int64, err error) {
	quietEnd, quietSince := int64(-1), time.Time{}
	wait := backoff{low: b.wait.low, high: b.wait.high}
	for {
		start, end, err = b.log.ends(ctx)
		if err == nil && lingering && end == quietEnd && time.Since(quietSince) >= b.grace {
			lingering = false
		}
		switch {
		case err != nil:
		case lingering && end != quietEnd:
			quietEnd, quietSince = end, time.Now()
			wait.reset()
		case !lingering:
			if err = b.check(ctx, start, end); err == nil {
				return start, end, nil
			}
			var foreign *failure
			var short *notAligned
			if errors.As(err, &foreign) || errors.As(err, &short) {
				return start, end, err
			}
		default:
			wait.reset()
		}
		if err != nil {
			if refused := refusedAlign(err, b.name+": reading the end of its log is refused", "DESCRIBE and READ on the topic"); refused != nil {
				return start, end, refused
			}
		}
		if !sleep(ctx, wait.next()) {
			return start, end, ctx.Err()
		}
	}
}

// check checks that the log holds nothing but fillers from b.from on, and does not end above b.to.
func (b *burn) check(ctx context.Context, start, end int64) error {
	from := max(start, b.from)
	if end < b.from {
		return &failure{code: admin.ErrUnexpectedTruncation, message: fmt.Sprintf(
			"%s: the log at the destination ends at offset %d, but offset %d had been read; it lost records", b.name, end, b.from)}
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
		return &notAligned{reason: alignOvershot, message: fmt.Sprintf(
			"%s: fillers were appended twice, and end at offset %d instead of the source's log start %d; delete and re-create the mirror to align it",
			b.name, end, b.to)}
	}
	return nil
}

// unreadable makes an error of a walk one of a log that is not klink's, if batches of another
// format are in it.
func (b *burn) unreadable(err error, at int64) error {
	if errors.Is(err, batch.ErrOldFormat) || errors.Is(err, batch.ErrUnsupported) {
		return b.foreign(at, at+1)
	}
	return err
}

func (b *burn) foreign(from, to int64) *failure {
	return failf(admin.ErrForeignWrite, "%s: offsets %d to %d at the destination were written by somebody else while its offsets were being aligned; delete and re-create the mirror",
		b.name, from, to-1)
}

// deleteBefore moves the log start, until that is done or refused.
func (b *burn) deleteBefore(ctx context.Context, to int64) error {
	for {
		err := b.log.deleteBefore(ctx, to)
		if err == nil {
			b.wait.reset()
			b.patience.reset()
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if refused := refusedAlign(err, b.name+": DeleteRecords is refused, and the log would show what only fills it", "DELETE on the topic"); refused != nil {
			return refused
		}
		if b.patience.lost(err) {
			return &notAligned{reason: alignRefused, message: b.name + ": DeleteRecords is refused", cause: err}
		}
		if !sleep(ctx, b.wait.next()) {
			return ctx.Err()
		}
	}
}

// fillerStamp is the offset that a filler was stamped with; ok is false for any other batch.
func fillerStamp(h batch.Header) (logical int64, ok bool) {
	logical, flags, _, stamped := batch.ReadStamp(h)
	return logical, stamped && !h.Control() && flags&batch.FlagFiller != 0
}
