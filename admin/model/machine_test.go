package model

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// TestMachine runs the stories in testdata/machine. A story has one link and one mirror. Each line
// of a block is an input, such as "link pause" or "mirror failed error=RECORD_TOO_LARGE"; the
// states of link and mirror follow. If this test fails, run it with -rewrite and look at the
// difference.
func TestMachine(t *testing.T) {
	datadriven.Walk(t, "testdata/machine", func(t *testing.T, path string) {
		link, mirror := LinkStatus{State: LinkActive}, MirrorStatus{State: MirrorPending}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			if d.Cmd == "new" {
				link, mirror = LinkStatus{State: LinkActive}, MirrorStatus{State: MirrorPending}
				return ""
			}
			var out strings.Builder
			for line := range strings.Lines(d.Input) {
				words := strings.Fields(line)
				var code Error
				var which Promotion
				for _, w := range words[2:] {
					switch name, value, _ := strings.Cut(w, "="); name {
					case "error":
						code = Error(value)
					case "id":
						which.ID = value
					case "deadline":
						which.DeadlineMs, _ = strconv.ParseInt(value, 10, 64)
					default:
						t.Fatalf("%s: %s", d.Pos, w)
					}
				}
				var effects []effect
				var err error
				switch words[0] {
				case "link":
					link, effects = StepLink(link, LinkInput{Kind: linkInputKind(words[1]), Error: code})
					if slices.Contains(effects, EffectMirrors) {
						var more []effect
						mirror, more, err = StepMirror(mirror, MirrorInput{Kind: InputLinkChanged, Link: link})
						effects = append(effects, more...)
					}
				case "mirror":
					mirror, effects, err = StepMirror(mirror, MirrorInput{Kind: MirrorInputKind(words[1]), Error: code, Link: link, Promotion: which})
				default:
					t.Fatalf("%s: neither link nor mirror: %s", d.Pos, line)
				}
				fmt.Fprintf(&out, "%s -> link %s, mirror %s", strings.TrimSpace(line), shown(link.State, link.Error), shown(mirror.State, mirror.Error))
				switch p := mirror.Promotion; {
				case p.Ready:
					fmt.Fprintf(&out, ", promoted by %s", p.ID)
				case p.UnderWay():
					fmt.Fprintf(&out, ", promoting by %s until %d, shown as %s", p.ID, p.DeadlineMs, shownState(mirror.State, true))
				}
				for _, e := range effects {
					fmt.Fprintf(&out, " +%s", e)
				}
				if err != nil {
					fmt.Fprintf(&out, " REFUSED: %s", err)
				}
				out.WriteString("\n")
			}
			return out.String()
		})
	})
}

func shown[S ~string](state S, code Error) string {
	if code == ErrNone {
		return string(state)
	}
	return fmt.Sprintf("%s(%s)", state, code)
}

// TestMachineInvariants drives a link and its mirror at random and checks the invariants that
// machine.go lists, and that the mirror's state is what a much simpler rule says.
func TestMachineInvariants(t *testing.T) {
	linkKinds := []linkInputKind{InputLinkPause, InputLinkResume, InputLinkUp, InputLinkDown, InputLinkFail}
	mirrorKinds := []MirrorInputKind{
		InputStarted, InputPause, InputResume, InputUnavailable, InputRecovered, InputFailed, InputFailover, InputDrained,
		InputPromote, InputCaughtUp, InputPromoteCancelled,
	}
	codes := []Error{ErrNone, ErrTimeout, ErrAuthentication, ErrSourceTopicMayBeDeleted, ErrBrokerUnreachable}
	running := []MirrorState{MirrorPending, MirrorActive, MirrorLinkPaused, MirrorSourceUnavailable}
	rapid.Check(t, func(t *rapid.T) {
		link, mirror := LinkStatus{State: LinkActive}, MirrorStatus{State: MirrorPending}
		var held twin
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			before := mirror
			var in MirrorInputKind
			code := rapid.SampledFrom(codes).Draw(t, "error")
			which := Promotion{ID: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "id"), DeadlineMs: rapid.Int64Range(1, 3).Draw(t, "deadline")}
			if rapid.Bool().Draw(t, "link") {
				kind := rapid.SampledFrom(linkKinds).Draw(t, "input")
				var effects []effect
				link, effects = StepLink(link, LinkInput{Kind: kind, Error: code})
				if len(effects) > 0 {
					in = InputLinkChanged
				}
			} else {
				in = rapid.SampledFrom(mirrorKinds).Draw(t, "input")
			}
			if in != "" {
				next, effects, err := StepMirror(mirror, MirrorInput{Kind: in, Error: code, Link: link, Promotion: which})
				require.False(t, err != nil && next != mirror, "a refused input changes nothing")
				require.True(t, err == nil || errors.As(err, new(ErrNotPossible)))
				require.Equal(t, next.State == MirrorPendingStopped && mirror.State != MirrorPendingStopped, slices.Contains(effects, effectDrain))
				require.Equal(t, next.State == MirrorStopped && mirror.State != MirrorStopped, slices.Contains(effects, EffectRestoreConfigs))
				mirror = next
			}

			if before.State == MirrorStopped {
				require.Equal(t, before, mirror, "STOPPED is final")
			}
			if before.State == MirrorPendingStopped && mirror != before {
				require.Equal(t, MirrorStopped, mirror.State)
				require.Equal(t, InputDrained, in)
			}
			if before.State == MirrorFailed && mirror != before {
				require.Equal(t, MirrorPendingStopped, mirror.State)
				require.Equal(t, InputFailover, in)
			}
			if before.State == MirrorPaused && in == InputLinkChanged {
				require.Equal(t, before, mirror)
			}
			if now := mirror.Promotion; now.UnderWay() {
				require.Contains(t, running, mirror.State, "a promotion under way")
			} else if now.Ready {
				require.Contains(t, []MirrorState{MirrorPendingStopped, MirrorStopped}, mirror.State, "a promotion that is ready")
				if !before.Promotion.Ready {
					require.Equal(t, MirrorActive, before.State)
					require.True(t, before.Promotion.UnderWay())
					require.Equal(t, InputCaughtUp, in)
					require.Equal(t, which.ID, before.Promotion.ID)
				}
			} else {
				require.Zero(t, now)
			}
			was, is := shownState(before.State, before.Promotion.UnderWay()), shownState(mirror.State, mirror.Promotion.UnderWay())
			if was == MirrorPendingStopped && is != was && is != MirrorStopped {
				require.True(t, before.Promotion.UnderWay(), "PENDING_STOPPED was taken back")
			}
			require.Equal(t, mirror.State == MirrorSourceUnavailable || mirror.State == MirrorFailed, mirror.Error != ErrNone)
			require.Equal(t, link.State == LinkUnavailable || link.State == LinkFailed, link.Error != ErrNone)

			held.step(in, which, before.State)
			require.Equal(t, held.promoting, mirror.Promotion.UnderWay())
			require.Equal(t, held.promoted, mirror.Promotion.Ready)
			require.True(t, slices.Contains(held.allowed(link), mirror.State), "%s is none of %v", mirror.State, held.allowed(link))
		}
	})
}

// twin is a simple model of the states that a mirror may be in: it remembers what has happened, not
// states. It relies on the machine only for whether a mirror can be promoted at the moment and
// whether it is ACTIVE.
type twin struct {
	failed, stopping, stopped, paused, promoting, promoted bool

	by    string // id of the promotion
	until int64
}

func (w *twin) step(in MirrorInputKind, which Promotion, state MirrorState) {
	switch {
	case w.stopped:
	case w.stopping:
		w.stopped = in == InputDrained
	case in == InputFailover:
		w.stopping, w.promoting = true, false
	case w.failed:
	case in == InputFailed:
		w.failed, w.promoting = true, false
	case in == InputPause:
		w.paused, w.promoting = true, false
	case in == InputResume:
		w.paused, w.promoting = false, false
	case in == InputPromote && w.promoting:
		w.until = max(w.until, which.DeadlineMs)
	case in == InputPromote && (state == MirrorActive || state == MirrorPending):
		w.promoting, w.by, w.until = true, which.ID, which.DeadlineMs
	case !w.promoting || which.ID != w.by:
	case in == InputCaughtUp && state == MirrorActive:
		w.promoting, w.promoted, w.stopping = false, true, true
	case in == InputPromoteCancelled && which.DeadlineMs >= w.until:
		w.promoting = false
	}
}

func (w *twin) allowed(link LinkStatus) []MirrorState {
	switch {
	case w.stopped:
		return []MirrorState{MirrorStopped}
	case w.stopping:
		return []MirrorState{MirrorPendingStopped}
	case w.failed:
		return []MirrorState{MirrorFailed}
	case w.paused:
		return []MirrorState{MirrorPaused}
	case link.State == LinkPaused:
		return []MirrorState{MirrorLinkPaused}
	}
	return []MirrorState{MirrorPending, MirrorActive, MirrorSourceUnavailable}
}
