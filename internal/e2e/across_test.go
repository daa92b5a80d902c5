package e2e

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"klink/internal/kafkatest"

	"github.com/twmb/franz-go/pkg/kgo"
)

// across is a member of a group that reads a topic all the time, whatever becomes of it.
type across struct {
	cl     *kgo.Client
	cancel context.CancelFunc
	done   chan struct{}

	mu      sync.Mutex
	offsets []int64
}

func consumeAcross(t *testing.T, bootstrap, group, topic string, more ...kgo.Opt) *across {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	c := &across{cancel: cancel, done: make(chan struct{})}
	c.cl = connect(t, bootstrap, append([]kgo.Opt{
		kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
	}, more...)...)
	go func() {
		defer close(c.done)
		for ctx.Err() == nil {
			c.cl.PollFetches(ctx).EachRecord(func(r *kgo.Record) {
				c.mu.Lock()
				c.offsets = append(c.offsets, r.Offset)
				c.mu.Unlock()
			})
		}
	}()
	t.Cleanup(func() { cancel(); <-c.done })
	return c
}

// await waits for n records and returns the offsets of all; more than n are an error.
func (c *across) await(t *testing.T, n int) []int64 {
	t.Helper()
	var offsets []int64
	kafkatest.WaitFor(t, time.Minute, "the group to read the records", func() (bool, string) {
		c.mu.Lock()
		defer c.mu.Unlock()
		offsets = slices.Clone(c.offsets)
		return len(offsets) >= n, ""
	})
	if len(offsets) != n {
		t.Fatalf("the group has read %d records, want %d", len(offsets), n)
	}
	return offsets
}

// leave commits what was read, and ends.
func (c *across) leave(t *testing.T) {
	t.Helper()
	c.cancel()
	<-c.done
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := c.cl.CommitUncommittedOffsets(ctx); err != nil {
		t.Fatal(err)
	}
	c.cl.Close()
}
