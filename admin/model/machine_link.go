package model

// StepLink moves a link.
func StepLink(s LinkStatus, in LinkInput) (LinkStatus, []effect) {
	next := s
	switch in.Kind {
	case InputLinkPause:
		next = LinkStatus{State: LinkPaused}
	case InputLinkResume:
		if s.State == LinkPaused {
			next = LinkStatus{State: LinkActive}
		}
	case InputLinkUp:
		// klink does not watch a paused link: an answer that was in flight when it was paused
		// changes nothing.
		if s.State != LinkPaused {
			next = LinkStatus{State: LinkActive}
		}
	case InputLinkDown, InputLinkFail:
		if s.State == LinkPaused {
			break
		}
		state := LinkUnavailable
		if in.Kind == InputLinkFail {
			state = LinkFailed
		}
		// The same trouble again is no change, even if its text differs a little: texts name ports
		// and attempts, and every change is a write to the state topic. Only which broker cannot be
		// reached is news.
		if s.State != state || s.Error != in.Error || in.Error == ErrBrokerUnreachable && s.Message != in.Message {
			next = LinkStatus{State: state, Error: orInternal(in.Error), Message: in.Message}
		}
	}
	if next == s {
		return s, nil
	}
	return next, []effect{EffectMirrors}
}

func orInternal(e Error) Error {
	if e == ErrNone {
		return ErrInternal
	}
	return e
}
