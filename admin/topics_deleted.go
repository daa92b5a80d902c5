package admin

import (
	"context"

	"klink/router"
)

// TopicsDeleted implements router.Control. Should it fail, the reconciler finds the topics missing;
// until then they are not translated for anybody, as they do not exist.
//
// A mirror goes only if it is the one that was deleted: another client may have deleted it too, and
// a third one may have created the next mirror of the name since.
func (s *Service) TopicsDeleted(ctx context.Context, mirrors []router.DeletedMirror) error {
	ctx, cancel := withTimeout(ctx, 0)
	defer cancel()
	return s.update(ctx, func(tx *Tx) error {
		for _, deleted := range mirrors {
			m, err := tx.Mirror(deleted.Topic)
			if err != nil {
				return err
			}
			if m != nil && m.ID == deleted.ID {
				tx.DeleteMirror(deleted.Topic)
			}
		}
		return nil
	})
}
