package admin

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"klink/admin/filter"
	"klink/admin/linkconfig"
	"klink/admin/model"
	"klink/admin/store"
	"klink/internal/parallel"
	"klink/router"

	"github.com/twmb/franz-go/pkg/kerr"
)

// autoCreateTask creates mirrors of source topics that have none. It never deletes or changes an
// existing topic.
var autoCreateTask = &task{name: "AutoCreateMirror", interval: linkconfig.ConfigMetadataMaxAge, configured: autoCreates, run: autoCreateMirrors}

func autoCreates(l *model.Link) bool {
	return linkconfig.Value(l.Configs, linkconfig.ConfigAutoCreate) == "true" && strings.TrimSpace(l.Configs[linkconfig.ConfigAutoCreateFilters]) != ""
}

func autoCreateMirrors(ctx context.Context, s *Service, r *taskRun) (errs []model.TaskError) {
	filters, err := filter.ParseTopics(r.link.Configs[linkconfig.ConfigAutoCreateFilters])
	if err != nil {
		return []model.TaskError{{Code: model.ErrInternal, Message: linkconfig.ConfigAutoCreateFilters + ": " + err.Error()}}
	}
	listed, err := r.source.Admin.ListTopicsWithInternal(ctx)
	if err != nil {
		return []model.TaskError{taskError(r.source.Failed("list topics", err))}
	}
	var missing []string
	mirrors := s.State().Mirrors
	for topic, t := range listed {
		if !t.IsInternal && !internalTopic(topic) && mirrors[topic] == nil && filters.Match(topic) {
			missing = append(missing, topic)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	there, err := s.admin.ListTopicsWithInternal(ctx)
	if err != nil {
		return []model.TaskError{taskError(fmt.Errorf("could not list the topics of the destination: %w", err))}
	}
	// A mirror is recorded before its topic is created. So a listed topic without a mirror record
	// is an ordinary topic.
	if missing, err = s.withoutMirror(ctx, missing); err != nil {
		return []model.TaskError{taskError(err)}
	}
	failed := make([]*model.TaskError, len(missing))
	var stopped sync.Once
	parallel.ForEach(len(missing), func(i int) {
		topic := missing[i]
		if there.Has(topic) {
			failed[i] = &model.TaskError{Code: model.ErrTopicExists, Message: fmt.Sprintf("topic '%s' exists at the destination and is not a mirror: exclude it from %s, or delete it there", topic, linkconfig.ConfigAutoCreateFilters)}
			return
		}
		if err := ctx.Err(); err != nil {
			// The next run continues; one error stands for all that are left.
			stopped.Do(func() {
				failed[i] = &model.TaskError{Code: model.ErrTimeout, Message: "not all mirrors were created in this run"}
			})
			return
		}
		err := s.createMirrorFrom(ctx, router.MirrorSpec{Topic: topic, Link: r.link.Name, NumPartitions: -1, ReplicationFactor: -1}, r.source)
		switch {
		case err == nil:
		case err.Code == kerr.TopicAlreadyExists: // created a moment ago: the next run sees what it is
		case err.Code == kerr.UnknownTopicOrPartition: // deleted at the source since the listing
		default:
			e := taskError(err)
			e.Message = fmt.Sprintf("mirror topic '%s' cannot be created: %s", topic, e.Message)
			failed[i] = &e
		}
	})
	for _, e := range failed {
		if e != nil {
			errs = append(errs, *e)
		}
	}
	return errs
}

// internalTopic reports whether a topic is internal to Kafka or klink. Such topics are never
// mirrored automatically.
func internalTopic(topic string) bool {
	return strings.HasPrefix(topic, "__") || strings.HasPrefix(topic, "_klink")
}

// withoutMirror returns, sorted, the topics that have no mirror record of any link in any state. It
// reads the store and not the snapshot, which may lag behind the writes of other processes.
func (s *Service) withoutMirror(ctx context.Context, topics []string) (without []string, err error) {
	slices.Sort(topics)
	err = s.update(ctx, func(tx *store.Tx) error {
		without = nil
		for _, topic := range topics {
			// A record that cannot be read also belongs to a mirror.
			if m, err := tx.Mirror(topic); err == nil && m == nil {
				without = append(without, topic)
			}
		}
		return nil
	})
	return without, err
}
