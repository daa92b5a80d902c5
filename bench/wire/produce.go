package wire

import (
	"encoding/binary"
	"fmt"
	"net"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// pipelinedVersion is the last version of Produce without tags. Every broker from 2.4 to 4.x knows
// it.
const pipelinedVersion = 8

// Part is a batch for a partition, in a Produce request.
type Part struct {
	Partition int32
	Records   []byte // one batch
}

// SendProduce appends a batch to each of several partitions of a topic, with acks=all, and does not
// wait for the answer. It sends the batches without copying them. The caller may change them once
// it returns.
func (c *Conn) SendProduce(topic string, parts []Part) error {
	b := append(c.out[:0], 0, 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(kmsg.Produce))
	b = binary.BigEndian.AppendUint16(b, pipelinedVersion)
	b = binary.BigEndian.AppendUint32(b, 0) // the correlation id
	b = appendString(b, clientID)
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
		b = binary.BigEndian.AppendUint32(b, uint32(p.Partition))
		b = binary.BigEndian.AppendUint32(b, uint32(len(p.Records)))
		size += len(p.Records)
	}
	c.out = b
	binary.BigEndian.PutUint32(b, uint32(len(b)-4+size))
	pieces := make(net.Buffers, 0, 2*len(parts))
	from := 0
	for i, p := range parts {
		to := heads + 8*(i+1)
		pieces = append(pieces, b[from:to], p.Records)
		from = to
	}
	if err := c.number(b); err != nil {
		return err
	}
	_, err := pieces.WriteTo(c.conn)
	return err
}

func appendString(b []byte, s string) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(s)))
	return append(b, s...)
}

// ReceiveProduce reads the answer to a [Conn.SendProduce] of a number of batches. If the broker
// refused any, it returns the error of the first.
func (c *Conn) ReceiveProduce(topic string, batches int) error {
	body, in, err := c.Receive(c.in)
	if c.in = in; err != nil {
		return err
	}
	resp := kmsg.NewPtrProduceResponse()
	resp.Version = pipelinedVersion
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
