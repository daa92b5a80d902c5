package wire

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Leader is a broker, with the partitions of a topic that it leads.
type Leader struct {
	Addr       string
	Partitions []int32
}

// Leaders asks for the leaders of the n partitions of a topic. If there is no such topic, the error
// is Kafka's.
func (c *Conn) Leaders(topic string) (leaders []Leader, n int, err error) {
	req := kmsg.NewPtrMetadataRequest()
	req.SetVersion(8)
	t := kmsg.NewMetadataRequestTopic()
	t.Topic = kmsg.StringPtr(topic)
	req.Topics = append(req.Topics, t)
	kresp, err := c.Request(req)
	if err != nil {
		return nil, 0, err
	}
	resp := kresp.(*kmsg.MetadataResponse)
	if len(resp.Topics) != 1 {
		return nil, 0, fmt.Errorf("metadata of %d topics instead of %s", len(resp.Topics), topic)
	}
	if err := kerr.ErrorForCode(resp.Topics[0].ErrorCode); err != nil {
		return nil, 0, fmt.Errorf("topic %s: %w", topic, err)
	}
	for _, b := range resp.Brokers {
		l := Leader{Addr: net.JoinHostPort(b.Host, strconv.Itoa(int(b.Port)))}
		for _, p := range resp.Topics[0].Partitions {
			if p.Leader == b.NodeID {
				l.Partitions = append(l.Partitions, p.Partition)
			}
		}
		if n += len(l.Partitions); len(l.Partitions) > 0 {
			slices.Sort(l.Partitions)
			leaders = append(leaders, l)
		}
	}
	if n != len(resp.Topics[0].Partitions) {
		return nil, 0, fmt.Errorf("topic %s: %d of %d partitions have a leader: %w", topic, n, len(resp.Topics[0].Partitions), kerr.LeaderNotAvailable)
	}
	return leaders, n, nil
}

// Leaders is [Conn.Leaders] for a topic that was just made, over a connection of its own. It
// retries, because some brokers may not know the topic yet.
func Leaders(ctx context.Context, addr, topic string) (leaders []Leader, n int, err error) {
	c, err := Dial(ctx, addr, nil)
	if err != nil {
		return nil, 0, err
	}
	defer c.Close()
	for began := time.Now(); ; {
		leaders, n, err = c.Leaders(topic)
		if err == nil || !kerr.IsRetriable(err) || time.Since(began) > 5*time.Second {
			return leaders, n, err
		}
		select {
		case <-ctx.Done():
			return nil, 0, ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Ends asks for the end offsets (high watermarks) of partitions, and writes them to to[p]. If the
// broker does not know a partition (yet), to[p] stays.
func (c *Conn) Ends(topic string, partitions []int32, to []int64) error {
	listed, err := c.ends(topic, partitions)
	if err != nil {
		return err
	}
	for _, p := range listed {
		switch err := kerr.ErrorForCode(p.ErrorCode); {
		case err == nil:
			to[p.Partition] = p.Offset
		case kerr.IsRetriable(err):
		default:
			return fmt.Errorf("end of %s-%d: %w", topic, p.Partition, err)
		}
	}
	return nil
}

// End returns the end offset of one partition, over a connection of its own.
func End(ctx context.Context, addr, topic string, partition int32) (int64, error) {
	c, err := Dial(ctx, addr, nil)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	listed, err := c.ends(topic, []int32{partition})
	if err != nil {
		return 0, err
	}
	if len(listed) == 0 {
		return 0, errors.New("no partition in the response")
	}
	return listed[0].Offset, kerr.ErrorForCode(listed[0].ErrorCode)
}

func (c *Conn) ends(topic string, partitions []int32) (listed []kmsg.ListOffsetsResponseTopicPartition, err error) {
	req := kmsg.NewPtrListOffsetsRequest()
	req.SetVersion(5)
	req.ReplicaID = -1
	t := kmsg.NewListOffsetsRequestTopic()
	t.Topic = topic
	for _, partition := range partitions {
		p := kmsg.NewListOffsetsRequestTopicPartition()
		p.Partition, p.CurrentLeaderEpoch, p.Timestamp = partition, -1, -1
		t.Partitions = append(t.Partitions, p)
	}
	req.Topics = append(req.Topics, t)
	resp, err := c.Request(req)
	if err != nil {
		return nil, err
	}
	for _, t := range resp.(*kmsg.ListOffsetsResponse).Topics {
		listed = append(listed, t.Partitions...)
	}
	return listed, nil
}
