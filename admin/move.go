package admin

import "time"

// moveLink gives a link an input, stores it with r's configs, and carries on to its mirrors what
// they have to know.
func (s *Service) moveLink(tx *Tx, name string, r *linkRecord, in linkInput) error {
	now := s.cfg.Now()
	status, effects := stepLink(r.status(), in)
	r = r.clone()
	r.setStatus(status, now)
	if err := tx.PutLink(name, r); err != nil {
		return err
	}
	for _, e := range effects {
		if e != effectMirrors {
			continue
		}
		for _, topic := range tx.Mirrors() {
			m, err := tx.Mirror(topic)
			if err != nil || m.Link != name {
				continue
			}
			if err := moveMirror(tx, topic, m, mirrorInput{Kind: mirrorLinkChanged, Link: status}, now); err != nil {
				return err
			}
		}
	}
	return nil
}

// moveMirror gives a mirror an input and stores it.
func moveMirror(tx *Tx, topic string, m *mirrorRecord, in mirrorInput, now time.Time) error {
	status, effects, err := stepMirror(m.status(), in)
	if err != nil {
		return err
	}
	m = m.clone()
	m.setStatus(status, now)
	for _, e := range effects {
		if e == effectRestoreConfigs {
			m.RestorePending = len(m.SourceConfigs) > 0
		}
		// effectDrain is the replicator's: it sees PENDING_STOPPED in the next picture.
	}
	return tx.PutMirror(topic, m)
}

// linkStatusOf is the state of a mirror's link. A mirror whose link is gone or cannot be read is
// held back by nothing; it is stopped or FAILED anyway.
func linkStatusOf(tx *Tx, name string) linkStatus {
	l, err := tx.Link(name)
	if err != nil || l == nil {
		return linkStatus{State: LinkActive}
	}
	return l.status()
}
