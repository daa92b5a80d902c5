package wire

import (
	"context"
	"crypto/tls"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// produceVersion is the version of the produce requests: flexible, with topic names.
const produceVersion = 9

// Producer appends the same batch to one partition again and again, acks=1.
type Producer struct {
	*Conn
	frame     []byte
	resp      *kmsg.ProduceResponse
	topic     string
	partition int32
	batch     int64 // bytes
	records   int64
	next      int64 // the broker has given out the offsets below it
}

// NewProducer connects a producer to the leader of a partition, or to a proxy in front of it.
func NewProducer(ctx context.Context, addr string, config *tls.Config, topic string, partition int32, batch []byte) (*Producer, error) {
	c, err := Dial(ctx, addr, config)
	if err != nil {
		return nil, err
	}
	p := &Producer{
		Conn: c, topic: topic, partition: partition, batch: int64(len(batch)), frame: produceFrame(topic, partition, batch), next: -1,
		records: RecordsOf(batch),
	}
	p.resp = kmsg.NewPtrProduceResponse()
	p.resp.SetVersion(produceVersion)
	return p, nil
}

func produceFrame(topic string, partition int32, batch []byte) []byte {
	req := kmsg.NewPtrProduceRequest()
	req.SetVersion(produceVersion)
	req.Acks, req.TimeoutMillis = 1, int32(Timeout.Milliseconds())
	t, p := kmsg.NewProduceRequestTopic(), kmsg.NewProduceRequestTopicPartition()
	t.Topic, p.Partition, p.Records = topic, partition, batch
	t.Partitions = append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	return Frame(req)
}

// Once appends the batch. The answer must be without error, for this partition, and with an offset
// that the broker has not given out before.
func (p *Producer) Once() (int64, error) {
	body, err := p.Ask(p.frame)
	if err == nil {
		body, err = skipTags(body)
	}
	if err == nil {
		err = p.resp.ReadFrom(body)
	}
	if err != nil {
		return 0, fmt.Errorf("produce to %s-%d: %w", p.topic, p.partition, err)
	}
	if len(p.resp.Topics) != 1 || len(p.resp.Topics[0].Partitions) != 1 || p.resp.Topics[0].Topic != p.topic || p.resp.Topics[0].Partitions[0].Partition != p.partition {
		return 0, fmt.Errorf("produce to %s-%d: the response is for another partition", p.topic, p.partition)
	}
	got := p.resp.Topics[0].Partitions[0]
	if err := kerr.ErrorForCode(got.ErrorCode); err != nil {
		return 0, fmt.Errorf("produce to %s-%d: %w", p.topic, p.partition, err)
	}
	if got.BaseOffset < p.next {
		return 0, fmt.Errorf("produce to %s-%d: offset %d was given out before", p.topic, p.partition, got.BaseOffset)
	}
	p.next = got.BaseOffset + p.records
	return p.batch, nil
}

// Next returns the offset behind the last batch, -1 before the first.
func (p *Producer) Next() int64 { return p.next }
