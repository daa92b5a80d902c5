package topicconfig

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"klink/admin/linkconfig"
	"klink/internal/kafkaclient"
)

// Describe describes all configs of a topic.
func Describe(ctx context.Context, admin *kadm.Client, topic string) (map[string]linkconfig.TopicConfig, error) {
	resources, err := admin.DescribeTopicConfigs(ctx, topic)
	if err != nil {
		return nil, kafkaclient.NotOffered(err, kmsg.DescribeConfigs)
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

// DescribeAll describes all configs of several topics, with one request. kadm fails as a whole if
// one topic is denied; then the topics are asked in halves, so that the others are described.
func DescribeAll(ctx context.Context, admin *kadm.Client, topics []string) (map[string]Described, error) {
	resources, err := admin.DescribeTopicConfigs(ctx, topics...)
	switch {
	case errors.Is(err, kerr.TopicAuthorizationFailed) && len(topics) == 1:
		return map[string]Described{topics[0]: {Err: err}}, nil
	case errors.Is(err, kerr.TopicAuthorizationFailed):
		of, err := DescribeAll(ctx, admin, topics[:len(topics)/2])
		if err != nil {
			return nil, err
		}
		more, err := DescribeAll(ctx, admin, topics[len(topics)/2:])
		maps.Copy(of, more)
		return of, err
	case err != nil:
		return nil, kafkaclient.NotOffered(err, kmsg.DescribeConfigs)
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
		return kafkaclient.NotOffered(err, kmsg.IncrementalAlterConfigs)
	}
	r, err := responses.On(topic, nil)
	if err != nil {
		return err
	}
	return kafkaclient.WithMessage(r.Err, r.ErrMessage)
}

// Refused returns which of the configs of a new topic the destination refuses by themselves, as
// name=value. A policy may refuse many, and need not say which. validate asks the destination
// whether it would create the topic with these configs. Nil: it refuses none of them by itself, or
// a topic without any, too.
func Refused(configs map[string]string, validate func(map[string]string) error) (refused []string) {
	for _, name := range slices.Sorted(maps.Keys(configs)) {
		if isRefusal(validate(map[string]string{name: configs[name]})) {
			refused = append(refused, name+"="+configs[name])
		}
	}
	if len(refused) > 0 && len(refused) == len(configs) && validate(nil) != nil {
		return nil
	}
	return refused
}

// isRefusal reports whether a topic is refused for what it is to be.
func isRefusal(err error) bool {
	return errors.Is(err, kerr.PolicyViolation) || errors.Is(err, kerr.InvalidConfig) || errors.Is(err, kerr.InvalidRequest)
}
