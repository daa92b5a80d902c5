package admin

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"klink/admin/model"
	"klink/admin/store"
	"klink/internal/kafkaclient"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// restoreBatch is how many topics' configs are set in one request.
const restoreBatch = 500

// restoreConfigs sets configs of stopped mirrors' topics to the source's values, and records where
// that is done. These are the configs for which a mirror needs values of its own. One request
// changes many topics; a topic that is refused does not hold up the others.
func (s *Service) restoreConfigs(ctx context.Context, topics ...string) error {
	if len(topics) == 0 {
		return nil
	}
	s.restoreMu.Lock() // so that no two callers do the same work
	defer s.restoreMu.Unlock()
	pending := map[string]*store.MirrorRecord{}
	if err := s.update(ctx, func(tx *store.Tx) error {
		found := map[string]*store.MirrorRecord{}
		for _, topic := range topics {
			m, err := tx.Mirror(topic)
			if err == nil && m != nil && m.State == model.MirrorStopped && m.RestorePending && m.Created && !m.TopicGone {
				found[topic] = m
			}
		}
		pending = found
		return nil
	}); err != nil || len(pending) == 0 {
		return err
	}
	done, err := s.alterManyTopics(ctx, pending)
	if len(done) == 0 {
		return err
	}
	return errors.Join(err, s.update(ctx, func(tx *store.Tx) error {
		for _, topic := range done {
			m, err := tx.Mirror(topic)
			if err != nil || m == nil || m.ID != pending[topic].ID {
				continue // the mirror was deleted since
			}
			m = m.Clone()
			m.RestorePending = false
			if err := tx.PutMirror(topic, m); err != nil {
				return err
			}
		}
		return nil
	}))
}

// alterManyTopics sets the configs of many topics to the source's own, restoreBatch at a time. done
// are those where that succeeded.
func (s *Service) alterManyTopics(ctx context.Context, mirrors map[string]*store.MirrorRecord) (done []string, err error) {
	var errs []error
	for batch := range slices.Chunk(slices.Sorted(maps.Keys(mirrors)), restoreBatch) {
		req := kmsg.NewPtrIncrementalAlterConfigsRequest()
		for _, topic := range batch {
			configs := mirrors[topic].SourceConfigs
			if len(configs) == 0 {
				done = append(done, topic)
				continue
			}
			r := kmsg.NewIncrementalAlterConfigsRequestResource()
			r.ResourceType, r.ResourceName = kmsg.ConfigResourceTypeTopic, topic
			for _, name := range slices.Sorted(maps.Keys(configs)) {
				c := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
				c.Name, c.Op, c.Value = name, kmsg.IncrementalAlterConfigOpSet, configs[name]
				if c.Value == nil {
					c.Op = kmsg.IncrementalAlterConfigOpDelete
				}
				r.Configs = append(r.Configs, c)
			}
			req.Resources = append(req.Resources, r)
		}
		if len(req.Resources) == 0 {
			continue
		}
		resp, err := req.RequestWith(ctx, s.client)
		if err != nil {
			return done, errors.Join(append(errs, kafkaclient.NotOffered(err, kmsg.IncrementalAlterConfigs))...)
		}
		for _, r := range resp.Resources {
			message := ""
			if r.ErrorMessage != nil {
				message = *r.ErrorMessage
			}
			if err := kafkaclient.WithMessage(kerr.ErrorForCode(r.ErrorCode), message); err != nil {
				errs = append(errs, fmt.Errorf("could not set the configs of topic '%s' to those of its source: %w", r.ResourceName, err))
				continue
			}
			done = append(done, r.ResourceName)
		}
	}
	return done, errors.Join(errs...)
}
