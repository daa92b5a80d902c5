package admin

import "fmt"

// The state machine of links and mirrors is two pure functions, stepLink and stepMirror: (state,
// input) -> (state, effects). They know no store, no clock and no client. An input that means
// nothing in a state leaves it as it is; one that a person gave and that cannot be carried out is
// an error, whose text says why and what to do.
//
// Invariants, checked by a property test:
//  1. STOPPED is final.
//  2. PENDING_STOPPED leads to STOPPED only, and only by "drained".
//  3. FAILED leads to PENDING_STOPPED only, and only by "failover".
//  4. A mirror that is PAUSED by its own pause is not set going by its link.
//  5. Error is set exactly when the state is SOURCE_UNAVAILABLE or FAILED (links: UNAVAILABLE or
//     FAILED).
//  6. A mirror is being promoted only in PENDING_MIRROR, ACTIVE, LINK_PAUSED and
//     SOURCE_UNAVAILABLE, and goes through these as any other does: so it runs on, and a klink that
//     knows nothing of promotions does no more than mirror. People are shown PENDING_STOPPED
//     (shownState), which so may be taken back as long as the mirror is being promoted, and only
//     then.
//  7. A promotion is Ready only in PENDING_STOPPED and STOPPED, and becomes so only in ACTIVE, by a
//     "caught-up" that names it.

// linkStatus is what the machine moves of a link.
type linkStatus struct {
	State   LinkState
	Error   Error
	Message string
}

// linkInput is something that happens to a link.
type linkInput struct {
	Kind    linkInputKind
	Error   Error
	Message string
}

type linkInputKind string

const (
	linkPause  linkInputKind = "pause"
	linkResume linkInputKind = "resume"
	linkUp     linkInputKind = "up"
	linkDown   linkInputKind = "down"
	linkFail   linkInputKind = "fail"
)

// mirrorStatus is what the machine moves of a mirror.
type mirrorStatus struct {
	State   MirrorState
	Error   Error
	Message string
	// Started is true once every partition has been fetched: from then on it is ACTIVE and not
	// PENDING_MIRROR when nothing holds it back.
	Started bool
	// Own is true when Error is the mirror's own trouble at the source, which the link's coming
	// back does not cure.
	Own bool
	// Promotion is the zero value unless the mirror is being promoted, or was.
	Promotion promotion
}

// promotion: the mirror is to be stopped as soon as it has everything that its source has.
type promotion struct {
	// ID tells it from an earlier one that was taken back: what was found for that one says nothing
	// of this one.
	ID string
	// DeadlineMs is when it is taken back unless it is Ready, in Unix milliseconds.
	DeadlineMs int64
	// Ready: the mirror has everything, and is stopped.
	Ready bool
}

// underWay says whether the mirror is being promoted and can still go back.
func (p promotion) underWay() bool { return p.ID != "" && !p.Ready }

// shownState is the state that people see.
func shownState(state MirrorState, promoting bool) MirrorState {
	if promoting {
		return MirrorPendingStopped
	}
	return state
}

// mirrorInput is something that happens to a mirror.
type mirrorInput struct {
	Kind    mirrorInputKind
	Error   Error
	Message string
	// Link is the state of the mirror's link after what happened.
	Link linkStatus
	// Promotion is which one is meant, with mirrorPromote, mirrorCaughtUp and
	// mirrorPromoteCancelled.
	Promotion promotion
}

type mirrorInputKind string

const (
	mirrorStarted     mirrorInputKind = "started"
	mirrorPause       mirrorInputKind = "pause"
	mirrorResume      mirrorInputKind = "resume"
	mirrorLinkChanged mirrorInputKind = "link-changed"
	mirrorUnavailable mirrorInputKind = "unavailable"
	mirrorRecovered   mirrorInputKind = "recovered"
	mirrorFailed      mirrorInputKind = "failed"
	mirrorFailover    mirrorInputKind = "failover"
	mirrorDrained     mirrorInputKind = "drained"
	// mirrorPromote begins a promotion, or joins the one that is under way, which then has the
	// later deadline of both.
	mirrorPromote mirrorInputKind = "promote"
	// mirrorCaughtUp: the mirror has everything that its source has.
	mirrorCaughtUp mirrorInputKind = "caught-up"
	// mirrorPromoteCancelled takes a promotion back that has no later deadline than the input says.
	mirrorPromoteCancelled mirrorInputKind = "promote-cancelled"
)

// effect is what has to be done beside storing the new state.
type effect string

const (
	// effectMirrors: give every mirror of the link the input link-changed.
	effectMirrors effect = "mirrors"
	// effectDrain: the replicator lets the appends in flight finish, makes no more, and reports
	// "drained".
	effectDrain effect = "drain"
	// effectRestoreConfigs: the topic's configs become the source's own.
	effectRestoreConfigs effect = "restore-configs"
)

// errNotPossible refuses what a person asked for.
type errNotPossible struct{ text string }

func (e errNotPossible) Error() string { return e.text }

func notPossible(format string, args ...any) error {
	return errNotPossible{fmt.Sprintf(format, args...)}
}
