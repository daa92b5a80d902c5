package admin

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// TestMachine runs the stories in testdata/machine. A story has one link and one mirror; each line of a block is an input,
// as "link pause" or "mirror failed error=RECORD_TOO_LARGE", and what follows is what has become of both. If this test
// fails, run it with -rewrite and look at the difference.
func TestMachine(t *testing.T) {
	datadriven.Walk(t, "testdata/machine", func(t *testing.T, path string) {
		link, mirror := linkStatus{State: LinkActive}, mirrorStatus{State: MirrorPending}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			if d.Cmd == "new" {
				link, mirror = linkStatus{State: LinkActive}, mirrorStatus{State: MirrorPending}
				return ""
			}
			var out strings.Builder
			for line := range strings.Lines(d.Input) {
				words := strings.Fields(line)
				var code Error
				for _, w := range words[2:] {
					code = Error(strings.TrimPrefix(w, "error="))
				}
				var effects []effect
				var err error
				switch words[0] {
				case "link":
					link, effects = stepLink(link, linkInput{Kind: linkInputKind(words[1]), Error: code})
					if slices.Contains(effects, effectMirrors) {
						var more []effect
						mirror, more, err = stepMirror(mirror, mirrorInput{Kind: mirrorLinkChanged, Link: link})
						effects = append(effects, more...)
					}
				case "mirror":
					mirror, effects, err = stepMirror(mirror, mirrorInput{Kind: mirrorInputKind(words[1]), Error: code, Link: link})
				default:
					t.Fatalf("%s: neither link nor mirror: %s", d.Pos, line)
				}
				fmt.Fprintf(&out, "%s -> link %s, mirror %s", strings.TrimSpace(line), shown(link.State, link.Error), shown(mirror.State, mirror.Error))
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

// TestMachineInvariants drives a link and its mirror at random and checks the invariants that machine.go lists, and that
// the mirror's state is what a much simpler rule says.
func TestMachineInvariants(t *testing.T) {
	linkKinds := []linkInputKind{linkPause, linkResume, linkUp, linkDown, linkFail}
	mirrorKinds := []mirrorInputKind{
		mirrorStarted, mirrorPause, mirrorResume, mirrorUnavailable, mirrorRecovered, mirrorFailed, mirrorFailover, mirrorDrained,
	}
	codes := []Error{ErrNone, ErrTimeout, ErrAuthentication, ErrSourceTopicMayBeDeleted}
	rapid.Check(t, func(t *rapid.T) {
		link, mirror := linkStatus{State: LinkActive}, mirrorStatus{State: MirrorPending}
		var held twin
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			before := mirror
			var in mirrorInputKind
			code := rapid.SampledFrom(codes).Draw(t, "error")
			if rapid.Bool().Draw(t, "link") {
				kind := rapid.SampledFrom(linkKinds).Draw(t, "input")
				var effects []effect
				link, effects = stepLink(link, linkInput{Kind: kind, Error: code})
				if len(effects) > 0 {
					in = mirrorLinkChanged
				}
			} else {
				in = rapid.SampledFrom(mirrorKinds).Draw(t, "input")
			}
			if in != "" {
				next, effects, err := stepMirror(mirror, mirrorInput{Kind: in, Error: code, Link: link})
				require.False(t, err != nil && next != mirror, "a refused input changes nothing")
				require.True(t, err == nil || errors.As(err, new(errNotPossible)))
				require.Equal(t, next.State == MirrorPendingStopped && mirror.State != MirrorPendingStopped, slices.Contains(effects, effectDrain))
				require.Equal(t, next.State == MirrorStopped && mirror.State != MirrorStopped, slices.Contains(effects, effectRestoreConfigs))
				mirror = next
			}

			if before.State == MirrorStopped {
				require.Equal(t, before, mirror, "STOPPED is final")
			}
			if before.State == MirrorPendingStopped && mirror != before {
				require.Equal(t, MirrorStopped, mirror.State)
				require.Equal(t, mirrorDrained, in)
			}
			if before.State == MirrorFailed && mirror != before {
				require.Equal(t, MirrorPendingStopped, mirror.State)
				require.Equal(t, mirrorFailover, in)
			}
			if before.State == MirrorPaused && in == mirrorLinkChanged {
				require.Equal(t, before, mirror)
			}
			require.Equal(t, mirror.State == MirrorSourceUnavailable || mirror.State == MirrorFailed, mirror.Error != ErrNone)
			require.Equal(t, link.State == LinkUnavailable || link.State == LinkFailed, link.Error != ErrNone)

			held.step(in, code, link)
			require.True(t, slices.Contains(held.allowed(link), mirror.State), "%s is none of %v", mirror.State, held.allowed(link))
		}
	})
}

// twin says in the plainest words what state a mirror may be in: it remembers what has happened, and not states.
type twin struct{ failed, stopping, stopped, paused bool }

func (w *twin) step(in mirrorInputKind, _ Error, _ linkStatus) {
	switch {
	case w.stopped:
	case w.stopping:
		w.stopped = in == mirrorDrained
	case in == mirrorFailover:
		w.stopping = true
	case w.failed:
	case in == mirrorFailed:
		w.failed = true
	case in == mirrorPause:
		w.paused = true
	case in == mirrorResume:
		w.paused = false
	}
}

func (w *twin) allowed(link linkStatus) []MirrorState {
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
