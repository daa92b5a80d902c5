package admin

import "context"

// TopicsDeleted implements router.Control. Should it fail, the reconciler finds the topics missing; until then they are
// not translated for anybody, as they do not exist.
func (s *Service) TopicsDeleted(ctx context.Context, topics []string) error {
	ctx, cancel := withTimeout(ctx, 0)
	defer cancel()
	return s.update(ctx, func(tx *Tx) error {
		for _, topic := range topics {
			tx.DeleteMirror(topic)
		}
		return nil
	})
}
