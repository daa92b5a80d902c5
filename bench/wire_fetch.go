package bench

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

// fetcher reads one partition from its start to its end, again and again, with a bound on the size
// of every answer.
type fetcher struct {
	*wire
	frame      []byte
	resp       *kmsg.FetchResponse
	topic      string
	partition  int32
	start, end int64 // of the partition, which has every offset in [start, end)
	next       int64
	at         int // the position of the fetch offset in frame
	batches    int // seen so far
}

// newFetcher returns a fetcher whose answers have at most size bytes of batches. start and end are
// those of the partition; reading begins at from.
func newFetcher(ctx context.Context, addr string, config *tls.Config, topic string, partition int32, size int, start, end, from int64) (*fetcher, error) {
	w, err := dialWire(ctx, addr, config)
	if err != nil {
		return nil, err
	}
	f := &fetcher{wire: w, topic: topic, partition: partition, start: start, end: end, next: from}
	f.resp = kmsg.NewPtrFetchResponse()
	f.resp.SetVersion(fetchVersion)
	if f.frame, f.at, err = fetchFrame(topic, partition, size); err != nil {
		w.close()
	}
	return f, err
}

// fetchFrame returns a fetch request, and the position of the fetch offset in it.
func fetchFrame(topic string, partition int32, size int) (frame []byte, at int, err error) {
	const mark = 0x1122334455667788
	req := kmsg.NewPtrFetchRequest()
	req.SetVersion(fetchVersion)
	req.ReplicaID, req.MaxWaitMillis, req.MinBytes, req.MaxBytes = -1, 500, 1, 1<<30
	req.SessionEpoch = -1 // no session: the whole request each time
	t, p := kmsg.NewFetchRequestTopic(), kmsg.NewFetchRequestTopicPartition()
	t.Topic, p.Partition, p.FetchOffset, p.PartitionMaxBytes = topic, partition, mark, int32(size)
	t.Partitions = append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	frame = requestFrame(req)
	for at = frameHead; at+8 <= len(frame); at++ {
		if binary.BigEndian.Uint64(frame[at:]) == mark {
			return frame, at, nil
		}
	}
	return nil, 0, errors.New("a fetch request without its offset")
}

// once fetches the next batches. The answer must be without error and for this partition. Its
// batches must begin at the offset that was asked for and follow each other without a gap, and the
// CRC of every 64th batch must be right.
func (f *fetcher) once() (int64, error) {
	n, err := f.fetch()
	if err != nil {
		return 0, fmt.Errorf("fetch %s-%d at offset %d: %w", f.topic, f.partition, f.next, err)
	}
	return n, nil
}

func (f *fetcher) fetch() (int64, error) {
	if f.next >= f.end {
		f.next = f.start
	}
	binary.BigEndian.PutUint64(f.frame[f.at:], uint64(f.next))
	body, err := f.ask(f.frame)
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
func (f *fetcher) walk(records []byte) (n int64, err error) {
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
