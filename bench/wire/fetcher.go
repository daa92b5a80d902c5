package wire

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// fetchVersion is the version of the fetch requests: flexible, with topic names.
const fetchVersion = 12

// checkEvery is the number of batches for each CRC that is checked. The header of every batch is
// checked.
const checkEvery = 64

// Fetcher reads one partition from its start to its end, again and again, with a bound on the size
// of every answer.
type Fetcher struct {
	*Conn
	frame      []byte
	resp       *kmsg.FetchResponse
	topic      string
	partition  int32
	start, end int64 // of the partition, which has every offset in [start, end)
	next       int64
	at         int // where the fetch offset is in frame
	batches    int // seen so far
}

// NewFetcher returns a fetcher whose answers have at most size bytes of batches. start and end are
// those of the partition; reading begins at from.
func NewFetcher(ctx context.Context, addr string, config *tls.Config, topic string, partition int32, size int, start, end, from int64) (*Fetcher, error) {
	c, err := Dial(ctx, addr, config)
	if err != nil {
		return nil, err
	}
	f := &Fetcher{Conn: c, topic: topic, partition: partition, start: start, end: end, next: from}
	f.resp = kmsg.NewPtrFetchResponse()
	f.resp.SetVersion(fetchVersion)
	if f.frame, f.at, err = fetchFrame(topic, partition, size); err != nil {
		c.Close()
	}
	return f, err
}

// fetchFrame returns a fetch request, and where the fetch offset is in it.
func fetchFrame(topic string, partition int32, size int) (frame []byte, at int, err error) {
	const mark = 0x1122334455667788
	frame = FetchFrame(topic, []int32{partition}, mark, size)
	for at = frameHead; at+8 <= len(frame); at++ {
		if binary.BigEndian.Uint64(frame[at:]) == mark {
			return frame, at, nil
		}
	}
	return nil, 0, errors.New("a fetch request without its offset")
}

// FetchFrame returns the frame of a fetch of partitions from the same offset, with at most size
// bytes of batches of each.
func FetchFrame(topic string, partitions []int32, offset int64, size int) []byte {
	req := kmsg.NewPtrFetchRequest()
	req.SetVersion(fetchVersion)
	req.ReplicaID, req.MaxWaitMillis, req.MinBytes, req.MaxBytes = -1, 500, 1, 1<<30
	req.SessionEpoch = -1 // no session: the whole request each time
	t := kmsg.NewFetchRequestTopic()
	t.Topic = topic
	for _, partition := range partitions {
		p := kmsg.NewFetchRequestTopicPartition()
		p.Partition, p.FetchOffset, p.PartitionMaxBytes = partition, offset, int32(size)
		t.Partitions = append(t.Partitions, p)
	}
	req.Topics = append(req.Topics, t)
	return Frame(req)
}

// Once fetches the next batches. The answer must be without error and for this partition. Its
// batches must begin at the offset that was asked for and follow each other without a gap, and the
// CRC of every 64th batch must be right.
func (f *Fetcher) Once() (int64, error) {
	n, err := f.fetch()
	if err != nil {
		return 0, fmt.Errorf("fetch %s-%d at offset %d: %w", f.topic, f.partition, f.next, err)
	}
	return n, nil
}

func (f *Fetcher) fetch() (int64, error) {
	if f.next >= f.end {
		f.next = f.start
	}
	binary.BigEndian.PutUint64(f.frame[f.at:], uint64(f.next))
	body, err := f.Ask(f.frame)
	if err == nil {
		body, err = skipTags(body)
	}
	if err == nil {
		err = f.resp.ReadFrom(body)
	}
	if err != nil {
		return 0, err
	}
	if err := kerr.ErrorForCode(f.resp.ErrorCode); err != nil {
		return 0, err
	}
	if len(f.resp.Topics) != 1 || len(f.resp.Topics[0].Partitions) != 1 || f.resp.Topics[0].Topic != f.topic || f.resp.Topics[0].Partitions[0].Partition != f.partition {
		return 0, errors.New("the response is for another partition")
	}
	got := f.resp.Topics[0].Partitions[0]
	if err := kerr.ErrorForCode(got.ErrorCode); err != nil {
		return 0, err
	}
	if got.HighWatermark < f.end {
		return 0, fmt.Errorf("the high watermark is %d, and the partition ends at %d", got.HighWatermark, f.end)
	}
	return f.walk(got.RecordBatches)
}

// walk checks the batches of an answer; the last one may be cut short.
func (f *Fetcher) walk(records []byte) (n int64, err error) {
	for b := records; len(b) >= batchHead; {
		size := atBatchLength + 4 + int(int32(binary.BigEndian.Uint32(b[atBatchLength:])))
		if size < batchHead {
			return 0, fmt.Errorf("a batch of %d bytes", size)
		}
		if size > len(b) {
			break
		}
		// The first batch may begin below the offset that was asked for.
		base, last := int64(binary.BigEndian.Uint64(b)), int64(int32(binary.BigEndian.Uint32(b[atLastOffsetDelta:])))
		if base > f.next || base < f.next && n > 0 || base+last < f.next {
			return 0, fmt.Errorf("a batch of offsets %d to %d where %d is next", base, base+last, f.next)
		}
		if f.batches%checkEvery == 0 {
			if crc := binary.BigEndian.Uint32(b[atBatchCRC:]); crc != crc32.Checksum(b[atBatchAttributes:size], castagnoli) {
				return 0, fmt.Errorf("the batch at offset %d is damaged: its CRC is wrong", base)
			}
		}
		f.batches++
		f.next = base + last + 1
		n += int64(size)
		b = b[size:]
	}
	if n == 0 {
		return 0, errors.New("no batch in the response")
	}
	return n, nil
}
