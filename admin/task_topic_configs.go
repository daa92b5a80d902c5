package admin

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// topicConfigTask keeps the followed configs of mirrors as they are at the source, and those that a mirror must have its own way
// as they must be; it notes what else differs.
var topicConfigTask = &task{name: "TopicConfigsSync", interval: ConfigTopicSyncMs, run: syncTopicConfigs}

// describeTopics is how many topics' configs are asked for at once.
const describeTopics = 200

// ConfigDrift is a config of a mirror that differs from the source's and does not follow it.
type ConfigDrift struct{ Name, Source, Mirror string }

func syncTopicConfigs(ctx context.Context, s *Service, r *taskRun) (errs []TaskError) {
	var topics []string
	for topic, m := range s.State().Mirrors {
		// A mirror that is being set up has just got its configs, and one that is being stopped gets its source's own.
		if m.Link == r.link.Name && m.Created && m.State == MirrorActive {
			topics = append(topics, topic)
		}
	}
	slices.Sort(topics)
	known, err := s.topicConfigs(ctx, StateTopic)
	if err != nil {
		return []TaskError{taskError(fmt.Errorf("configs of the destination: %w", err))}
	}
	for chunk := range slices.Chunk(topics, describeTopics) {
		source, err := describeConfigsOf(ctx, r.source.admin, chunk)
		if err != nil {
			return append(errs, taskError(r.source.failed("describe the configs of topics", err)))
		}
		mirror, err := describeConfigsOf(ctx, s.admin, chunk)
		if err != nil {
			return append(errs, taskError(fmt.Errorf("configs of mirrors at the destination: %w", err)))
		}
		for _, topic := range chunk {
			from, to := source[topic], mirror[topic]
			switch {
			case from.err != nil:
				errs = append(errs, taskError(fmt.Errorf("configs of topic '%s' at the source: %w", topic, from.err)))
			case to.err != nil:
				errs = append(errs, taskError(fmt.Errorf("configs of mirror topic '%s': %w", topic, to.err)))
			default:
				if err := s.followConfigs(ctx, r.link, topic, from.configs, to.configs, known); err != nil {
					errs = append(errs, taskError(err))
				}
			}
		}
	}
	return errs
}

// followConfigs makes the configs of one mirror what they should be.
func (s *Service) followConfigs(ctx context.Context, l *Link, topic string, source, mirror, known map[string]topicConfig) error {
	follows := followedBy(l.Configs)
	want, atStop, refused := mirrorConfigs(topic, follows, source, known, nil)
	if refused != nil {
		return refused
	}
	change := map[string]*string{}
	for name, value := range want {
		if now, ok := mirror[name]; !ok || now.null || now.value != value {
			change[name] = &value
		}
	}
	s.setDrift(topic, driftOf(source, mirror, follows))
	if err := s.storeSourceConfigs(ctx, topic, atStop); err != nil {
		return err
	}
	if len(change) == 0 {
		return nil
	}
	if m := s.State().Mirrors[topic]; m == nil || m.State != MirrorActive {
		return nil // it is being stopped: its configs are going to be its source's own
	}
	if err := s.alterTopicConfigs(ctx, topic, change); err != nil {
		return fmt.Errorf("set the configs %s of mirror topic '%s': %w", slices.Sorted(maps.Keys(change)), topic, err)
	}
	s.log.Info("configs of a mirror follow its source", "topic", topic, "configs", slices.Sorted(maps.Keys(change)))
	return nil
}

// storeSourceConfigs stores what a mirror's topic gets when mirroring stops.
func (s *Service) storeSourceConfigs(ctx context.Context, topic string, atStop map[string]*string) error {
	return s.update(ctx, func(tx *Tx) error {
		m, err := tx.Mirror(topic)
		if err != nil || m == nil || m.State == MirrorStopped {
			return err
		}
		if maps.EqualFunc(m.SourceConfigs, atStop, func(a, b *string) bool { return a == b || a != nil && b != nil && *a == *b }) {
			return nil
		}
		m = m.clone()
		m.SourceConfigs = atStop
		return tx.PutMirror(topic, m)
	})
}

// driftOf lists what was set at the source's topic or at the mirror and differs, and does not follow.
func driftOf(source, mirror map[string]topicConfig, follows []string) (drift []ConfigDrift) {
	for _, name := range slices.Sorted(maps.Keys(source)) {
		from, to := source[name], mirror[name]
		if _, own := overridden[name]; own || slices.Contains(follows, name) || neverFollowed[name] {
			continue
		}
		if (from.explicit || to.explicit) && from.value != to.value {
			drift = append(drift, ConfigDrift{Name: name, Source: from.value, Mirror: to.value})
		}
	}
	return drift
}

func (s *Service) setDrift(topic string, drift []ConfigDrift) {
	s.driftMu.Lock()
	defer s.driftMu.Unlock()
	if s.drift == nil {
		s.drift = map[string][]ConfigDrift{}
	}
	s.drift[topic] = drift
	for topic := range s.drift {
		if s.State().Mirrors[topic] == nil {
			delete(s.drift, topic)
		}
	}
}

// driftNow is what the last look has found of a mirror; the slice is not to be changed.
func (s *Service) driftNow(topic string) []ConfigDrift {
	s.driftMu.Lock()
	defer s.driftMu.Unlock()
	return s.drift[topic]
}

// configsOf are the configs of one topic, or why they are not known.
type configsOf struct {
	configs map[string]topicConfig
	err     error
}

func describeConfigsOf(ctx context.Context, admin *kadm.Client, topics []string) (map[string]configsOf, error) {
	resources, err := admin.DescribeTopicConfigs(ctx, topics...)
	if err != nil {
		return nil, err
	}
	of := make(map[string]configsOf, len(topics))
	for _, topic := range topics {
		of[topic] = configsOf{err: fmt.Errorf("no answer for topic '%s'", topic)}
	}
	for _, r := range resources {
		c := configsOf{configs: make(map[string]topicConfig, len(r.Configs)), err: withMessage(r.Err, r.ErrMessage)}
		for _, v := range r.Configs {
			c.configs[v.Key] = topicConfig{value: v.MaybeValue(), null: v.Value == nil, explicit: v.Source == kmsg.ConfigSourceDynamicTopicConfig}
		}
		of[r.Name] = c
	}
	return of, nil
}
