package model

// StepMirror moves a mirror.
func StepMirror(s MirrorStatus, in MirrorInput) (MirrorStatus, []effect, error) {
	switch s.State {
	case MirrorStopped:
		return stepStopped(s, in)
	case MirrorPendingStopped:
		return stepPendingStopped(s, in)
	case MirrorFailed:
		return stepFailed(s, in)
	}

	// PENDING_MIRROR, ACTIVE, PAUSED, LINK_PAUSED, SOURCE_UNAVAILABLE.
	switch in.Kind {
	case InputFailover:
		return MirrorStatus{State: MirrorPendingStopped, Started: s.Started}, []effect{effectDrain}, nil
	case InputFailed:
		return MirrorStatus{State: MirrorFailed, Error: orInternal(in.Error), Message: in.Message, Started: s.Started}, nil, nil
	case InputPause:
		return MirrorStatus{State: MirrorPaused, Started: s.Started}, nil, nil
	case InputPromote, InputCaughtUp, InputPromoteCancelled:
		return stepPromotion(s, in)
	case InputResume:
		if s.State == MirrorPaused {
			return Going(s.Started, in.Link), nil, nil
		}
		s.Promotion = Promotion{} // resuming cancels a pending promotion
		return s, nil, nil
	}
	if s.State == MirrorPaused {
		return s, nil, nil
	}
	next := stepGoing(s, in)
	next.Promotion = s.Promotion
	return next, nil, nil
}

// stepGoing moves a mirror that is not held back by its own pause.
func stepGoing(s MirrorStatus, in MirrorInput) MirrorStatus {
	switch in.Kind {
	case InputStarted, InputRecovered:
		if s.State == MirrorPending || s.State == MirrorActive || s.State == MirrorSourceUnavailable {
			return MirrorStatus{State: MirrorActive, Started: true}
		}
	case InputUnavailable:
		if s.State == MirrorLinkPaused {
			return s
		}
		if s.Own && s.Error == in.Error {
			return s
		}
		return MirrorStatus{State: MirrorSourceUnavailable, Error: orInternal(in.Error), Message: in.Message, Started: s.Started, Own: true}
	case InputLinkChanged:
		if s.Own && in.Link.State != LinkPaused {
			return s
		}
		return Going(s.Started, in.Link)
	}
	return s
}

// stepPromotion begins a promotion, or moves the one that is under way.
func stepPromotion(s MirrorStatus, in MirrorInput) (MirrorStatus, []effect, error) {
	this := s.Promotion.UnderWay() && in.Promotion.ID == s.Promotion.ID
	switch in.Kind {
	case InputPromote:
		if s.Promotion.UnderWay() {
			s.Promotion.DeadlineMs = max(s.Promotion.DeadlineMs, in.Promotion.DeadlineMs)
			return s, nil, nil
		}
		if err := promotable(s.State, s.Error); err != nil {
			return s, nil, err
		}
		s.Promotion = Promotion{ID: in.Promotion.ID, DeadlineMs: in.Promotion.DeadlineMs}
	case InputCaughtUp:
		if this && s.State == MirrorActive {
			s.Promotion.Ready = true
			return MirrorStatus{State: MirrorPendingStopped, Started: s.Started, Promotion: s.Promotion}, []effect{effectDrain}, nil
		}
	case InputPromoteCancelled:
		if this && s.Promotion.DeadlineMs <= in.Promotion.DeadlineMs {
			s.Promotion = Promotion{}
		}
	}
	return s, nil, nil
}

// Going returns the state of a mirror that nothing holds back, except perhaps its link. A link that
// reaches all but some brokers of its source holds nothing back.
func Going(started bool, link LinkStatus) MirrorStatus {
	switch {
	case link.State == LinkPaused:
		return MirrorStatus{State: MirrorLinkPaused, Started: started}
	case link.State == LinkUnavailable && link.Error == ErrBrokerUnreachable:
	case link.State == LinkUnavailable, link.State == LinkFailed:
		return MirrorStatus{State: MirrorSourceUnavailable, Error: orInternal(link.Error), Message: link.Message, Started: started}
	}
	if started {
		return MirrorStatus{State: MirrorActive, Started: true}
	}
	return MirrorStatus{State: MirrorPending}
}

func stepStopped(s MirrorStatus, in MirrorInput) (MirrorStatus, []effect, error) {
	switch in.Kind {
	case InputPause, InputResume:
		return s, nil, notPossible("it is STOPPED, which is final: to mirror again, delete the topic and re-create the mirror")
	}
	return s, nil, nil
}

func stepPendingStopped(s MirrorStatus, in MirrorInput) (MirrorStatus, []effect, error) {
	switch in.Kind {
	case InputDrained:
		return MirrorStatus{State: MirrorStopped, Message: in.Message, Started: s.Started, Promotion: s.Promotion}, []effect{EffectRestoreConfigs}, nil
	case InputPause, InputResume:
		return s, nil, notPossible("it is being stopped, which cannot be undone")
	}
	return s, nil, nil
}

func stepFailed(s MirrorStatus, in MirrorInput) (MirrorStatus, []effect, error) {
	switch in.Kind {
	case InputFailover:
		return MirrorStatus{State: MirrorPendingStopped, Started: s.Started}, []effect{effectDrain}, nil
	case InputPromote:
		return s, nil, promotable(s.State, s.Error)
	case InputPause, InputResume:
		return s, nil, notPossible("it has FAILED (%s): fail it over to write to the topic, or delete the topic and re-create the mirror", s.Error)
	}
	return s, nil, nil
}

// promotable returns an error that says why a promotion cannot begin in a state; nil if it can. The
// mirror must be able to reach the end of its source, and to know that it has. If the mirror is
// being stopped or is STOPPED, there is nothing to begin. That is no error, so that a client may
// repeat a promotion that was interrupted.
func promotable(state MirrorState, code Error) error {
	switch state {
	case MirrorPaused, MirrorLinkPaused:
		return notPossible("it is %s, so its lag cannot become 0: resume it first, or fail it over", state)
	case MirrorSourceUnavailable:
		return notPossible("its source is unavailable (%s), so klink cannot tell when its lag is 0: fail it over to stop mirroring at once", code)
	case MirrorFailed:
		return notPossible("it has FAILED (%s): fail it over to write to the topic", code)
	}
	return nil
}
