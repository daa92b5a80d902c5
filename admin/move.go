package admin

import (
	"time"

	"klink/admin/model"
	"klink/admin/store"
)

// moveLink applies an input to a link, stores it with r's configs, and tells the link's mirrors of
// a change of its state.
func (s *Service) moveLink(tx *store.Tx, name string, r *store.LinkRecord, in model.LinkInput) error {
	now := s.cfg.Now()
	status, effects := model.StepLink(r.Status(), in)
	r = r.Clone()
	r.SetStatus(status, now)
	if err := tx.PutLink(name, r); err != nil {
		return err
	}
	for _, e := range effects {
		if e != model.EffectMirrors {
			continue
		}
		for _, topic := range tx.Mirrors() {
			m, err := tx.Mirror(topic)
			if err != nil || m.Link != name {
				continue
			}
			if err := moveMirror(tx, topic, m, model.MirrorInput{Kind: model.InputLinkChanged, Link: status}, now); err != nil {
				return err
			}
		}
	}
	return nil
}

// moveMirror applies an input to a mirror and stores it.
func moveMirror(tx *store.Tx, topic string, m *store.MirrorRecord, in model.MirrorInput, now time.Time) error {
	status, effects, err := model.StepMirror(m.Status(), in)
	if err != nil {
		return err
	}
	m = m.Clone()
	m.SetStatus(status, now)
	for _, e := range effects {
		if e == model.EffectRestoreConfigs {
			m.RestorePending = len(m.SourceConfigs) > 0
		}
		// The replicator carries out effectDrain when it sees PENDING_STOPPED in the next snapshot.
	}
	return tx.PutMirror(topic, m)
}

// linkStatusOf returns the status of a mirror's link. A link that is gone or cannot be read counts
// as ACTIVE, so that it holds nothing back: its mirrors are stopped or FAILED anyway.
func linkStatusOf(tx *store.Tx, name string) model.LinkStatus {
	l, err := tx.Link(name)
	if err != nil || l == nil {
		return model.LinkStatus{State: model.LinkActive}
	}
	return l.Status()
}
