package groups

import (
	"context"
	"errors"
	"slices"
	"time"

	"klink/internal/kafkaclient"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Pause is the pause before klink asks a coordinator again that could not answer.
const Pause = 200 * time.Millisecond

// TryAgain reports whether another attempt may help and ctx leaves time for it.
func TryAgain(ctx context.Context, err error) bool {
	if err == nil || ctx.Err() != nil {
		return false
	}
	var shards *kadm.ShardErrors
	if errors.As(err, &shards) {
		return slices.ContainsFunc(shards.Errs, func(e kadm.ShardError) bool { return TryAgain(ctx, e.Err) })
	}
	var code *kerr.Error
	return !errors.As(err, &code) || code.Retriable
}

// Commit is an offset to commit for a group.
type Commit struct {
	Group     string
	Topic     string
	TopicID   [16]byte
	Partition int32
	Committed int64 // now
	End       int64 // to commit
	Metadata  string
	Err       error // why it was not committed; nil = it was
}

// Send commits the end of each of commits, for one group, as a client that is no member:
// generation -1, no member id. The leader epoch is -1, because the source's epochs mean nothing
// here. It sets Err in each of commits.
func Send(ctx context.Context, client *kgo.Client, group string, commits []*Commit) {
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group = group
	topics := map[string]int{}
	for _, c := range commits {
		c.Err = errors.New("no answer from the coordinator")
		i, ok := topics[c.Topic]
		if !ok {
			i = len(req.Topics)
			topics[c.Topic] = i
			t := kmsg.NewOffsetCommitRequestTopic()
			t.Topic, t.TopicID = c.Topic, c.TopicID
			req.Topics = append(req.Topics, t)
		}
		p := kmsg.NewOffsetCommitRequestTopicPartition()
		p.Partition, p.Offset, p.LeaderEpoch = c.Partition, c.End, -1
		if c.Metadata != "" {
			p.Metadata = &c.Metadata
		}
		req.Topics[i].Partitions = append(req.Topics[i].Partitions, p)
	}
	resp, err := req.RequestWith(ctx, client)
	if err = kafkaclient.NotOffered(err, kmsg.OffsetCommit); err != nil {
		for _, c := range commits {
			c.Err = err
		}
		return
	}
	type place struct {
		topic     string
		id        [16]byte // instead of topic, where the response has only the id
		partition int32
	}
	at := make(map[place]*Commit, 2*len(commits))
	for _, c := range commits {
		at[place{topic: c.Topic, partition: c.Partition}] = c
		at[place{id: c.TopicID, partition: c.Partition}] = c
	}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			where := place{topic: t.Topic, partition: p.Partition}
			if t.Topic == "" {
				where.id = t.TopicID
			}
			if c := at[where]; c != nil {
				c.Err = kerr.ErrorForCode(p.ErrorCode)
			}
		}
	}
}
