package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

type describedTopicJSON struct {
	Name       string                        `json:"name"`
	ID         string                        `json:"id"`
	Internal   bool                          `json:"internal"`
	Partitions []describedTopicPartitionJSON `json:"partitions"`
	// Configs are those that were set on the topic.
	Configs map[string]string `json:"configs"`
}

// describedTopicPartitionJSON has offsets of -1 if the partition has no leader.
type describedTopicPartitionJSON struct {
	Partition   int32   `json:"partition"`
	Leader      int32   `json:"leader"`
	Replicas    []int32 `json:"replicas"`
	ISR         []int32 `json:"isr"`
	StartOffset int64   `json:"start_offset"`
	EndOffset   int64   `json:"end_offset"`
}

func (a *app) topicDescribe() *cobra.Command {
	return &cobra.Command{
		Use:               "describe TOPIC",
		Short:             "Show the partitions, offsets and configs of a topic",
		Args:              exactArgs("TOPIC"),
		ValidArgsFunction: a.completeTopics(),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withCluster(func(cl *cluster, adm *kadm.Client) error {
				d, err := describeTopic(cmd.Context(), cl, adm, args[0])
				if err != nil {
					return err
				}
				return a.showTopic(d)
			})
		},
	}
}

// topicDetail finds a topic; a missing one is an error.
func topicDetail(ctx context.Context, cl *cluster, adm *kadm.Client, topic string) (kadm.TopicDetail, error) {
	topics, err := adm.ListTopicsWithInternal(ctx, topic)
	if err != nil {
		return kadm.TopicDetail{}, cl.fail(err)
	}
	t, ok := topics[topic]
	switch {
	case !ok, errors.Is(t.Err, kerr.UnknownTopicOrPartition):
		return t, fmt.Errorf("topic %q does not exist at %s", topic, cl.address)
	case t.Err != nil:
		return t, prefixed("topic", topic, t.Err)
	}
	return t, nil
}

func describeTopic(ctx context.Context, cl *cluster, adm *kadm.Client, topic string) (*describedTopicJSON, error) {
	t, err := topicDetail(ctx, cl, adm, topic)
	if err != nil {
		return nil, err
	}
	starts, err := adm.ListStartOffsets(ctx, topic)
	if err != nil {
		return nil, cl.fail(err)
	}
	ends, err := adm.ListEndOffsets(ctx, topic)
	if err != nil {
		return nil, cl.fail(err)
	}
	d := &describedTopicJSON{Name: topic, ID: t.ID.String(), Internal: internalTopic(t), Configs: map[string]string{}}
	for _, p := range t.Partitions.Sorted() {
		row := describedTopicPartitionJSON{p.Partition, p.Leader, p.Replicas, p.ISR, -1, -1}
		if o, ok := starts.Lookup(topic, p.Partition); ok && o.Err == nil {
			row.StartOffset = o.Offset
		}
		if o, ok := ends.Lookup(topic, p.Partition); ok && o.Err == nil {
			row.EndOffset = o.Offset
		}
		d.Partitions = append(d.Partitions, row)
	}
	configs, err := adm.DescribeTopicConfigs(ctx, topic)
	if err != nil {
		return nil, cl.fail(err)
	}
	c, err := configs.On(topic, nil)
	if err != nil {
		return nil, prefixed("topic", topic, codeError(err, &c.ErrMessage))
	}
	for _, e := range c.Configs {
		if e.Source == kmsg.ConfigSourceDynamicTopicConfig && e.Value != nil {
			d.Configs[e.Key] = *e.Value
		}
	}
	return d, nil
}

func (a *app) showTopic(d *describedTopicJSON) error {
	if a.output == "json" {
		return a.json(d)
	}
	rows := [][]any{}
	for _, p := range d.Partitions {
		rows = append(rows, []any{p.Partition, offset(p.StartOffset), offset(p.EndOffset), p.Leader, ids(p.Replicas), ids(p.ISR)})
	}
	fmt.Fprintf(a.out, "Topic: %s\n\n", d.Name)
	a.table([]string{"Partition", "Start Offset", "End Offset", "Leader", "Replicas", "In-Sync"}, rows)
	if len(d.Configs) == 0 {
		return nil
	}
	fmt.Fprintln(a.out)
	rows = nil
	for _, key := range slices.Sorted(maps.Keys(d.Configs)) {
		rows = append(rows, []any{key, d.Configs[key]})
	}
	a.table([]string{"Config", "Value"}, rows)
	return nil
}

func ids(brokers []int32) string { return strings.Trim(fmt.Sprint(brokers), "[]") }
