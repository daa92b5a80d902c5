package topicconfig

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kmsg"

	"klink/admin/linkconfig"
	"klink/internal/kafkaclient"
)

// Describe describes all configs of a topic.
func Describe(ctx context.Context, admin *kadm.Client, topic string) (map[string]linkconfig.TopicConfig, error) {
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

// AtOnce is the number of topics to describe with one request.
const AtOnce = 200

// Described holds the configs of one topic, or the error of describing them.
type Described struct {
	Configs map[string]linkconfig.TopicConfig
	Err     error
}

// DescribeAll describes all configs of several topics, with one request.
func DescribeAll(ctx context.Context, admin *kadm.Client, topics []string) (map[string]Described, error) {
	resources, err := admin.DescribeTopicConfigs(ctx, topics...)
	if err != nil {
		return nil, err
	}
	of := make(map[string]Described, len(topics))
	for _, topic := range topics {
		of[topic] = Described{Err: fmt.Errorf("no answer for topic '%s'", topic)}
	}
	for _, r := range resources {
		c := Described{Configs: make(map[string]linkconfig.TopicConfig, len(r.Configs)), Err: kafkaclient.WithMessage(r.Err, r.ErrMessage)}
		for _, v := range r.Configs {
			c.Configs[v.Key] = linkconfig.TopicConfig{Value: v.MaybeValue(), Null: v.Value == nil, Explicit: v.Source == kmsg.ConfigSourceDynamicTopicConfig}
		}
		of[r.Name] = c
	}
	return of, nil
}

// Alter sets configs of a topic; nil = back to the default.
func Alter(ctx context.Context, admin *kadm.Client, topic string, configs map[string]*string) error {
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
	responses, err := admin.AlterTopicConfigs(ctx, alter, topic)
	if err != nil {
		return err
	}
	r, err := responses.On(topic, nil)
	if err != nil {
		return err
	}
	return kafkaclient.WithMessage(r.Err, r.ErrMessage)
}
