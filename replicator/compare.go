package replicator

import (
	"context"
	"errors"
	"fmt"

	"klink/admin/model"
	"klink/internal/kafkaclient"
	"klink/protocol/batch"
	"klink/replicator/core"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// compare asks the broker, in one request, what became of the batches that partitions have seen
// last (truncation.go), and passes the answers on to the partitions. Every job has ended when it
// returns. Its error is one of the whole request.
func (f *fetcher) compare(ctx context.Context, jobs []*fetchJob) error {
	answered := false
	defer func() {
		for _, j := range jobs {
			switch {
			case j.answer:
			case answered:
				j.failed()
			default:
				j.lost()
			}
		}
	}()
	req := kmsg.NewPtrOffsetForLeaderEpochRequest()
	req.ReplicaID = -1
	type key struct {
		topic     string
		partition int32
	}
	index := make(map[key]*fetchJob, len(jobs))
	topics := map[string]int{}
	for _, j := range jobs {
		topic := j.w.m.sourceTopic
		at, ok := topics[topic]
		if !ok {
			at = len(req.Topics)
			topics[topic] = at
			t := kmsg.NewOffsetForLeaderEpochRequestTopic()
			t.Topic = topic
			req.Topics = append(req.Topics, t)
		}
		if index[key{topic, j.w.id}] != nil {
			continue // another mirror of the same topic; its turn is the next round
		}
		p := kmsg.NewOffsetForLeaderEpochRequestTopicPartition()
		p.Partition, p.CurrentLeaderEpoch, p.LeaderEpoch = j.w.id, j.leader, j.seen.Epoch
		req.Topics[at].Partitions = append(req.Topics[at].Partitions, p)
		index[key{topic, j.w.id}] = j
	}
	kresp, err := f.s.client.Broker(int(f.broker)).Request(ctx, req)
	if kafkaclient.IsNotOffered(err) {
		for _, j := range jobs {
			f.compared(j, core.CannotTell)
		}
		return nil
	}
	if err != nil {
		return err
	}
	answered = true
	resp := kresp.(*kmsg.OffsetForLeaderEpochResponse)
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			j := index[key{t.Topic, p.Partition}]
			if j == nil || j.answer {
				continue
			}
			err := kerr.ErrorForCode(p.ErrorCode)
			a := core.EpochAnswer{EpochEnd: core.EpochEnd{Epoch: p.LeaderEpoch, End: p.EndOffset}, Leader: j.leader, There: -1}
			if err == nil && a.NeedsLook(j.seen) {
				a.There, err = f.epochAt(ctx, j)
			}
			switch {
			case err == nil:
				f.compared(j, a)
			case isOneOf(err, kerr.ClusterAuthorizationFailed, kerr.UnsupportedVersion, kerr.UnsupportedForMessageFormat):
				f.compared(j, core.CannotTell) // before KIP-320 brokers answered only brokers
			case errors.Is(err, kerr.TopicAuthorizationFailed):
				j.w.m.setDenied(core.Failf(model.ErrAuthorization,
					"the source refuses requests for the leader epochs of topic %q: grant the link's principal DESCRIBE on it", j.w.m.sourceTopic))
				j.failed()
			default:
				// A leader that moved, or metadata that is older or newer than the broker's.
				f.s.r.log.Debug("could not get the end of a leader epoch from the source, retrying",
					"link", f.s.name, "topic", j.w.m.sourceTopic, "partition", j.w.id, "error", err)
				j.failed()
				f.s.refresh()
			}
		}
	}
	return nil
}

// compared passes on to a partition what the source says about the batch that it has seen last.
func (f *fetcher) compared(j *fetchJob, a core.EpochAnswer) {
	j.answer = true
	if a.End < 0 && !f.s.blind.Swap(true) {
		f.s.log.Warn("the source does not know the leader epoch of a mirrored batch: klink cannot detect there if the source's log was truncated and rewritten",
			"topic", j.w.m.sourceTopic, "partition", j.w.id, "epoch", j.seen.Epoch)
	}
	j.w.step(func(p *core.Partition) core.Effects { return p.Compared(j.gen, j.leader, a) })
}

// epochAt returns the leader epoch of the batch that holds the last offset of the batch seen last;
// -1 = the source has no such batch.
func (f *fetcher) epochAt(ctx context.Context, j *fetchJob) (int32, error) {
	of := kafkaclient.OnePartition{Topic: j.w.m.sourceTopic, TopicID: j.w.m.id(), Partition: j.w.id, Epoch: j.leader}
	r, err := of.Fetch(ctx, f.s.client.Broker(int(f.broker)), j.seen.End-1,
		kafkaclient.FetchBounds{Isolation: kafkaclient.ReadUncommitted, MaxBytes: minPartitionFetch, PartitionMaxBytes: 1})
	switch {
	case err == nil:
	case r != nil && errors.Is(err, kerr.OffsetOutOfRange): // deleted since
		return -1, nil
	default:
		return -1, err
	}
	if len(r.RecordBatches) == 0 {
		return -1, fmt.Errorf("offset %d of %s-%d is not committed yet", j.seen.End-1, j.w.m.sourceTopic, j.w.id)
	}
	return epochOfOffset(r.RecordBatches, j.seen.End-1), nil
}

// epochOfOffset returns the leader epoch of the batch that holds offset, out of the records of a
// fetch at that offset; -1 = there is no such batch, or it has no epoch.
func epochOfOffset(records []byte, offset int64) int32 {
	w := batch.Walk(records)
	for w.Next() {
		if b := w.Batch(); b.NextOffset() > offset {
			if b.BaseOffset() > offset {
				return -1
			}
			return b.LeaderEpoch()
		}
	}
	return -1
}
