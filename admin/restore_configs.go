package admin

import (
	"context"
	"fmt"
)

// restoreConfigs sets the configs of a stopped mirror's topic that a mirror must have its own way to what the source has,
// and notes that it is done.
func (s *Service) restoreConfigs(ctx context.Context, topic string) error {
	var pending *mirrorRecord
	if err := s.update(ctx, func(tx *Tx) error {
		m, err := tx.Mirror(topic)
		pending = nil
		if err == nil && m != nil && m.State == MirrorStopped && m.RestorePending && m.Created && !m.TopicGone {
			pending = m
		}
		return err
	}); err != nil || pending == nil {
		return err
	}
	if err := s.alterTopicConfigs(ctx, topic, pending.SourceConfigs); err != nil {
		return fmt.Errorf("set the configs of topic '%s' to those of its source: %w", topic, err)
	}
	return s.update(ctx, func(tx *Tx) error {
		m, err := tx.Mirror(topic)
		if err != nil || m == nil || m.ID != pending.ID {
			return err
		}
		m = m.clone()
		m.RestorePending = false
		return tx.PutMirror(topic, m)
	})
}
