package bench

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Where the fields of a v2 record batch begin.
const (
	atBatchLength     = 8
	atBatchCRC        = 17
	atBatchAttributes = 21
	atLastOffsetDelta = 23
	batchHead         = 61
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// recordBatch makes a batch of exactly size bytes that nothing can compress, in records of about a
// kilobyte. Its base offset is 0.
func recordBatch(size int, seed uint64) []byte {
	const perRecord = 1 << 10
	b := make([]byte, batchHead, size)
	src := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16), byte(seed >> 24)})
	count := 0
	for len(b) < size {
		room := size - len(b)
		if room > perRecord+minRecord {
			room = perRecord
			if len(b)+room+impossibleRecord == size {
				room--
			}
		}
		b = appendRecord(b, room, count, src)
		count++
	}
	binary.BigEndian.PutUint32(b[atBatchLength:], uint32(len(b)-atBatchLength-4))
	binary.BigEndian.PutUint32(b[12:], 0xffffffff)                                 // leader epoch
	b[16] = 2                                                                      // magic
	binary.BigEndian.PutUint32(b[atLastOffsetDelta:], uint32(count-1))             // last offset delta
	now := uint64(time.Now().UnixMilli())                                          // or retention deletes it
	binary.BigEndian.PutUint64(b[27:], now)                                        // base timestamp
	binary.BigEndian.PutUint64(b[35:], now)                                        // max timestamp
	binary.BigEndian.PutUint64(b[43:], 0xffffffffffffffff)                         // producer id
	binary.BigEndian.PutUint16(b[51:], 0xffff)                                     // producer epoch
	binary.BigEndian.PutUint32(b[53:], 0xffffffff)                                 // base sequence
	binary.BigEndian.PutUint32(b[57:], uint32(count))                              // records
	binary.BigEndian.PutUint32(b[atBatchCRC:], crc32.Checksum(b[21:], castagnoli)) // from the attributes on
	return b
}

// recordsOf returns the number of records, and so of offsets, in a batch.
func recordsOf(batch []byte) int64 {
	return int64(binary.BigEndian.Uint32(batch[atLastOffsetDelta:])) + 1
}

const (
	// minRecord is the smallest size of a record here.
	minRecord = 16
	// impossibleRecord is a size that no record has: from the next size on the record's length
	// takes one byte more.
	impossibleRecord = 65
)

// appendRecord appends a record of exactly size bytes, its length included: no key, no headers.
func appendRecord(b []byte, size, delta int, src *rand.ChaCha8) []byte {
	// Both lengths in a record are varints, whose own size depends on what they count. So some
	// sizes are impossible with a timestamp delta of one byte; they are possible with one of two
	// bytes.
	for _, timestampDelta := range [][]byte{{0}, {0x80, 0x01}} {
		head := append([]byte{0}, timestampDelta...) // the attributes
		head = binary.AppendVarint(head, int64(delta))
		head = binary.AppendVarint(head, -1) // null key
		for value := size; value >= 0; value-- {
			body := len(head) + len(binary.AppendVarint(nil, int64(value))) + value + 1 // 1: no headers
			if len(binary.AppendVarint(nil, int64(body)))+body != size {
				continue
			}
			b = binary.AppendVarint(b, int64(body))
			b = append(b, head...)
			b = binary.AppendVarint(b, int64(value))
			at := len(b)
			b = append(b, make([]byte, value)...)
			_, _ = src.Read(b[at:])
			return append(b, 0)
		}
	}
	panic(fmt.Sprintf("bench: no record of %d bytes", size))
}

// produceVersion is the version of the produce requests: flexible, with topic names.
const produceVersion = 9

// producer appends the same batch to one partition again and again, acks=1.
type producer struct {
	*wire
	frame     []byte
	resp      *kmsg.ProduceResponse
	topic     string
	partition int32
	batch     int64 // bytes
	records   int64
	next      int64 // the broker has given out the offsets below it
}

func newProducer(ctx context.Context, addr string, config *tls.Config, topic string, partition int32, batch []byte) (*producer, error) {
	w, err := dialWire(ctx, addr, config)
	if err != nil {
		return nil, err
	}
	p := &producer{
		wire: w, topic: topic, partition: partition, batch: int64(len(batch)), frame: produceFrame(topic, partition, batch), next: -1,
		records: recordsOf(batch),
	}
	p.resp = kmsg.NewPtrProduceResponse()
	p.resp.SetVersion(produceVersion)
	return p, nil
}

func produceFrame(topic string, partition int32, batch []byte) []byte {
	req := kmsg.NewPtrProduceRequest()
	req.SetVersion(produceVersion)
	req.Acks, req.TimeoutMillis = 1, int32(wireTimeout.Milliseconds())
	t, p := kmsg.NewProduceRequestTopic(), kmsg.NewProduceRequestTopicPartition()
	t.Topic, p.Partition, p.Records = topic, partition, batch
	t.Partitions = append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	return requestFrame(req)
}

// once appends the batch. The answer must be without error, for this partition, and with an offset
// that the broker has not given out before.
func (p *producer) once() (int64, error) {
	body, err := p.ask(p.frame)
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
