package transactions

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// transactionStateTopic is where Kafka's transaction coordinators store transactions.
const transactionStateTopic = "__transaction_state"

const (
	// transactionStateWait bounds one read of the topic; a large one cannot be read before every
	// new mirror.
	transactionStateWait = 20 * time.Second
	// transactionStateIdle is how long klink waits for more records of a partition: its last record
	// may have been compacted away.
	transactionStateIdle = 2 * time.Second
)

// readTransactionState finds the open transactions of brokers that cannot list them (before Kafka
// 3.0). It reads the topic that their transaction coordinators write: a partition is recorded there
// before the producer learns that it was added. If the topic cannot be read, the look is blind, but
// there is no error: these brokers offer no other way.
func (w *Watch) readTransactionState(ctx context.Context, look *transactionLook) error {
	blind := func(why string) error {
		look.blind = fmt.Sprintf("the destination's brokers cannot list transactions (before Kafka 3.0), and %s %s", transactionStateTopic, why)
		return nil
	}
	starts, err := w.admin.ListStartOffsets(ctx, transactionStateTopic)
	if err != nil {
		return blind(fmt.Sprintf("cannot be read: %v", err))
	}
	ends, err := w.admin.ListEndOffsets(ctx, transactionStateTopic)
	if err != nil {
		return blind(fmt.Sprintf("cannot be read: %v", err))
	}
	from, left := map[int32]kgo.Offset{}, map[int32]int64{}
	for p, end := range ends[transactionStateTopic] {
		start := starts[transactionStateTopic][p]
		if err := errors.Join(start.Err, end.Err); err != nil {
			if errors.Is(err, kerr.UnknownTopicOrPartition) {
				return nil // no transaction was ever begun
			}
			return blind(fmt.Sprintf("cannot be read: %v", err))
		}
		if end.Offset > start.Offset {
			from[p], left[p] = kgo.NewOffset().At(start.Offset), end.Offset
		}
	}
	if len(from) == 0 {
		return nil
	}
	opts := append(slices.Clone(w.destination), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{transactionStateTopic: from}))
	client, err := kgo.NewClient(opts...)
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, transactionStateWait)
	defer cancel()
	states := map[string]Transaction{}
	for heard := time.Now(); len(left) > 0 && time.Since(heard) < transactionStateIdle; {
		poll, end := context.WithTimeout(ctx, transactionStateIdle)
		fetches := client.PollFetches(poll)
		end()
		if ctx.Err() != nil {
			return blind(fmt.Sprintf("is too large to be read within %s", transactionStateWait))
		}
		if err := fetches.Err0(); err != nil && !errors.Is(err, context.DeadlineExceeded) {
			return blind(fmt.Sprintf("cannot be read: %v", err))
		}
		for _, e := range fetches.Errors() {
			if !errors.Is(e.Err, context.DeadlineExceeded) {
				return blind(fmt.Sprintf("cannot be read: %v", e.Err))
			}
		}
		fetches.EachRecord(func(r *kgo.Record) {
			heard = time.Now()
			noteTransaction(states, r)
			if r.Offset+1 >= left[r.Partition] {
				delete(left, r.Partition)
			}
		})
	}
	for _, t := range states {
		look.open = append(look.open, t)
	}
	return nil
}

// noteTransaction applies a record of the topic to states, the open transactions by id.
func noteTransaction(states map[string]Transaction, r *kgo.Record) {
	var key kmsg.TxnMetadataKey
	if err := key.ReadFrom(r.Key); err != nil || key.Version != 0 {
		return
	}
	delete(states, key.TransactionalID)
	var value kmsg.TxnMetadataValue
	if r.Value == nil || value.ReadFrom(r.Value) != nil || !slices.Contains(openStates, value.State.String()) {
		return
	}
	t := Transaction{ID: key.TransactionalID, producer: value.ProducerID, state: value.State.String(), partitions: map[string][]int32{}}
	for _, topic := range value.Topics {
		t.partitions[topic.Topic] = append(t.partitions[topic.Topic], topic.Partitions...)
	}
	states[key.TransactionalID] = t
}
