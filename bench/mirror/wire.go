package mirror

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// The versions that wire.go speaks: the last ones with topic names and without tags. Every broker
// from 2.4 to 4.x knows them.
const (
	fetchVersion       = 11
	produceVersion     = 8
	listOffsetsVersion = 5
	metadataVersion    = 8
)

// wireTimeout bounds an exchange that hangs. An answer that late is useless for a measurement.
const wireTimeout = 60 * time.Second

// conn is a connection to one broker, which answers requests in their order. One goroutine may send
// while another receives.
type conn struct {
	c    net.Conn
	stop func() bool // keeps the end of the context from closing the connection
	sent int32       // number of requests; also the last one's correlation id
	got  int32       // number of answers
	out  []byte      // reused
}

// dial connects to the first address of a comma-separated list.
func dial(ctx context.Context, addr string) (*conn, error) {
	addr, _, _ = strings.Cut(addr, ",")
	d := net.Dialer{Timeout: 10 * time.Second}
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	// Reads and writes that block end with the context.
	stop := context.AfterFunc(ctx, func() { c.Close() })
	return &conn{c: c, stop: stop}, nil
}

func (c *conn) Close() {
	c.stop()
	c.c.Close()
}

// begin starts a request in c.out. send sets its length.
func (c *conn) begin(key, version int16) []byte {
	c.sent++
	b := append(c.out[:0], 0, 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(key))
	b = binary.BigEndian.AppendUint16(b, uint16(version))
	b = binary.BigEndian.AppendUint32(b, uint32(c.sent))
	return appendString(b, "bench")
}

func appendString(b []byte, s string) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(s)))
	return append(b, s...)
}

// send writes the complete request b, which the caller has started with begin.
func (c *conn) send(b []byte) error {
	c.out = b
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	_ = c.c.SetDeadline(time.Now().Add(wireTimeout))
	_, err := c.c.Write(b)
	return err
}

// receive reads the next answer into buf, which grows if it is too small, and returns the body and
// buf. The body aliases buf.
func (c *conn) receive(buf []byte) (body, grown []byte, err error) {
	var head [4]byte
	if _, err := io.ReadFull(c.c, head[:]); err != nil {
		return nil, buf, err
	}
	size := int(int32(binary.BigEndian.Uint32(head[:])))
	if size < 4 || size > 1<<30 {
		return nil, buf, fmt.Errorf("a response of %d bytes", size)
	}
	if cap(buf) < size {
		buf = make([]byte, size+size/4)
	}
	buf = buf[:size]
	if _, err := io.ReadFull(c.c, buf); err != nil {
		return nil, buf, err
	}
	c.got++
	if id := int32(binary.BigEndian.Uint32(buf)); id != c.got {
		return nil, buf, fmt.Errorf("a response to request %d instead of request %d", id, c.got)
	}
	return buf[4:], buf, nil
}

// call makes a request and reads its answer. It is for rare requests.
func (c *conn) call(req kmsg.Request, resp kmsg.Response, version int16) error {
	req.SetVersion(version)
	resp.SetVersion(version)
	if err := c.send(req.AppendTo(c.begin(req.Key(), version))); err != nil {
		return err
	}
	body, _, err := c.receive(nil)
	if err != nil {
		return err
	}
	return resp.ReadFrom(body)
}

// seeds returns the option for the addresses of a bootstrap.servers list.
func seeds(addrs string) kgo.Opt { return kgo.SeedBrokers(strings.Split(addrs, ",")...) }

// leader is a broker, with the partitions of a topic that it leads.
type leader struct {
	addr       string
	partitions []int32
}

// partitions asks for the leaders of the n partitions of a topic. If there is no such topic, the
// error is Kafka's.
func (c *conn) partitions(topic string) (leaders []leader, n int, err error) {
	req, resp := kmsg.NewPtrMetadataRequest(), kmsg.NewPtrMetadataResponse()
	t := kmsg.NewMetadataRequestTopic()
	t.Topic = kmsg.StringPtr(topic)
	req.Topics = append(req.Topics, t)
	if err := c.call(req, resp, metadataVersion); err != nil {
		return nil, 0, err
	}
	if len(resp.Topics) != 1 {
		return nil, 0, fmt.Errorf("metadata of %d topics instead of %s", len(resp.Topics), topic)
	}
	if err := kerr.ErrorForCode(resp.Topics[0].ErrorCode); err != nil {
		return nil, 0, fmt.Errorf("topic %s: %w", topic, err)
	}
	for _, b := range resp.Brokers {
		l := leader{addr: net.JoinHostPort(b.Host, strconv.Itoa(int(b.Port)))}
		for _, p := range resp.Topics[0].Partitions {
			if p.Leader == b.NodeID {
				l.partitions = append(l.partitions, p.Partition)
			}
		}
		if n += len(l.partitions); len(l.partitions) > 0 {
			slices.Sort(l.partitions)
			leaders = append(leaders, l)
		}
	}
	if n != len(resp.Topics[0].Partitions) {
		return nil, 0, fmt.Errorf("topic %s: %d of %d partitions have a leader: %w", topic, n, len(resp.Topics[0].Partitions), kerr.LeaderNotAvailable)
	}
	return leaders, n, nil
}

// leadersOf asks for the leaders of a topic that was just made. It retries, because some brokers
// may not know the topic yet.
func leadersOf(ctx context.Context, addr, topic string) (leaders []leader, n int, err error) {
	c, err := dial(ctx, addr)
	if err != nil {
		return nil, 0, err
	}
	defer c.Close()
	for began := time.Now(); ; {
		leaders, n, err = c.partitions(topic)
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

// ends asks for the end offsets (high watermarks) of partitions, and writes them to to[p]. If the
// broker does not know a partition (yet), to[p] stays.
func (c *conn) ends(topic string, partitions []int32, to []int64) error {
	req, resp := kmsg.NewPtrListOffsetsRequest(), kmsg.NewPtrListOffsetsResponse()
	req.ReplicaID = -1
	t := kmsg.NewListOffsetsRequestTopic()
	t.Topic = topic
	for _, p := range partitions {
		rp := kmsg.NewListOffsetsRequestTopicPartition()
		rp.Partition, rp.CurrentLeaderEpoch, rp.Timestamp = p, -1, -1
		t.Partitions = append(t.Partitions, rp)
	}
	req.Topics = append(req.Topics, t)
	if err := c.call(req, resp, listOffsetsVersion); err != nil {
		return err
	}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			switch err := kerr.ErrorForCode(p.ErrorCode); {
			case err == nil:
				to[p.Partition] = p.Offset
			case kerr.IsRetriable(err):
			default:
				return fmt.Errorf("end of %s-%d: %w", topic, p.Partition, err)
			}
		}
	}
	return nil
}

// allPartitions are 0 to n-1.
func allPartitions(n int) []int32 {
	ps := make([]int32, n)
	for i := range ps {
		ps[i] = int32(i)
	}
	return ps
}

// part is a batch for a partition, in a Produce request.
type part struct {
	partition int32
	records   []byte // one batch
}

// sendProduce appends a batch to each of several partitions of a topic, with acks=all, and does not
// wait for the answer. It sends the batches without copying them. The caller may change them once
// it returns.
func (c *conn) sendProduce(topic string, parts []part) error {
	b := c.begin(0, produceVersion)
	b = binary.BigEndian.AppendUint16(b, 0xffff) // no transactional id
	b = binary.BigEndian.AppendUint16(b, 0xffff) // acks=all
	b = binary.BigEndian.AppendUint32(b, 30_000)
	b = binary.BigEndian.AppendUint32(b, 1)
	b = appendString(b, topic)
	b = binary.BigEndian.AppendUint32(b, uint32(len(parts)))
	// The head of each batch lies in b, so b must not be reallocated any more.
	heads := len(b)
	size := 0
	for _, p := range parts {
		b = binary.BigEndian.AppendUint32(b, uint32(p.partition))
		b = binary.BigEndian.AppendUint32(b, uint32(len(p.records)))
		size += len(p.records)
	}
	c.out = b
	binary.BigEndian.PutUint32(b, uint32(len(b)-4+size))
	pieces := make(net.Buffers, 0, 2*len(parts))
	from := 0
	for i, p := range parts {
		to := heads + 8*(i+1)
		pieces = append(pieces, b[from:to], p.records)
		from = to
	}
	_ = c.c.SetDeadline(time.Now().Add(wireTimeout))
	_, err := pieces.WriteTo(c.c)
	return err
}

// receiveProduce reads the answer to a request with a number of batches. If the broker refused any,
// it returns the error of the first.
func (c *conn) receiveProduce(topic string, batches int) error {
	body, _, err := c.receive(nil)
	if err != nil {
		return err
	}
	resp := kmsg.NewPtrProduceResponse()
	resp.Version = produceVersion
	if err := resp.ReadFrom(body); err != nil {
		return err
	}
	done := 0
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				return fmt.Errorf("produce to %s-%d: %w", topic, p.Partition, err)
			}
			done++
		}
	}
	if done != batches {
		return fmt.Errorf("produce to %s: %d results for %d batches", topic, done, batches)
	}
	return nil
}
