package admin

import (
	"context"
	"fmt"

	"klink/admin/model"
)

// SetOwner sets the Owner. Without one this instance owns everything.
func (s *Service) SetOwner(o model.Owner) { s.owner.Store(&o) }

// OwnerChanged must be called when what this instance owns has changed.
func (s *Service) OwnerChanged() {
	s.wakeReconciler()
	s.publishMu.Lock()
	defer s.publishMu.Unlock()
	s.wakeSubscribers()
}

func (s *Service) ownsTopic(topic string) bool {
	o := s.owner.Load()
	return o == nil || (*o).OwnsTopic(topic)
}

func (s *Service) ownsLink(link string) bool {
	o := s.owner.Load()
	return o == nil || (*o).OwnsLink(link)
}

// ownTopic returns ErrNotOwner unless this instance owns a mirror. A change that calls it while it
// is evaluated can only be made by the owner: see Fence.
func (s *Service) ownTopic(topic string) error {
	if !s.ownsTopic(topic) {
		return fmt.Errorf("mirror topic '%s': %w", topic, model.ErrNotOwner)
	}
	return nil
}

func (s *Service) ownsPartition(topic string, partition int32) bool {
	o := s.owner.Load()
	return o == nil || (*o).OwnsPartition(topic, partition)
}

// ownPartition is ownTopic for a partition of a mirror.
func (s *Service) ownPartition(topic string, partition int32) error {
	if !s.ownsPartition(topic, partition) {
		return fmt.Errorf("partition %d of mirror topic '%s': %w", partition, topic, model.ErrNotOwner)
	}
	return nil
}

// Fence returns when State shows everything that was committed to the state topic before the call.
// It also makes other instances evaluate their changes again that are not committed by then.
//
// It takes the transactional id. A change that another instance evaluated before, as the owner of
// something, is either committed and read here, or can no longer be committed: its transaction is
// fenced. When that instance evaluates the change again, it knows that it no longer owns anything.
func (s *Service) Fence(ctx context.Context) error {
	if err := s.waitReady(ctx); err != nil {
		return err
	}
	if err := s.store.Fence(ctx); err != nil {
		return err
	}
	s.publish()
	return nil
}

// CatchUp returns when State shows everything that another instance had stored, and read back,
// before the call.
func (s *Service) CatchUp(ctx context.Context) error {
	if err := s.waitReady(ctx); err != nil {
		return err
	}
	return s.store.CatchUp(ctx)
}
