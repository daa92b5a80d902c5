package admin

import "fmt"

// The state machine of links and mirrors is two pure functions, stepLink and stepMirror: (state,
// input) -> (state, effects). They know no store, no clock and no client. An input that means
// nothing in a state changes nothing. A person's request that cannot be carried out is an error,
// whose text says why and what to do.
//
// Invariants, checked by a property test:
//  1. STOPPED is final.
//  2. PENDING_STOPPED leads to STOPPED only, and only by "drained".
//  3. FAILED leads to PENDING_STOPPED only, and only by "failover".
//  4. A link never resumes a mirror that is PAUSED by its own pause.
//  5. Error is set exactly when the state is SOURCE_UNAVAILABLE or FAILED (links: UNAVAILABLE or
//     FAILED).
//  6. A mirror is being promoted only in PENDING_MIRROR, ACTIVE, LINK_PAUSED and
//     SOURCE_UNAVAILABLE, and moves between these like any other mirror. So it keeps mirroring,
//     even under a klink that does not know promotions. People see PENDING_STOPPED during a
//     promotion (shownState). Only this PENDING_STOPPED can be taken back.
//  7. A promotion is Ready only in PENDING_STOPPED and STOPPED, and becomes so only in ACTIVE, by a
//     "caught-up" that names it.

// linkStatus is the part of a link that the machine changes.
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

// mirrorStatus is the part of a mirror that the machine changes.
type mirrorStatus struct {
	State   MirrorState
	Error   Error
	Message string
	// Started is true once every partition has been fetched. From then on the mirror is ACTIVE, not
	// PENDING_MIRROR, when nothing holds it back.
	Started bool
	// Own is true when Error is the mirror's own trouble at the source, which a recovery of the
	// link does not cure.
	Own bool
	// Promotion is the zero value unless the mirror is being promoted, or was.
	Promotion promotion
}

// promotion is a request to stop the mirror as soon as it has everything that its source has.
type promotion struct {
	// ID tells it from an earlier promotion that was cancelled: a finding for that one says nothing
	// about this one.
	ID string
	// DeadlineMs is when it is cancelled unless it is Ready, in Unix milliseconds.
	DeadlineMs int64
	// Ready: the mirror has everything that its source has, and is being stopped or is STOPPED.
	Ready bool
}

// underWay reports whether the mirror is being promoted and can still go back.
func (p promotion) underWay() bool { return p.ID != "" && !p.Ready }

// shownState returns the state that people see.
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
	// Promotion names the promotion that the input is about, with mirrorPromote, mirrorCaughtUp and
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
	// mirrorPromote begins a promotion, or joins the one that is under way. Then the later of the
	// two deadlines applies.
	mirrorPromote mirrorInputKind = "promote"
	// mirrorCaughtUp: the mirror has everything that its source has.
	mirrorCaughtUp mirrorInputKind = "caught-up"
	// mirrorPromoteCancelled cancels the promotion if its deadline is not later than the input's.
	mirrorPromoteCancelled mirrorInputKind = "promote-cancelled"
)

// effect is an action that a transition demands besides storing the new state.
type effect string

const (
	// effectMirrors: give every mirror of the link the input link-changed.
	effectMirrors effect = "mirrors"
	// effectDrain: the replicator lets the appends in flight finish, makes no more, and reports
	// "drained".
	effectDrain effect = "drain"
	// effectRestoreConfigs: set the topic's configs to the source's own values.
	effectRestoreConfigs effect = "restore-configs"
)

// errNotPossible refuses a person's request.
type errNotPossible struct{ text string }

func (e errNotPossible) Error() string { return e.text }

func notPossible(format string, args ...any) error {
	return errNotPossible{fmt.Sprintf(format, args...)}
}
