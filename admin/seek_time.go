package admin

import (
	"context"
	"fmt"

	"klink/protocol/batch"
	"klink/protocol/timeline"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	// seekBytes is how much of a log is read at a time in search of a timestamp.
	seekBytes = 1 << 20
	// maxSeekBytes is how much of a log is read in search of one timestamp.
	maxSeekBytes = 64 << 20
)

// SeekTime implements router.Facts.
//
// A broker finds the first batch, in the order of offsets, that has a timestamp as late as asked for. Markers that keep a
// partition aligned have the time of their writing, so that the broker may stop at one too early, never too late: every
// record before it is older. The search goes on from there, record by record, as the broker does it within a segment. There is
// no index to search in: the broker's own has the markers' times too.
func (f *Facts) SeekTime(ctx context.Context, topic string, partition int32, line *timeline.Partition, found, timestamp int64) (physical, at int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	s := timeSeek{line: line, timestamp: timestamp, at: found, left: f.maxSeek}
	err = s.run(ctx, f, topic, partition)
	if err != nil && ctx.Err() == nil {
		f.leaders.forget(topic) // another leader, most likely
		err = s.run(ctx, f, topic, partition)
	}
	if err != nil && s.at > found {
		return s.at, -1, nil // what came before has been seen; time may be up
	}
	return s.at, s.found, err
}

// timeSeek is a search for a timestamp in a log. Everything before at is older, or not shown.
type timeSeek struct {
	line      *timeline.Partition
	timestamp int64
	at        int64 // physical; -1 = there is no such record
	found     int64 // timestamp of the record at at; -1 = it is not known to be one, or is as the broker said
	left      int   // bytes that may still be read
	passed    bool  // what the broker had found is not what was asked for
}

func (s *timeSeek) run(ctx context.Context, f *Facts, topic string, partition int32) error {
	s.found = -1
	l, err := f.logOf(ctx, topic, partition)
	if err != nil {
		return err
	}
	for {
		limit := int32(1)
		if s.passed {
			limit = seekBytes
		}
		records, err := l.readMany(ctx, s.at, limit)
		if err != nil {
			return fmt.Errorf("looking for a timestamp in %s-%d at the destination: %w", topic, partition, err)
		}
		before := s.at
		for w := batch.Walk(records); w.Next(); {
			b := w.Batch()
			if b.NextOffset() <= s.at {
				continue
			}
			shown := !s.line.IsHidden(b.BaseOffset()) && !isMarker(b)
			switch {
			case shown && !s.passed: // a record: the broker is right
				return nil
			case shown && b.MaxTimestamp() >= s.timestamp && s.within(b, topic, partition):
				return nil
			case s.left < len(b) && s.passed:
				return nil
			}
			s.at, s.left, s.passed = b.NextOffset(), s.left-len(b), true
		}
		if s.at > before {
			continue
		}
		end, err := l.offset(ctx, -1)
		if err != nil {
			return err
		}
		if s.at < end {
			return fmt.Errorf("offset %d of %s-%d at the destination cannot be read", s.at, topic, partition)
		}
		s.at = -1
		return nil
	}
}

// within looks into a batch.
func (s *timeSeek) within(b batch.Header, topic string, partition int32) bool {
	if batch.FromAppendTime(b) {
		s.at, s.found = max(s.at, b.BaseOffset()), b.MaxTimestamp()
		return true
	}
	p := kmsg.NewFetchResponseTopicPartition()
	p.Partition, p.RecordBatches = partition, b
	records, _ := kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{
		DisableCRCValidation: true, Offset: s.at, Topic: topic, Partition: partition,
	}, &p, kgo.DefaultDecompressor(), nil)
	if records.Err != nil {
		s.found = -1 // what cannot be read here is for the client to meet
		return true
	}
	for _, r := range records.Records {
		if ts := r.Timestamp.UnixMilli(); ts >= s.timestamp {
			s.at, s.found = r.Offset, ts
			return true
		}
	}
	return false
}

// isMarker is true for what klink has written in the place of what the source does not show.
func isMarker(b batch.Header) bool {
	_, flags, _, stamped := batch.ReadStamp(b)
	return stamped && (b.Control() || flags&batch.FlagFiller != 0)
}
