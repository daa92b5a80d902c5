package facts

import (
	"context"
	"sync"
	"time"

	"klink/protocol/timeline"

	"golang.org/x/sync/semaphore"
)

const (
	// maxSeeks is how many searches for timestamps may run at a time, for all clients. Each holds
	// about two megabytes of what it has read.
	maxSeeks = 8
	// seekMemory bounds the bytes that all searches together take to decompress. A search waits for
	// room.
	seekMemory = 48 << 20
	// soughtFor is how long the result of a search is remembered.
	soughtFor = 2 * time.Second
	// maxSought bounds the results that are remembered.
	maxSought = 10_000
)

// seekKey is what SeekTime is asked for.
type seekKey struct {
	topic            string
	partition        int32
	line             *timeline.Partition
	found, timestamp int64
}

// seekResult is the result of a search: an offset and its timestamp or, if ended, that nothing was
// found before at, where the log ended.
type seekResult struct {
	at, found int64
	ended     bool
	until     time.Time
}

// seeks bounds the searches for timestamps.
type seeks struct {
	room   *semaphore.Weighted // of maxSeeks
	memory *semaphore.Weighted // of seekMemory

	mu      sync.Mutex
	running map[seekKey]chan struct{}
	sought  map[seekKey]seekResult
}

func newSeeks() *seeks {
	return &seeks{
		room: semaphore.NewWeighted(maxSeeks), memory: semaphore.NewWeighted(seekMemory),
		running: map[seekKey]chan struct{}{}, sought: map[seekKey]seekResult{},
	}
}

// enter waits until no other search for the same key is under way, and until there is room for one.
// last is the result of a recent search; nil = there is none. leave ends the search.
func (s *seeks) enter(ctx context.Context, key seekKey, now func() time.Time) (last *seekResult, leave func(), err error) {
	for {
		s.mu.Lock()
		if r, ok := s.sought[key]; ok && now().Before(r.until) {
			last = &r
			if !r.ended {
				s.mu.Unlock()
				return last, func() {}, nil
			}
		}
		other := s.running[key]
		if other == nil {
			break
		}
		s.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		}
	}
	done := make(chan struct{})
	s.running[key] = done
	s.mu.Unlock()
	end := func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.running, key)
		close(done)
	}
	if err := s.room.Acquire(ctx, 1); err != nil {
		end()
		return nil, nil, err
	}
	return last, func() { s.room.Release(1); end() }, nil
}

// remember stores the result of a search.
func (s *seeks) remember(key seekKey, r seekResult, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.sought) >= maxSought {
		clear(s.sought)
	}
	r.until = now.Add(soughtFor)
	s.sought[key] = r
}
