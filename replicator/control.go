package replicator

import (
	"context"

	"klink/admin"
)

// Control is what the replicator needs of the control plane; *admin.Service is one. Methods are
// safe for concurrent use. What only the owner of a mirror may store fails with admin.ErrNotOwner
// where this instance is not.
type Control interface {
	// State is the current picture; never nil.
	State() *admin.State
	// Subscribe returns a channel that gets a token after State has changed, and a function that
	// ends it.
	Subscribe() (<-chan struct{}, func())
	// Report records a finding; durable, and visible in State, when it returns nil.
	Report(ctx context.Context, ev admin.Event) error
	// Fence returns when State shows all that has been stored before, by whomever, and when nothing
	// that another instance had under way can be stored without being decided anew, on a state that
	// has what was stored since.
	Fence(ctx context.Context) error
	// GroupKey is the key by which the instances of a destination know each other in the group. It
	// is the same in all, for good, and known to who may read the state topic.
	GroupKey(ctx context.Context) ([]byte, error)
	// SetTimeline stores that physical is logical and that nothing below floor is shown, then
	// publishes it in the partition's timeline. Durable when it returns nil.
	SetTimeline(ctx context.Context, topic string, partition int32, physical, logical, floor int64) error
	// SetAlignment stores from which logical offset on physical offsets are others, and why, for
	// people. Durable when it returns nil.
	SetAlignment(ctx context.Context, topic string, partition int32, began int64, reason string) error
	// Checkpoint stores how far partitions have come. Those that say less than what is stored are
	// passed over.
	Checkpoint(ctx context.Context, checkpoints []admin.Checkpoint) error
	// LastCheckpoint is the checkpoint stored last for a partition; ok is false if there is none.
	LastCheckpoint(topic string, partition int32) (c admin.Checkpoint, ok bool)
	// FollowConfigs makes the configs of a mirror those of its source's topic at once. right says
	// that they were that already; after an error nothing is known of them.
	FollowConfigs(ctx context.Context, topic string) (right bool, err error)
	// GrowMirror adds partitions to a mirror.
	GrowMirror(ctx context.Context, topic string, starts []admin.Start) error
}
