package replicator

import (
	"context"

	"klink/admin/model"
)

// Control is what the replicator needs from the control plane; *admin.Service implements it.
// Methods are safe for concurrent use. A call that only the owner of a mirror may make fails with
// model.ErrNotOwner on any other instance.
type Control interface {
	// State returns the current snapshot; never nil.
	State() *model.State
	// Subscribe returns a channel that gets a token after State has changed, and a function that
	// ends it.
	Subscribe() (<-chan struct{}, func())
	// Report records a finding. The finding is durable, and visible in State, when Report returns
	// nil.
	Report(ctx context.Context, ev model.Event) error
	// Fence returns when State shows everything that any instance has stored before. From then on,
	// what another instance had decided but not yet stored cannot be stored: that instance must
	// decide anew, on a state that has what was stored since.
	Fence(ctx context.Context) error
	// GroupKey returns the key by which the instances of a destination recognize each other in the
	// group. It is the same in all instances and never changes. Whoever may read the state topic
	// can know it.
	GroupKey(ctx context.Context) ([]byte, error)
	// SetTimeline stores that offset physical is offset logical and that nothing below floor is
	// shown, then publishes it in the partition's timeline. It is durable when SetTimeline returns
	// nil.
	SetTimeline(ctx context.Context, topic string, partition int32, physical, logical, floor int64) error
	// SetAlignment stores from which logical offset on physical offsets differ from logical ones,
	// and why, for people. It is durable when SetAlignment returns nil.
	SetAlignment(ctx context.Context, topic string, partition int32, began int64, reason string) error
	// Checkpoint stores how far partitions have come. It skips checkpoints that are behind the
	// stored ones.
	Checkpoint(ctx context.Context, checkpoints []model.Checkpoint) error
	// LastCheckpoint returns the checkpoint stored last for a partition; ok is false if there is
	// none.
	LastCheckpoint(topic string, partition int32) (c model.Checkpoint, ok bool)
	// FollowConfigs makes the configs of a mirror those of its source's topic at once. right
	// reports that they were so before the call; after an error nothing is known about them.
	FollowConfigs(ctx context.Context, topic string) (right bool, err error)
	// GrowMirror adds partitions to a mirror.
	GrowMirror(ctx context.Context, topic string, starts []model.Start) error
}
