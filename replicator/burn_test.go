package replicator

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"klink/internal/retry"
	"klink/protocol/batch"
	"klink/replicator/core"
	"klink/replicator/memory"

	"github.com/twmb/franz-go/pkg/kerr"
	"pgregory.net/rapid"
)

func newTestBurn(l burnLog, to int64) *burn {
	return &burn{
		log: l, name: "t-0", to: to, limit: 1000, pace: newPace(100), room: memory.NewFillerRoom(memory.NewBudget(1 << 20)), grace: testGrace, size: 40,
		wait: retry.Backoff{Low: 10 * time.Millisecond, High: 200 * time.Millisecond},
	}
}

// TestBurnIsExact: a burn ends with an empty log at the right offset, and nothing but fillers was
// ever in it. This holds whatever happens to requests, as long as those without an answer arrive
// within the grace, and however often the process is killed.
func TestBurnIsExact(t *testing.T) {
	checkProperty(t, func(ctx context.Context, t *rapid.T) {
		to := int64(rapid.IntRange(1, 400).Draw(t, "to"))
		l := &scriptedLog{next: fates(t, harmless), ctx: ctx}
		for cuts := 0; ; cuts++ {
			run, cancel := ctx, context.CancelFunc(func() {})
			if cuts < 6 {
				run, cancel = cutOff(t, ctx)
			}
			// A new process does not know that there was one before it.
			err := newTestBurn(l, to).run(run, cuts > 0 && rapid.Bool().Draw(t, "the same process"))
			cancel()
			if err == nil {
				break
			}
			var not *notAligned
			if errors.As(err, &not) && errors.Is(err, kerr.UnknownServerError) {
				return // UNKNOWN_SERVER_ERROR counts as a refusal after three in a row
			}
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("after %d cuts: %v", cuts, err)
			}
		}
		if l.start != to || l.end() != to || len(l.pending) != 0 {
			t.Fatalf("the log is [%d, %d) with %d requests on their way, want it to be empty at %d", l.start, l.end(), len(l.pending), to)
		}
		for _, b := range l.batches {
			if _, ok := fillerStamp(b); !ok { // a late one may stand anywhere
				t.Fatalf("the batch at %d is no filler", b.BaseOffset())
			}
		}
	})
}

// TestBurnNoticesEverything: burn tells requests that arrive after they were given up from foreign
// batches, and takes neither for a success.
func TestBurnNoticesEverything(t *testing.T) {
	checkProperty(t, func(ctx context.Context, t *rapid.T) {
		to := int64(rapid.IntRange(1, 400).Draw(t, "to"))
		l := &scriptedLog{next: fates(t, allFates), ctx: ctx}
		err := newTestBurn(l, to).run(ctx, false)
		var not *notAligned
		var fail *core.Failure
		switch {
		case err == nil:
			if l.end() != to || l.foreign > 0 {
				t.Fatalf("the log ends at %d, want %d; %d foreign batches", l.end(), to, l.foreign)
			}
		case errors.As(err, &fail):
			if l.foreign == 0 {
				t.Fatalf("no foreign batch, but: %v", err)
			}
		case errors.As(err, &not) && not.reason == core.AlignOvershot:
			if l.doubted == 0 || l.end() <= to {
				t.Fatalf("the log ends at %d, %d late requests, but: %v", l.end(), l.doubted, err)
			}
		case errors.Is(err, kerr.UnknownServerError):
		default:
			t.Fatal(err)
		}
	})
}

// TestBurnOutcomes has one line for each way in which a burn of ten fillers can end.
func TestBurnOutcomes(t *testing.T) {
	nine := slices.Repeat([]fate{done}, 9)
	for name, test := range map[string]struct {
		script []fate
		want   string // in the error; "" = aligned
		end    int64
	}{
		"all goes well":                    {nil, "", 400},
		"an answer is lost":                {[]fate{done, lostAnswer}, "", 400},
		"a request is lost":                {[]fate{done, lostRequest}, "", 400},
		"a request is late":                {[]fate{done, late}, "", 400},
		"appended, not replicated at once": {[]fate{done, afterAppend}, "", 400},
		"outages do not wear patience out": {slices.Repeat([]fate{refusedOnce}, 20), "", 400},
		"a strange code, twice":            {[]fate{unknownCode, unknownCode, done, unknownCode}, "", 400},
		"a strange code, again and again":  {[]fate{done, unknownCode, unknownCode, unknownCode}, "REFUSED: t-0", 40},
		"stalled, and room is left":        {[]fate{done, stalled}, "", 400},
		"stalled, and no room is left":     {append(slices.Clone(nine[:8]), stalled), "", 400},
		"given up too early":               {append(slices.Clone(nine[:8]), tooLate), "OVERSHOT: t-0: fillers were appended twice, and end at offset 440 instead of the source's log start 400", 440},
		"somebody else's batch":            {[]fate{done, foreignBefore}, "FOREIGN_WRITE: t-0: offsets 40 to 42", 83},
		"somebody else's batch at the end": {append(slices.Clone(nine), foreignBefore), "FOREIGN_WRITE: t-0: offsets 360 to 362", 403},
	} {
		t.Run(name, func(t *testing.T) {
			batch.Filler(nil, 1, 0)
			synctest.Test(t, func(t *testing.T) {
				l := &scriptedLog{next: scripted(test.script...), ctx: t.Context()}
				err := newTestBurn(l, 400).run(t.Context(), false)
				switch {
				case test.want == "" && (err != nil || l.start != 400):
					t.Errorf("the log begins at %d: %v", l.start, err)
				case test.want != "" && err == nil:
					t.Errorf("no error, want %s", test.want)
				case test.want != "":
					wantIn(t, err.Error(), test.want)
				}
				if l.end() != test.end {
					t.Errorf("the log ends at %d, want %d", l.end(), test.end)
				}
			})
		})
	}
}

func TestBurnLimits(t *testing.T) {
	l := &scriptedLog{next: func(...fate) fate { return done }, ctx: t.Context()}
	b := newTestBurn(l, 1001)
	wantNotAligned(t, b.run(t.Context(), false), core.AlignTooFar, "t-0: 1001 offsets", "offset.alignment.max=1000")
	if l.end() != 0 {
		t.Errorf("the log ends at %d", l.end())
	}

	// With from, only what lies above it counts; records below it are left to DeleteRecords.
	l.put(foreignHeader(500))
	b = newTestBurn(l, 1400)
	b.from, b.pace = 500, newPace(1e9)
	if err := b.run(t.Context(), false); err != nil || l.start != 1400 || l.end() != 1400 {
		t.Errorf("the log is [%d, %d): %v", l.start, l.end(), err)
	}

	// A log that ends in records cannot be burned.
	l = &scriptedLog{next: l.next, ctx: t.Context()}
	l.put(foreignHeader(5))
	var fail *core.Failure
	if err := newTestBurn(l, 100).run(t.Context(), false); !errors.As(err, &fail) {
		t.Errorf("a foreign batch: %v", err)
	} else {
		wantIn(t, err.Error(), "FOREIGN_WRITE", "t-0: offsets 0 to 4")
	}
}
