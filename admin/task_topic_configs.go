package admin

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"klink/admin/linkconfig"
	"klink/admin/model"
	"klink/admin/store"
	"klink/admin/topicconfig"

	"github.com/twmb/franz-go/pkg/kerr"
)

// topicConfigTask keeps the followed configs of mirrors equal to the source's, and the overridden
// ones at the values that a mirror needs. It records all other differences as drift.
var topicConfigTask = &task{name: "TopicConfigsSync", interval: linkconfig.ConfigTopicSyncMs, run: syncTopicConfigs}

// followsNow reports whether the task syncs the configs of a mirror. A mirror that is being set up
// has just got them; a paused one keeps what it has; one that is being stopped gets the source's
// own values. A mirror with an unavailable source is included, because a config may be the cause:
// NOT_ENOUGH_REPLICAS.
func followsNow(m *model.Mirror) bool {
	return m.Created && (m.State == model.MirrorActive || m.State == model.MirrorSourceUnavailable)
}

func syncTopicConfigs(ctx context.Context, s *Service, r *taskRun) (errs []model.TaskError) {
	mirrors := s.State().Mirrors
	s.forgetDrift(mirrors)
	var topics []string
	for topic, m := range mirrors {
		if m.Link == r.link.Name && followsNow(m) {
			topics = append(topics, topic)
		}
	}
	if len(topics) == 0 {
		return nil
	}
	slices.Sort(topics)
	known, err := topicconfig.Describe(ctx, s.admin, store.StateTopic)
	if err != nil {
		return []model.TaskError{taskError(fmt.Errorf("could not read the configs of the destination: %w", err))}
	}
	for chunk := range slices.Chunk(topics, topicconfig.AtOnce) {
		source, err := topicconfig.DescribeAll(ctx, r.source.Admin, chunk)
		if err != nil {
			return append(errs, taskError(r.source.Failed("describe the configs of topics", err)))
		}
		mirror, err := topicconfig.DescribeAll(ctx, s.admin, chunk)
		if err != nil {
			return append(errs, taskError(fmt.Errorf("could not read the configs of mirrors at the destination: %w", err)))
		}
		for _, topic := range chunk {
			from, to := source[topic], mirror[topic]
			switch {
			case errors.Is(from.Err, kerr.UnknownTopicOrPartition):
				if mirrors[topic].Error != model.ErrSourceTopicMayBeDeleted { // otherwise the mirror itself shows the error
					errs = append(errs, model.TaskError{Code: model.ErrSourceTopicMayBeDeleted, Message: fmt.Sprintf("topic '%s' does not exist at the source", topic)})
				}
			case from.Err != nil:
				errs = append(errs, taskError(fmt.Errorf("could not read the configs of topic '%s' at the source: %w", topic, from.Err)))
			case to.Err != nil:
				errs = append(errs, taskError(fmt.Errorf("could not read the configs of mirror topic '%s': %w", topic, to.Err)))
			default:
				if _, err := s.followConfigs(ctx, r.link, topic, from.Configs, to.Configs, known, followsNow); err != nil {
					errs = append(errs, taskError(err))
				}
			}
		}
	}
	return errs
}

// followConfigs brings the configs of one mirror into line, and reports whether they already were.
// It changes nothing if the mirror's record no longer satisfies may.
func (s *Service) followConfigs(ctx context.Context, l *model.Link, topic string, source, mirror, known map[string]linkconfig.TopicConfig, may func(*model.Mirror) bool) (right bool, err error) {
	want, atStop, refused := linkconfig.MirrorConfigs(topic, linkconfig.FollowedBy(l.Configs), source, known, nil)
	if refused != nil {
		return false, refused
	}
	hold := s.holdsCompaction(topic)
	keepFromCleaner(want, atStop, known, hold)
	// Batches that the source took under a higher limit may still have to be copied.
	if now, ok := mirror["max.message.bytes"]; ok && !now.Null {
		if limit, err := strconv.ParseInt(now.Value, 10, 64); err == nil {
			if kept := linkconfig.AtLeast(want["max.message.bytes"], limit); kept != want["max.message.bytes"] {
				own := source["max.message.bytes"].Value
				want["max.message.bytes"], atStop["max.message.bytes"] = kept, &own
			}
		}
	}
	change := map[string]*string{}
	for name, value := range want {
		now, ok := mirror[name]
		_, own := linkconfig.Overridden[name]
		if !ok || now.Null || now.Value != value || own && !now.Explicit {
			change[name] = &value
		}
	}
	s.setDrift(topic, driftOf(source, mirror, want))
	// Tell the replicator about cleanup.policy before turning compaction on, and only after turning
	// it off.
	policy := want["cleanup.policy"]
	later := len(change) > 0 && !strings.Contains(policy, "compact")
	told := policy
	if later {
		told = ""
	}
	if err := s.storeFollowed(ctx, l, topic, atStop, told); err != nil {
		return false, fmt.Errorf("could not store the source's configs of mirror topic '%s': %w", topic, err)
	}
	if len(change) == 0 {
		return true, nil
	}
	st := s.State()
	if m := st.Mirrors[topic]; m == nil || m.Link != l.Name || !may(m) {
		return false, nil
	}
	if now := st.Links[l.Name]; now == nil || !sameForTasks(now, l) {
		return false, nil // the comparison used configs of the link that have changed since
	}
	if err := topicconfig.Alter(ctx, s.admin, topic, change); err != nil {
		return false, fmt.Errorf("could not set the configs %s of mirror topic '%s': %w", slices.Sorted(maps.Keys(change)), topic, err)
	}
	if !hold && s.holdsCompaction(topic) {
		if err := s.holdCompaction(ctx, topic); err != nil { // a void batch was found since
			return false, err
		}
	}
	s.log.Info("copied configs of the source to a mirror", "topic", topic, "configs", slices.Sorted(maps.Keys(change)))
	if later {
		if err := s.storeFollowed(ctx, l, topic, atStop, policy); err != nil {
			return false, fmt.Errorf("could not store the cleanup policy of mirror topic '%s': %w", topic, err)
		}
	}
	return false, s.restoreAgain(ctx, topic)
}

// storeFollowed stores the configs that a mirror's topic gets when mirroring stops, and its cleanup
// policy; "" = unchanged.
func (s *Service) storeFollowed(ctx context.Context, l *model.Link, topic string, atStop map[string]*string, policy string) error {
	return s.update(ctx, func(tx *store.Tx) error {
		m, err := tx.Mirror(topic)
		if err != nil || m == nil || m.Link != l.Name || m.State == model.MirrorStopped {
			return err
		}
		if maps.EqualFunc(m.SourceConfigs, atStop, sameValue) && (policy == "" || policy == m.CleanupPolicy) {
			return nil
		}
		m = m.Clone()
		m.SourceConfigs = atStop
		if policy != "" {
			m.CleanupPolicy = policy
		}
		return tx.PutMirror(topic, m)
	})
}

// restoreAgain repairs a mirror that was stopped while its configs were being set. The stop may
// have restored the topic's own configs first, and the mirror's then replaced them.
func (s *Service) restoreAgain(ctx context.Context, topic string) error {
	again := false
	if err := s.update(ctx, func(tx *store.Tx) error {
		m, err := tx.Mirror(topic)
		again = false
		if err != nil || m == nil || m.State != model.MirrorStopped || m.RestorePending || len(m.SourceConfigs) == 0 {
			return err
		}
		m = m.Clone()
		m.RestorePending, again = true, true
		return tx.PutMirror(topic, m)
	}); err != nil {
		return fmt.Errorf("could not give topic '%s' its own configs back in case it was stopped in the meantime: %w", topic, err)
	}
	if again {
		s.wakeReconciler()
	}
	return nil
}

func sameValue(a, b *string) bool { return a == b || a != nil && b != nil && *a == *b }

// driftOf lists the configs that were set at the source's topic or at the mirror, differ, and do
// not follow. It leaves out what klink overrides or sets (want). It includes configs that should
// follow but cannot, because one of the clusters does not know them.
func driftOf(source, mirror map[string]linkconfig.TopicConfig, want map[string]string) (drift []model.ConfigDrift) {
	names := maps.Clone(source)
	maps.Copy(names, mirror)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		from, to := source[name], mirror[name]
		if _, own := linkconfig.Overridden[name]; own || linkconfig.NeverFollowed[name] {
			continue
		}
		if _, follows := want[name]; follows {
			continue
		}
		if d := (model.ConfigDrift{Name: name, Source: valueOf(source, name), Mirror: valueOf(mirror, name)}); (from.Explicit || to.Explicit) && !sameValue(d.Source, d.Mirror) {
			drift = append(drift, d)
		}
	}
	return drift
}

func valueOf(configs map[string]linkconfig.TopicConfig, name string) *string {
	c, ok := configs[name]
	if !ok || c.Null {
		return nil
	}
	return &c.Value
}

func (s *Service) setDrift(topic string, drift []model.ConfigDrift) {
	s.driftMu.Lock()
	defer s.driftMu.Unlock()
	if s.drift == nil {
		s.drift = map[string][]model.ConfigDrift{}
	}
	s.drift[topic] = drift
}

// forgetDrift drops the drift of mirrors that no longer exist.
func (s *Service) forgetDrift(mirrors map[string]*model.Mirror) {
	s.driftMu.Lock()
	defer s.driftMu.Unlock()
	maps.DeleteFunc(s.drift, func(topic string, _ []model.ConfigDrift) bool { return mirrors[topic] == nil })
}

// DriftOf returns the config drift of a mirror that this instance found last. The caller must not
// change the slice.
func (s *Service) DriftOf(topic string) []model.ConfigDrift { return s.driftNow(topic) }

// driftNow returns the drift of a mirror that was found last. The caller must not change the slice.
func (s *Service) driftNow(topic string) []model.ConfigDrift {
	s.driftMu.Lock()
	defer s.driftMu.Unlock()
	return s.drift[topic]
}
