package admin

import (
	"context"
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kmsg"

	"klink/admin/linkconfig"
	"klink/internal/kafkaclient"
)

// describeTopicConfigs describes all configs of a topic.
func describeTopicConfigs(ctx context.Context, admin *kadm.Client, topic string) (map[string]linkconfig.TopicConfig, error) {
	resources, err := admin.DescribeTopicConfigs(ctx, topic)
	if err != nil {
		return nil, err
	}
	r, err := resources.On(topic, nil)
	if err != nil {
		return nil, err
	}
	if r.Err != nil {
		return nil, kafkaclient.WithMessage(r.Err, r.ErrMessage)
	}
	configs := make(map[string]linkconfig.TopicConfig, len(r.Configs))
	for _, c := range r.Configs {
		configs[c.Key] = linkconfig.TopicConfig{Value: c.MaybeValue(), Null: c.Value == nil, Explicit: c.Source == kmsg.ConfigSourceDynamicTopicConfig}
	}
	return configs, nil
}

func (s *Service) topicConfigs(ctx context.Context, topic string) (map[string]linkconfig.TopicConfig, error) {
	return describeTopicConfigs(ctx, s.admin, topic)
}

// alterTopicConfigs sets configs of a destination topic; nil = back to the default.
func (s *Service) alterTopicConfigs(ctx context.Context, topic string, configs map[string]*string) error {
	if len(configs) == 0 {
		return nil
	}
	var alter []kadm.AlterConfig
	for _, name := range slices.Sorted(maps.Keys(configs)) {
		op := kadm.SetConfig
		if configs[name] == nil {
			op = kadm.DeleteConfig
		}
		alter = append(alter, kadm.AlterConfig{Op: op, Name: name, Value: configs[name]})
	}
	responses, err := s.admin.AlterTopicConfigs(ctx, alter, topic)
	if err != nil {
		return err
	}
	r, err := responses.On(topic, nil)
	if err != nil {
		return err
	}
	return kafkaclient.WithMessage(r.Err, r.ErrMessage)
}
