package caslog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"klink/internal/retry"

	"github.com/twmb/franz-go/pkg/kgo"
)

// read applies every committed record of the topic, whoever wrote it, until the log is closed.
func (l *Log) read() {
	var lastComplaint time.Time
	for {
		fetches := l.reader.PollFetches(l.ctx)
		if l.ctx.Err() != nil || fetches.IsClientClosed() {
			return
		}
		fetches.EachError(func(_ string, _ int32, err error) {
			if errors.Is(err, context.Canceled) || time.Since(lastComplaint) < 10*time.Second {
				return
			}
			lastComplaint = time.Now()
			l.mu.Lock()
			position := l.position
			l.mu.Unlock()
			l.cfg.Logger.Warn("cannot read the state topic; links and mirrors stay as they were. If its records are damaged, delete them up to and including the damaged batch: the changes in them are lost",
				"topic", l.cfg.Topic, "offset", position, "error", err)
		})
		if fetches.Err() != nil { // a batch that cannot be read would be fetched again at once
			_ = retry.Sleep(l.ctx, 50*time.Millisecond)
		}
		changed := false
		l.mu.Lock()
		fetches.EachRecord(func(r *kgo.Record) {
			if !r.Attrs.IsControl() {
				if r.Offset == l.watched {
					l.sawIt = true
				}
				if l.apply(string(r.Key), r.Value, r.Offset) {
					changed = true
				}
			}
			l.position = r.Offset + 1
		})
		close(l.moved)
		l.moved = make(chan struct{})
		l.mu.Unlock()
		if changed {
			l.cfg.Changed()
		}
	}
}

// apply applies a record unless a newer one with its key has been applied, and reports whether it
// did. The caller holds l.mu.
func (l *Log) apply(key string, value []byte, offset int64) bool {
	if last, ok := l.offsets[key]; ok && offset <= last {
		return false
	}
	l.offsets[key] = offset
	l.cfg.Apply(key, value, offset)
	return true
}

// ReadToEnd waits until everything that is committed now has been applied.
func (l *Log) ReadToEnd(ctx context.Context) error {
	listed, err := l.admin.ListCommittedOffsets(ctx, l.cfg.Topic)
	if err == nil {
		err = listed.Error()
	}
	if err != nil {
		return fmt.Errorf("could not read the end offset of the state topic %s: %w", l.cfg.Topic, err)
	}
	end, ok := listed.Lookup(l.cfg.Topic, 0)
	if !ok {
		return fmt.Errorf("the state topic %s has no partition 0", l.cfg.Topic)
	}
	for {
		l.mu.Lock()
		position, moved := l.position, l.moved
		l.mu.Unlock()
		if position >= end.Offset {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return fmt.Errorf("could not read the state topic %s to its end (offset %d), only to offset %d: %w", l.cfg.Topic, end.Offset, position, ctx.Err())
		}
	}
}
