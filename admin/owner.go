package admin

import (
	"context"
	"errors"
	"fmt"
)

// Owner says what this instance works on; the others work on the rest. It is asked with the lock of
// the store held, so it must answer from memory.
type Owner interface {
	// OwnsTopic says whether this instance may store, right now, what only the owner of a mirror
	// may say.
	OwnsTopic(topic string) bool
	// OwnsPartition is the same for what only the owner of a partition may say. The mirror's owner,
	// its coordinator, need not be that of its partitions.
	OwnsPartition(topic string, partition int32) bool
	// OwnsLink is the same for a link: its health, and its tasks.
	OwnsLink(link string) bool
}

// ErrNotOwner: what only the owner of a mirror or link may store was not stored, as this instance
// does not own it.
var ErrNotOwner = errors.New("another instance of klink owns it")

// SetOwner sets who says what this instance owns. Without one it owns everything.
func (s *Service) SetOwner(o Owner) { s.owner.Store(&o) }

// OwnerChanged is to be called when this instance owns something else than before.
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

// ownTopic fails where this instance does not own a mirror. Called while a change is evaluated it
// makes the change one that only an owner makes: see Fence.
func (s *Service) ownTopic(topic string) error {
	if !s.ownsTopic(topic) {
		return fmt.Errorf("mirror topic '%s': %w", topic, ErrNotOwner)
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
		return fmt.Errorf("partition %d of mirror topic '%s': %w", partition, topic, ErrNotOwner)
	}
	return nil
}

// Fence returns when State shows everything that was committed to the state topic before, and makes
// sure that what another instance has under way is evaluated anew, if it is not committed by then.
//
// It takes the transactional id. A change that another instance has evaluated before, as the owner
// of something, is either committed by then, and read here, or can no longer be committed: its
// transaction is fenced, and when it is evaluated again that instance knows that it owns nothing
// any more.
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
// before.
func (s *Service) CatchUp(ctx context.Context) error {
	if err := s.waitReady(ctx); err != nil {
		return err
	}
	return s.store.log.readToEnd(ctx)
}
