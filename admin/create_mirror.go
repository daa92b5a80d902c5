package admin

import (
	"context"
	"errors"
	"strings"
	"time"

	"klink/admin/linkconfig"
	"klink/admin/model"
	"klink/admin/sources"
	"klink/admin/store"
	"klink/admin/topicconfig"
	"klink/protocol"
	"klink/router"

	"github.com/twmb/franz-go/pkg/kerr"
)

// createMirror creates a mirror, in this order:
//
//  1. It checks the request, and refuses it if it can already tell that the mirror is not possible.
//  2. It records the mirror. That makes the topic read-only before it exists.
//  3. It waits for the other instances, so that the topic is read-only at all of them.
//  4. It creates the topic, or, if the topic exists and is converted, makes it ready.
func (s *Service) createMirror(ctx context.Context, spec router.MirrorSpec) *protocol.Error {
	return s.createMirrorFrom(ctx, spec, nil)
}

// createMirrorFrom is createMirror with a connection to the link's source. If src is nil, it makes
// its own.
func (s *Service) createMirrorFrom(ctx context.Context, spec router.MirrorSpec, src *sources.Source) *protocol.Error {
	if err := s.waitReady(ctx); err != nil {
		return asError(err)
	}
	if !s.beginCreating(spec.Topic) {
		return protocol.Errorf(kerr.TopicAlreadyExists, "mirror topic '%s' is being created by another request", spec.Topic)
	}
	defer s.endCreating(spec.Topic)
	plan, refused := s.planMirror(ctx, spec, src)
	if refused != nil {
		return refused
	}
	if spec.ValidateOnly {
		return s.validateTopic(ctx, plan)
	}
	if err := s.recordMirror(ctx, plan); err != nil {
		return asError(err)
	}
	// The mirror exists from here on, so finish the work even if the client has gone.
	ctx, cancel := finishing(ctx)
	defer cancel()
	waited := newSeenWait()
	err := s.awaitSeen(ctx, plan.topic, waited)
	if err == nil {
		err = s.finishMirror(ctx, plan, waited, s.transactionWait)
	}
	if err == nil {
		s.log.Info("mirror created", "topic", plan.topic, "link", plan.record.Link, "partitions", plan.record.Partitions)
		return nil
	}
	if created, _, asked := s.isCreated(ctx, plan.topic, plan.record.ID); created && asked == nil {
		s.log.Info("mirror created", "topic", plan.topic, "link", plan.record.Link, "partitions", plan.record.Partitions)
		return nil // by another instance, which found it recorded
	}
	e := asError(err)
	if uncertain(err) {
		return protocol.Errorf(e.Code, "mirror topic '%s' is recorded, but the destination has not confirmed the topic yet: klink will retry (%s)", plan.topic, e.Message)
	}
	if err := s.unrecordMirror(ctx, plan); err != nil {
		s.log.Error("could not remove the record of a mirror whose topic could not be created", "topic", plan.topic, "error", err)
	}
	return e
}

// mirrorPlan is a mirror that may be created.
type mirrorPlan struct {
	topic   string
	convert bool
	record  *store.MirrorRecord
	starts  []store.TimelineRecord // by partition
}

// planMirror checks everything that can be checked before anything is changed.
func (s *Service) planMirror(ctx context.Context, spec router.MirrorSpec, src *sources.Source) (*mirrorPlan, *protocol.Error) {
	if err := checkMirrorSpec(spec); err != nil {
		return nil, err
	}
	state := s.State()
	link := state.Links[spec.Link]
	switch {
	case link == nil:
		return nil, linkMissing(spec.Link)
	case link.State == model.LinkPaused:
		return nil, protocol.Errorf(kerr.InvalidRequest, "link %q is paused: set %s=false before you create mirrors", spec.Link, linkconfig.ConfigLinkPaused)
	case link.State == model.LinkFailed:
		return nil, protocol.Errorf(kerr.InvalidRequest, "link %q has FAILED (%s): %s", spec.Link, link.Error, link.ErrorMessage)
	}
	if m := state.Mirrors[spec.Topic]; m != nil && m.Error != model.ErrMirrorTopicDeleted {
		return nil, mirrorExists(spec.Topic, m)
	}
	if src == nil {
		connected, refused := sources.Connect(ctx, s.cfg.LinkFiles, spec.Link, link.Configs)
		if refused != nil {
			return nil, refused
		}
		defer connected.Close()
		src = connected
	}
	if link.SourceClusterID != "" && src.ClusterID != link.SourceClusterID {
		return nil, protocol.Errorf(kerr.InvalidRequest, "bootstrap.servers of link %q points to cluster %s, but the link mirrors cluster %s", spec.Link, src.ClusterID, link.SourceClusterID)
	}
	from, refused := src.Topic(ctx, spec.Topic, linkconfig.Value(link.Configs, linkconfig.ConfigStartOffset))
	if refused != nil {
		return nil, refused
	}
	partitions := int32(len(from.Starts))
	if spec.NumPartitions >= 0 && spec.NumPartitions != partitions {
		return nil, protocol.Errorf(kerr.InvalidPartitions, "topic '%s' has %d partitions at the source of link %q, so its mirror cannot have %d: omit the number of partitions", spec.Topic, partitions, spec.Link, spec.NumPartitions)
	}
	asked := map[string]string{}
	for name, value := range spec.Configs {
		if value != nil {
			asked[name] = *value
		}
	}
	known, err := topicconfig.Describe(ctx, s.admin, store.StateTopic)
	if err != nil {
		return nil, asError(err)
	}
	configs, atStop, refused := linkconfig.MirrorConfigs(spec.Topic, linkconfig.FollowedBy(link.Configs), from.Configs, known, asked)
	if refused != nil {
		return nil, refused
	}
	keepFromCleaner(configs, atStop, known, false)
	plan := &mirrorPlan{topic: spec.Topic, convert: spec.Convert, record: &store.MirrorRecord{
		Stamp: store.StampFormat,
		ID:    store.NewID(), Link: spec.Link, SourceTopic: spec.Topic, SourceTopicID: from.ID, Partitions: partitions, State: model.MirrorPending,
		StateTimeMs: s.cfg.Now().UnixMilli(), ReplicationFactor: spec.ReplicationFactor, Configs: configs, SourceConfigs: atStop,
		CleanupPolicy: configs["cleanup.policy"],
	}}
	if plan.record.ReplicationFactor == 0 {
		plan.record.ReplicationFactor = -1
	}
	ends, refused := s.existingTopic(ctx, spec, partitions)
	if refused != nil {
		return nil, refused
	}
	for p, start := range from.Starts {
		t := store.TimelineRecord{Logical: start, Floor: start}
		if ends != nil {
			t.Physical = ends[p]
		}
		plan.starts = append(plan.starts, t)
	}
	return plan, nil
}

func checkMirrorSpec(spec router.MirrorSpec) *protocol.Error {
	if err := model.CheckName(spec.Topic); err != nil {
		return protocol.Errorf(kerr.InvalidTopicException, "invalid topic name: %s", err)
	}
	switch {
	case spec.SourceTopic != "" && spec.SourceTopic != spec.Topic:
		return protocol.Errorf(kerr.InvalidRequest, "renaming is not supported: a mirror has the name of its source topic, so it must be '%.260s', not '%s'", spec.SourceTopic, spec.Topic)
	case strings.HasPrefix(spec.Topic, "__"), model.IsOwnName(spec.Topic):
		return protocol.Errorf(kerr.InvalidTopicException, "topic '%s' is internal and cannot be mirrored", spec.Topic)
	case spec.Link == "":
		return protocol.Errorf(kerr.InvalidRequest, "no link is given for mirror topic '%s'", spec.Topic)
	case spec.NumPartitions < -1 || spec.NumPartitions == 0:
		return protocol.Errorf(kerr.InvalidPartitions, "invalid number of partitions %d: omit it, because a mirror has as many as its source topic", spec.NumPartitions)
	case spec.ReplicationFactor < -1:
		return protocol.Errorf(kerr.InvalidReplicationFactor, "invalid replication factor %d", spec.ReplicationFactor)
	}
	return nil
}

func mirrorExists(topic string, m *model.Mirror) *protocol.Error {
	if m.State == model.MirrorStopped {
		return protocol.Errorf(kerr.TopicAlreadyExists, "topic '%s' is a stopped mirror of link %q: delete the topic before you mirror it again", topic, m.Link)
	}
	return protocol.Errorf(kerr.TopicAlreadyExists, "topic '%s' is already a mirror of link %q (%s)", topic, m.Link, m.Shown())
}

// recordMirror stores a planned mirror and its timelines in one transaction.
func (s *Service) recordMirror(ctx context.Context, plan *mirrorPlan) error {
	return s.update(ctx, func(tx *store.Tx) error {
		there, err := tx.Mirror(plan.topic)
		if err != nil {
			return err
		}
		if there != nil {
			if !there.TopicGone {
				return mirrorExists(plan.topic, there.View(plan.topic))
			}
			tx.DeleteMirror(plan.topic)
		}
		l, err := tx.Link(plan.record.Link)
		if err != nil {
			return err
		}
		if l == nil {
			return linkMissing(plan.record.Link)
		}
		record := plan.record.Clone()
		record.SetStatus(model.Going(false, l.Status()), s.cfg.Now())
		for p := range plan.starts {
			if err := tx.PutTimeline(plan.topic, int32(p), &plan.starts[p]); err != nil {
				return err
			}
		}
		return tx.PutMirror(plan.topic, record)
	})
}

// unrecordMirror deletes the record of a planned mirror again, unless its topic has been created or
// the record is another mirror's now.
func (s *Service) unrecordMirror(ctx context.Context, plan *mirrorPlan) error {
	return s.update(ctx, func(tx *store.Tx) error {
		m, err := tx.Mirror(plan.topic)
		if err != nil {
			return err
		}
		if m != nil && m.ID == plan.record.ID && !m.Created {
			tx.DeleteMirror(plan.topic)
		}
		return nil
	})
}

// uncertain reports whether a request to the destination may have been carried out, or may be if
// klink tries it again.
func uncertain(err error) bool {
	var code *kerr.Error
	if errors.As(err, &code) {
		return code.Retriable || errors.Is(err, kerr.RequestTimedOut)
	}
	return !errors.As(err, new(*protocol.Error))
}

func (s *Service) beginCreating(topic string) bool {
	s.creatingMu.Lock()
	defer s.creatingMu.Unlock()
	if s.creating[topic] {
		return false
	}
	s.creating[topic] = true
	return true
}

func (s *Service) isCreating(topic string) bool {
	s.creatingMu.Lock()
	defer s.creatingMu.Unlock()
	return s.creating[topic]
}

func (s *Service) endCreating(topic string) {
	s.creatingMu.Lock()
	defer s.creatingMu.Unlock()
	delete(s.creating, topic)
}

// pollInterval is the pause between two checks of a condition at the destination.
const pollInterval = 50 * time.Millisecond
