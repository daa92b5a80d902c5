package admin

// stepLink moves a link.
func stepLink(s linkStatus, in linkInput) (linkStatus, []effect) {
	next := s
	switch in.Kind {
	case linkPause:
		next = linkStatus{State: LinkPaused}
	case linkResume:
		if s.State == LinkPaused {
			next = linkStatus{State: LinkActive}
		}
	case linkUp:
		// klink does not watch a paused link: an answer that was in flight when it was paused
		// changes nothing.
		if s.State != LinkPaused {
			next = linkStatus{State: LinkActive}
		}
	case linkDown, linkFail:
		if s.State == LinkPaused {
			break
		}
		state := LinkUnavailable
		if in.Kind == linkFail {
			state = LinkFailed
		}
		// The same trouble again is no change, even if its text differs a little: texts name ports
		// and attempts, and every change is a write to the state topic.
		if s.State != state || s.Error != in.Error {
			next = linkStatus{State: state, Error: orInternal(in.Error), Message: in.Message}
		}
	}
	if next == s {
		return s, nil
	}
	return next, []effect{effectMirrors}
}

func orInternal(e Error) Error {
	if e == ErrNone {
		return ErrInternal
	}
	return e
}
