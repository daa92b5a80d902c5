package model

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

// LinkStatus is the part of a link that the machine changes.
type LinkStatus struct {
	State   LinkState
	Error   Error
	Message string
}

// LinkInput is something that happens to a link.
type LinkInput struct {
	Kind    linkInputKind
	Error   Error
	Message string
}

type linkInputKind string

// What can happen to a link.
const (
	InputLinkPause  linkInputKind = "pause"
	InputLinkResume linkInputKind = "resume"
	InputLinkUp     linkInputKind = "up"
	InputLinkDown   linkInputKind = "down"
	InputLinkFail   linkInputKind = "fail"
)

// MirrorStatus is the part of a mirror that the machine changes.
type MirrorStatus struct {
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
	Promotion Promotion
}

// Promotion is a request to stop the mirror as soon as it has everything that its source has.
type Promotion struct {
	// ID tells it from an earlier promotion that was cancelled: a finding for that one says nothing
	// about this one.
	ID string
	// DeadlineMs is when it is cancelled unless it is Ready, in Unix milliseconds.
	DeadlineMs int64
	// Ready: the mirror has everything that its source has, and is being stopped or is STOPPED.
	Ready bool
}

// UnderWay reports whether the mirror is being promoted and can still go back.
func (p Promotion) UnderWay() bool { return p.ID != "" && !p.Ready }

// shownState returns the state that people see.
func shownState(state MirrorState, promoting bool) MirrorState {
	if promoting {
		return MirrorPendingStopped
	}
	return state
}

// MirrorInput is something that happens to a mirror.
type MirrorInput struct {
	Kind    MirrorInputKind
	Error   Error
	Message string
	// Link is the state of the mirror's link after what happened.
	Link LinkStatus
	// Promotion names the promotion that the input is about, with InputPromote, InputCaughtUp and
	// InputPromoteCancelled.
	Promotion Promotion
}

// MirrorInputKind names what happens to a mirror.
type MirrorInputKind string

// What can happen to a mirror.
const (
	InputStarted     MirrorInputKind = "started"
	InputPause       MirrorInputKind = "pause"
	InputResume      MirrorInputKind = "resume"
	InputLinkChanged MirrorInputKind = "link-changed"
	InputUnavailable MirrorInputKind = "unavailable"
	InputRecovered   MirrorInputKind = "recovered"
	InputFailed      MirrorInputKind = "failed"
	InputFailover    MirrorInputKind = "failover"
	InputDrained     MirrorInputKind = "drained"
	// InputPromote begins a promotion, or joins the one that is under way. Then the later of the
	// two deadlines applies.
	InputPromote MirrorInputKind = "promote"
	// InputCaughtUp: the mirror has everything that its source has.
	InputCaughtUp MirrorInputKind = "caught-up"
	// InputPromoteCancelled cancels the promotion if its deadline is not later than the input's.
	InputPromoteCancelled MirrorInputKind = "promote-cancelled"
)

// effect is an action that a transition demands besides storing the new state.
type effect string

const (
	// EffectMirrors: give every mirror of the link the input link-changed.
	EffectMirrors effect = "mirrors"
	// effectDrain: the replicator lets the appends in flight finish, makes no more, and reports
	// "drained".
	effectDrain effect = "drain"
	// EffectRestoreConfigs: set the topic's configs to the source's own values.
	EffectRestoreConfigs effect = "restore-configs"
)

// ErrNotPossible refuses a person's request.
type ErrNotPossible struct{ text string }

// Error returns the reason, for people.
func (e ErrNotPossible) Error() string { return e.text }

func notPossible(format string, args ...any) error {
	return ErrNotPossible{fmt.Sprintf(format, args...)}
}
