package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kmsg"

	"klink/protocol/linkapi"
)

func (a *app) topicCommand() *cobra.Command {
	return group("topic", "Create, show and delete topics, and read and write their records",
		a.topicCreate(), a.topicList(), a.topicDescribe(), a.topicDelete(), a.topicProduce(), a.topicConsume(), a.topicMirrorCommand())
}

func (a *app) completeTopics() func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return a.completion(func(ctx context.Context, cl *cluster) ([]string, error) {
		topics, err := kadm.NewClient(cl.Client).ListTopics(ctx)
		return topics.Names(), err
	})
}

// internalTopic reports whether a topic belongs to Kafka or to klink.
func internalTopic(t kadm.TopicDetail) bool {
	return t.IsInternal || strings.HasPrefix(t.Topic, "__") || strings.HasPrefix(t.Topic, "_klink_")
}

func (a *app) topicCreate() *cobra.Command {
	var (
		link, source string
		partitions   int32
		replication  int16
		pairs        []string
		dryRun       bool
	)
	cmd := &cobra.Command{
		Use:   "create TOPIC [--link LINK --mirror-topic SOURCE-TOPIC]",
		Short: "Create a topic, or a mirror of a topic of a link's source",
		Long: `Creates a topic. With --link it is a read-only mirror of the source's topic, which must have the same name; the mirror
has as many partitions as its source.`,
		Example: `  klink topic create orders --partitions 6
  klink topic create orders --link east-west --mirror-topic orders`,
		Args: exactArgs("TOPIC"),
		RunE: func(cmd *cobra.Command, args []string) error {
			flags := cmd.Flags()
			if source != "" && link == "" {
				return usagef("--mirror-topic needs --link")
			}
			for _, n := range []struct {
				name  string
				value int64
			}{{"partitions", int64(partitions)}, {"replication-factor", int64(replication)}} {
				if flags.Changed(n.name) && n.value < 1 {
					return usagef("--%s: must be at least 1", n.name)
				}
			}
			configs := map[string]string{}
			for _, pair := range pairs {
				key, value, err := keyValue(pair)
				if err != nil {
					return err
				}
				configs[key] = value
			}
			return a.withCluster(func(cl *cluster, _ *kadm.Client) error {
				create := createTopic
				if link != "" {
					create = func(ctx context.Context, cl *cluster, topic string, partitions int32, replication int16, configs map[string]string, dryRun bool) error {
						return createMirror(ctx, cl, topic, link, source, partitions, replication, configs, dryRun)
					}
				}
				if err := create(cmd.Context(), cl, args[0], partitions, replication, configs, dryRun); err != nil {
					return prefixed("topic", args[0], err)
				}
				if dryRun {
					fmt.Fprintf(a.out, "Topic %q can be created.\n", args[0])
				} else {
					fmt.Fprintf(a.out, "Created topic %q.\n", args[0])
				}
				return nil
			})
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&link, "link", "", "create the topic as a mirror, through `LINK`")
	flags.StringVar(&source, "mirror-topic", "", "`TOPIC` of the link's source to mirror (default: the same name)")
	flags.Int32Var(&partitions, "partitions", -1, "number `N` of partitions (default: the cluster's; for a mirror: its source's)")
	flags.Int16Var(&replication, "replication-factor", -1, "replication factor `N` (default: the cluster's)")
	flags.StringArrayVar(&pairs, "config", nil, "topic config `KEY=VALUE`; may be repeated")
	flags.BoolVar(&dryRun, "dry-run", false, "only check whether the topic could be created")
	flags.Lookup("partitions").DefValue, flags.Lookup("replication-factor").DefValue = "0", "0" // not shown in help
	_ = cmd.RegisterFlagCompletionFunc("link", a.completeLinks())
	return cmd
}

func createTopic(ctx context.Context, cl *cluster, topic string, partitions int32, replication int16, configs map[string]string, dryRun bool) error {
	req := kmsg.NewPtrCreateTopicsRequest()
	req.TimeoutMillis, req.ValidateOnly = timeoutMs, dryRun
	t := kmsg.NewCreateTopicsRequestTopic()
	t.Topic, t.NumPartitions, t.ReplicationFactor = topic, partitions, replication
	for _, key := range slices.Sorted(maps.Keys(configs)) {
		c := kmsg.NewCreateTopicsRequestTopicConfig()
		c.Name, c.Value = key, kmsg.StringPtr(configs[key])
		t.Configs = append(t.Configs, c)
	}
	req.Topics = append(req.Topics, t)
	resp, err := req.RequestWith(ctx, cl.Client)
	if err != nil {
		return cl.fail(err)
	}
	if len(resp.Topics) != 1 {
		return fmt.Errorf("%s answered with %d results for one topic", cl.address, len(resp.Topics))
	}
	return resultError(resp.Topics[0].ErrorCode, resp.Topics[0].ErrorMessage)
}

func createMirror(ctx context.Context, cl *cluster, topic, link, source string, partitions int32, replication int16, configs map[string]string, dryRun bool) error {
	m := linkapi.CreateMirror{Topic: topic, Link: link, SourceTopic: source, NumPartitions: partitions, ReplicationFactor: replication}
	for _, key := range slices.Sorted(maps.Keys(configs)) {
		m.Configs = append(m.Configs, linkapi.Config{Name: key, Value: kmsg.StringPtr(configs[key])})
	}
	resp, err := request[*linkapi.CreateMirrorsResponse](ctx, cl, &linkapi.CreateMirrorsRequest{
		TimeoutMs: timeoutMs, ValidateOnly: dryRun, Mirrors: []linkapi.CreateMirror{m},
	})
	if err != nil {
		return err
	}
	return firstError("topic", resp.Results)
}

type listedTopicJSON struct {
	Name              string `json:"name"`
	Partitions        int    `json:"partitions"`
	ReplicationFactor int    `json:"replication_factor"`
	Internal          bool   `json:"internal"`
}

func (a *app) topicList() *cobra.Command {
	var internal bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the topics",
		Args:  exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withCluster(func(cl *cluster, adm *kadm.Client) error {
				topics, err := adm.ListTopicsWithInternal(cmd.Context())
				if err != nil {
					return cl.fail(err)
				}
				list, rows := []listedTopicJSON{}, [][]any{}
				for _, t := range topics.Sorted() {
					if internalTopic(t) && !internal {
						continue
					}
					l := listedTopicJSON{t.Topic, len(t.Partitions), t.Partitions.NumReplicas(), internalTopic(t)}
					list = append(list, l)
					rows = append(rows, []any{l.Name, l.Partitions, l.ReplicationFactor})
				}
				return a.show(list, []string{"Name", "Partitions", "Replication Factor"}, rows)
			})
		},
	}
	cmd.Flags().BoolVar(&internal, "internal", false, "also list the internal topics of Kafka and klink")
	return cmd
}

func (a *app) topicDelete() *cobra.Command {
	return &cobra.Command{
		Use:               "delete TOPIC...",
		Short:             "Delete topics with all their records; deleting a mirror's topic deletes the mirror",
		Args:              minArgs("TOPIC"),
		ValidArgsFunction: a.completeTopics(),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withCluster(func(cl *cluster, adm *kadm.Client) error {
				resp, err := adm.DeleteTopics(cmd.Context(), args...)
				if err != nil {
					return cl.fail(err)
				}
				for _, topic := range args {
					r, ok := resp[topic]
					if !ok {
						return fmt.Errorf("%s did not answer for topic %q", cl.address, topic)
					}
					if r.Err != nil {
						return prefixed("topic", topic, codeError(r.Err, &r.ErrMessage))
					}
					fmt.Fprintf(a.out, "Deleted topic %q.\n", topic)
				}
				return nil
			})
		},
	}
}
