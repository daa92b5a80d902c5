package facts

import (
	"context"
	"fmt"

	"klink/protocol/batch"
	"klink/protocol/timeline"

	"golang.org/x/sync/semaphore"
)

const (
	// seekBytes is how much of a log is read at a time in search of a timestamp.
	seekBytes = 1 << 20
	// maxSeekBytes bounds the bytes that one search reads and decompresses, together; the last
	// batch may exceed it.
	maxSeekBytes = 64 << 20
)

// SeekTime implements router.Facts.
//
// A broker finds the first batch, in the order of offsets, that has a timestamp as late as asked
// for. The markers that keep a partition aligned have the time at which klink wrote them. So the
// broker may stop at a marker, too early, but never too late: every record before it is older. The
// search goes on from there, record by record, as a broker searches within a segment. There is no
// index to search in: the broker's own has the markers' times, too.
//
// A result is remembered for soughtFor. If nothing was found, later records may still match, so the
// next search begins where the last one ended.
func (f *Facts) SeekTime(ctx context.Context, topic string, partition int32, line *timeline.Partition, found, timestamp int64) (physical, at int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	key := seekKey{topic, partition, line, found, timestamp}
	last, leave, err := f.seeks.enter(ctx, key, f.cfg.Now)
	if err != nil {
		return 0, 0, fmt.Errorf("could not look up a timestamp in %s-%d at the destination: %w", topic, partition, err)
	}
	defer leave()
	if last != nil && !last.ended {
		return last.at, last.found, nil
	}
	s := timeSeek{line: line, timestamp: timestamp, at: found, left: f.maxSeek, memory: f.seeks.memory}
	if last != nil {
		s.at, s.passed = last.at, true
	}
	from := s.at
	err = s.run(ctx, f, topic, partition)
	if err != nil && ctx.Err() == nil {
		f.leaders.forget(topic) // most likely the leader has changed
		err = s.run(ctx, f, topic, partition)
	}
	switch {
	case err != nil && s.at > from:
		return s.at, -1, nil // everything before was searched; the time may be up
	case err != nil:
		return s.at, s.found, err
	case s.at < 0:
		f.seeks.remember(key, seekResult{at: s.end, ended: true}, f.cfg.Now())
	default:
		f.seeks.remember(key, seekResult{at: s.at, found: s.found}, f.cfg.Now())
	}
	return s.at, s.found, nil
}

// timeSeek is a search for a timestamp in a log. Everything before at is older, or not shown.
type timeSeek struct {
	line      *timeline.Partition
	timestamp int64
	at        int64 // physical; -1 = there is no such record
	found     int64 // timestamp of the record at at; -1 = not known, or the broker's answer is right
	left      int   // bytes that may still be read
	passed    bool  // the broker had stopped too early, and the search has gone on
	end       int64 // of the log, if at is -1
	memory    *semaphore.Weighted
	chain     batch.Chain
}

func (s *timeSeek) run(ctx context.Context, f *Facts, topic string, partition int32) error {
	s.found, s.chain = -1, batch.Chain{}
	l, err := f.logOf(ctx, topic, partition)
	if err != nil {
		return err
	}
	for {
		limit := int32(1)
		if s.passed {
			limit = seekBytes
		}
		records, err := l.read(ctx, s.at, limit)
		if err != nil {
			return fmt.Errorf("could not look up a timestamp in %s-%d at the destination: %w", topic, partition, err)
		}
		before := s.at
		l.left = f.maxLook
		for w := batch.Walk(records); w.Next(); {
			b := w.Batch()
			if b.NextOffset() <= s.at {
				continue
			}
			verdict, err := l.judge(ctx, s.line, &s.chain, b)
			if err != nil {
				return err
			}
			shown := isRecords(s.line, b, verdict)
			switch {
			case shown && !s.passed: // a record: the broker is right
				return nil
			case shown && b.MaxTimestamp() >= s.timestamp && s.within(ctx, b):
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
		s.at, s.end = -1, s.at
		return nil
	}
}

// within searches a batch, and reports whether the search ends in it. The search also ends at a
// batch that is damaged or would take too much memory: no record before it is as late as asked for.
func (s *timeSeek) within(ctx context.Context, b batch.Header) bool {
	base := max(s.at, b.BaseOffset())
	if batch.FromAppendTime(b) {
		s.at, s.found = base, b.MaxTimestamp()
		return true
	}
	memory, err := batch.ScanMemory(b)
	if err == nil {
		err = s.memory.Acquire(ctx, memory)
	}
	if err != nil {
		s.at, s.found = base, -1
		return true
	}
	defer s.memory.Release(memory)
	scan, err := batch.OpenScan(b)
	if err != nil {
		s.at, s.found = base, -1
		return true
	}
	defer scan.Close()
	defer func() { s.left -= int(scan.Inflated()) }()
	for scan.Next() {
		if scan.Offset >= s.at && scan.Timestamp >= s.timestamp {
			s.at, s.found = scan.Offset, scan.Timestamp
			return true
		}
	}
	if scan.Err() != nil {
		s.at, s.found = base, -1
		return true
	}
	return false
}

// isRecords reports whether clients are shown the batch as records. They are shown neither void
// batches nor the batches that klink wrote in the place of what the source does not show.
func isRecords(line *timeline.Partition, b batch.Header, verdict batch.Verdict) bool {
	if line.Behind(b.BaseOffset()) {
		_, _, _, late := batch.ReadStamp(b)
		return !late
	}
	return isShown(line, b, verdict) && !b.Control()
}
