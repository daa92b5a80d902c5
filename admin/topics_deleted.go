package admin

import (
	"context"

	"klink/admin/store"
	"klink/router"
)

// TopicsDeleted implements router.Control. If it fails, the reconciler notices that the topics are
// missing. Until then nothing has to be translated, because they do not exist.
//
// It removes a mirror only if it is the one that was deleted: another client may also have deleted
// it, and a third one may already have created a new mirror of that name.
func (s *Service) TopicsDeleted(ctx context.Context, mirrors []router.DeletedMirror) error {
	ctx, cancel := withTimeout(ctx, 0)
	defer cancel()
	return s.update(ctx, func(tx *store.Tx) error {
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
