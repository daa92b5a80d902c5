package replicator

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"klink/protocol/batch"

	"github.com/twmb/franz-go/pkg/kerr"
	"pgregory.net/rapid"
)

// setCRC writes the checksum of a whole v2 batch.
func setCRC(b []byte) {
	binary.BigEndian.PutUint32(b[17:], crc32.Checksum(b[21:], crc32.MakeTable(crc32.Castagnoli)))
}

// fate is what happens to a request to a scriptedLog.
type fate int

const (
	done          fate = iota
	refusedOnce        // answered with a retriable code, not carried out
	unknownCode        // answered with UNKNOWN_SERVER_ERROR, not carried out
	afterAppend        // answered with NOT_ENOUGH_REPLICAS_AFTER_APPEND, carried out
	lostAnswer         // carried out, no answer
	lostRequest        // not carried out, no answer
	late               // carried out within the grace, no answer
	stalled            // carried out after the grace, before the last filler; no answer
	tooLate            // carried out even later, no answer
	foreignBefore      // somebody else's batch comes first
)

const testGrace = time.Second

// scriptedLog is a partition's log; next decides the fate of each request. It keeps only headers.
type scriptedLog struct {
	start   int64
	batches []batch.Header
	next    func(of ...fate) fate
	ctx     context.Context // ends late requests
	pending []delayed
	// What the fates did.
	doubted, foreign int
	told             int64 // the log end last returned; requests that come later move it unseen
}

// delayed is a request that is carried out later.
type delayed struct {
	at time.Time
	do func()
}

func (l *scriptedLog) end() int64 {
	if len(l.batches) == 0 {
		return l.start
	}
	return l.batches[len(l.batches)-1].NextOffset()
}

// put appends the header of a batch.
func (l *scriptedLog) put(b []byte) int64 {
	h := batch.Header(slices.Clone(b[:batch.HeaderSize]))
	base := l.end()
	h.SetBaseOffset(base)
	l.batches = append(l.batches, h)
	return base
}

// arrive carries out the requests that are due.
func (l *scriptedLog) arrive() {
	now := time.Now()
	l.pending = slices.DeleteFunc(l.pending, func(d delayed) bool {
		if d.at.After(now) {
			return false
		}
		d.do()
		return true
	})
}

func (l *scriptedLog) later(d time.Duration, do func()) {
	l.pending = append(l.pending, delayed{time.Now().Add(d), do})
}

func (l *scriptedLog) ends(ctx context.Context) (start, end int64, err error) {
	l.arrive()
	if ctx.Err() != nil {
		return 0, 0, ctx.Err()
	}
	if f := l.next(done, done, refusedOnce); f != done {
		return 0, 0, kerr.NotLeaderForPartition
	}
	l.told = l.end()
	return l.start, l.told, nil
}

func (l *scriptedLog) walk(ctx context.Context, from, to int64, see func(batch.Header) error) error {
	l.arrive()
	if f := l.next(done, done, done, refusedOnce); f != done {
		return kerr.NotLeaderForPartition
	}
	for _, b := range l.batches {
		if b.NextOffset() > from && b.BaseOffset() < to {
			if err := see(b); err != nil {
				return err
			}
		}
	}
	return nil
}

func (l *scriptedLog) append(ctx context.Context, b []byte) (int64, error) {
	l.arrive()
	switch f := l.next(done, done, done, refusedOnce, unknownCode, afterAppend, lostAnswer, lostRequest, late, stalled, tooLate, foreignBefore); f {
	case refusedOnce:
		return 0, kerr.NotEnoughReplicas
	case unknownCode:
		return 0, kerr.UnknownServerError
	case afterAppend:
		l.put(b)
		return 0, kerr.NotEnoughReplicasAfterAppend
	case lostAnswer:
		l.put(b)
		return 0, unanswered{err: errors.New("connection reset")}
	case lostRequest:
		return 0, unanswered{err: errors.New("connection reset")}
	case late:
		l.later(testGrace/2, func() { l.put(b) })
		return 0, unanswered{err: errors.New("connection reset")}
	case stalled:
		wait := testGrace * (lastFillerGraces - 1)
		if len(l.batches) == 0 { // the next process cannot see that there was a filler
			wait = testGrace / 2
		}
		l.later(wait, func() { l.put(b) })
		return 0, unanswered{err: errors.New("connection reset")}
	case tooLate:
		l.doubted++
		l.later(testGrace*lastFillerGraces+testGrace/4, func() { l.put(b) })
		return 0, unanswered{err: errors.New("connection reset")}
	case foreignBefore:
		l.foreign++
		l.put(foreignHeader(3))
		return l.put(b), nil
	default:
		return l.put(b), nil
	}
}

func (l *scriptedLog) deleteBefore(ctx context.Context, to int64) error {
	l.arrive()
	if l.next(done, done, refusedOnce) != done {
		return kerr.NotLeaderForPartition
	}
	l.start = max(l.start, to)
	return nil
}

func foreignHeader(records int) []byte {
	b := batch.Filler(nil, records, 0)
	binary.BigEndian.PutUint64(b[43:], ^uint64(0)) // producer id -1
	return b
}

// fates draws fates from a budget of troubles. When the budget is used up all requests succeed.
func fates(t *rapid.T, allowed []fate) func(of ...fate) fate {
	troubles := rapid.IntRange(0, 12).Draw(t, "troubles")
	return func(of ...fate) fate {
		if troubles == 0 {
			return done
		}
		of = slices.DeleteFunc(slices.Clone(of), func(f fate) bool { return f != done && !slices.Contains(allowed, f) })
		f := rapid.SampledFrom(of).Draw(t, "fate")
		if f != done {
			troubles--
		}
		return f
	}
}

var (
	// harmless are fates that leave a log exact.
	harmless = []fate{refusedOnce, unknownCode, afterAppend, lostAnswer, lostRequest, late, stalled}
	// allFates must at least be noticed.
	allFates = append(slices.Clone(harmless), tooLate, foreignBefore)
)

// cutOff returns a context that ends after a random time, as when a process is killed.
func cutOff(t *rapid.T, parent context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(parent, time.Duration(rapid.IntRange(0, 8000).Draw(t, "cut"))*time.Millisecond)
}

// checkProperty runs check in a bubble of fake time for many draws.
func checkProperty(t *testing.T, check func(ctx context.Context, t *rapid.T)) {
	t.Helper()
	batch.Filler(nil, 1, 0) // makes its encoder, with channels, outside of any bubble
	rapid.Check(t, func(rt *rapid.T) {
		synctest.Test(t, func(t *testing.T) { check(t.Context(), rt) })
	})
}

// scripted gives appends and markers these fates; every read succeeds.
func scripted(script ...fate) func(of ...fate) fate {
	return func(of ...fate) fate {
		if !slices.Contains(of, tooLate) || len(script) == 0 {
			return done
		}
		f := script[0]
		script = script[1:]
		return f
	}
}

func TestPace(t *testing.T) {
	p := newPace(1000)
	now := time.Unix(1000, 0)
	var got []string
	for _, at := range []struct{ after, n int64 }{{0, 500}, {0, 500}, {100, 1000}, {5000, 10}, {5000, 10}} {
		got = append(got, p.reserve(now.Add(time.Duration(at.after)*time.Millisecond), at.n).String())
	}
	if want := "[0s 500ms 900ms 0s 10ms]"; fmt.Sprint(got) != want {
		t.Errorf("waits %v, want %s", got, want)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := newPace(1).wait(ctx, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end of the context: %v", err)
	}
}
