package transactions

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"klink/internal/retry"
	"klink/protocol"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// A transaction coordinator remembers the partitions of a transaction by topic name. When the
// transaction ends it writes a marker into each of them, even if nothing was written there, and
// even into a topic of the same name that was created since. Such a marker in a mirror moves its
// physical end: alignment would be lost for good. So no mirror, and no partition of one, begins
// before the transactions that include it are over.
//
// The order makes this complete. klink first records the mirror; from then on the router lets no
// client add its partitions to a transaction. Then klink looks for open transactions. Then it
// creates or adopts the topic.

// Transaction is a transaction whose markers are not all written yet.
type Transaction struct {
	ID         string // "" = no coordinator knows it: its markers never came (a hanging transaction)
	producer   int64
	state      string // Kafka's word: Ongoing, PrepareCommit, ...
	partitions map[string][]int32
}

// transactionLook is the result of one look at all coordinators.
type transactionLook struct {
	began time.Time
	open  []Transaction
	// blind says why transactions may have been missed, "" if none was.
	blind string
}

// openStates are the states of a transaction that has markers to write. Brokers ignore states that
// they do not know.
var openStates = []string{"Ongoing", "PrepareCommit", "PrepareAbort", "PrepareEpochFence"}

// describedTransactions is how many transactions are described by one request.
const describedTransactions = 1000

// DefaultWait is how long the creation of a mirror waits for transactions to end.
const DefaultWait = 10 * time.Second

// afterTransactions is the part of a request's time that is reserved for the steps after the wait.
const afterTransactions = 10 * time.Second

// againAfter is the pause between two looks.
const againAfter = 200 * time.Millisecond

// StillOpen refuses a mirror for now: the transactions may end.
type StillOpen struct{ refusal *protocol.Error }

// Error names the transactions.
func (e StillOpen) Error() string { return e.refusal.Error() }

// Unwrap returns the refusal.
func (e StillOpen) Unwrap() error { return e.refusal }

// Watch looks for open transactions at the destination.
type Watch struct {
	admin       *kadm.Client
	destination []kgo.Opt // of another client, which reads what admin cannot
	log         *slog.Logger

	looking chan struct{} // held by the one look that is under way; guards last
	last    *transactionLook
}

// NewWatch makes a watch of the cluster that admin and destination lead to.
func NewWatch(admin *kadm.Client, destination []kgo.Opt, log *slog.Logger) *Watch {
	return &Watch{admin: admin, destination: destination, log: log, looking: make(chan struct{}, 1)}
}

// lookForTransactions looks at the transactions of all coordinators. It returns the result of
// another call's look if that began after this call did.
func (w *Watch) lookForTransactions(ctx context.Context) (*transactionLook, error) {
	asked := time.Now()
	select {
	case w.looking <- struct{}{}:
		defer func() { <-w.looking }()
	case <-ctx.Done():
		return nil, fmt.Errorf("could not look for open transactions at the destination: %w", ctx.Err())
	}
	if w.last != nil && w.last.began.After(asked) {
		return w.last, nil
	}
	look := &transactionLook{began: time.Now()}
	listed, err := w.canListTransactions(ctx)
	switch {
	case err != nil:
	case listed:
		err = w.listTransactions(ctx, look)
	default:
		err = w.readTransactionState(ctx, look)
	}
	if err != nil {
		return nil, fmt.Errorf("could not look for open transactions at the destination: %w", err)
	}
	w.last = look
	return look, nil
}

// canListTransactions reports whether all brokers know ListTransactions and DescribeTransactions
// (Kafka 3.0).
func (w *Watch) canListTransactions(ctx context.Context) (bool, error) {
	all, err := w.admin.ApiVersions(ctx)
	if err != nil {
		return false, err
	}
	for _, broker := range all {
		if broker.Err != nil {
			return false, broker.Err
		}
		for _, key := range []kmsg.Key{kmsg.ListTransactions, kmsg.DescribeTransactions} {
			if _, ok := broker.KeyMaxVersion(int16(key)); !ok {
				return false, nil
			}
		}
	}
	return true, nil
}

func (w *Watch) listTransactions(ctx context.Context, look *transactionLook) error {
	// A broker lists only the transactions that klink may describe, and does not say that it leaves
	// some out. Whether klink may describe an id that nobody uses shows whether it sees all of
	// them.
	probe, err := w.admin.DescribeTransactions(ctx, "klink.sees.transactions")
	if err == nil {
		err = probe["klink.sees.transactions"].Err
	}
	switch {
	case errors.Is(err, kerr.TransactionalIDAuthorizationFailed):
		look.blind = "klink's principal may not see all transactions: grant it DESCRIBE on every transactional id"
	case err != nil && !errors.Is(err, kerr.TransactionalIDNotFound):
		return err
	}
	listed, err := w.admin.ListTransactions(ctx, nil, openStates)
	if err != nil {
		return err
	}
	for ids := range slices.Chunk(listed.TransactionalIDs(), describedTransactions) {
		described, err := w.admin.DescribeTransactions(ctx, ids...)
		if err != nil {
			return err
		}
		for _, id := range ids {
			d, ok := described[id]
			switch {
			case ok && errors.Is(d.Err, kerr.TransactionalIDNotFound):
			case !ok || d.Err != nil:
				return fmt.Errorf("transactional id '%s': %w", id, errors.Join(d.Err, errNoAnswer(ok)))
			case slices.Contains(openStates, d.State):
				t := Transaction{ID: id, producer: d.ProducerID, state: d.State, partitions: map[string][]int32{}}
				for _, topic := range d.Topics.Sorted() {
					t.partitions[topic.Topic] = topic.Partitions
				}
				look.open = append(look.open, t)
			}
		}
	}
	return nil
}

func errNoAnswer(answered bool) error {
	if answered {
		return nil
	}
	return errors.New("its coordinator has not answered")
}

// In returns the open transactions that include a partition p of a topic with from <= p
// < to. exists says that the topic exists, so that it may hold the beginning of a transaction that
// no coordinator remembers.
func (w *Watch) In(ctx context.Context, topic string, from, to int32, exists bool) (found []Transaction, blind string, err error) {
	look, err := w.lookForTransactions(ctx)
	if err != nil {
		return nil, "", err
	}
	in := func(p int32) bool { return p >= from && p < to }
	known := map[int64]bool{}
	for _, t := range look.open {
		known[t.producer] = true
		if slices.ContainsFunc(t.partitions[topic], in) {
			found = append(found, t)
		}
	}
	if !exists {
		return found, look.blind, nil
	}
	partitions := kadm.TopicsSet{}
	for p := from; p < to; p++ {
		partitions.Add(topic, p)
	}
	described, err := w.describeProducers(ctx, partitions)
	if err != nil {
		return nil, "", err
	}
	hanging := map[int64]*Transaction{}
	for _, p := range described[topic].Partitions {
		if p.Err != nil {
			return nil, "", fmt.Errorf("could not describe the producers of partition %d of topic '%s': %w", p.Partition, topic, p.Err)
		}
		for _, producer := range p.ActiveProducers {
			if producer.CurrentTxnStartOffset < 0 || known[producer.ProducerID] {
				continue
			}
			if hanging[producer.ProducerID] == nil {
				hanging[producer.ProducerID] = &Transaction{producer: producer.ProducerID, state: "hanging", partitions: map[string][]int32{}}
			}
			t := hanging[producer.ProducerID]
			t.partitions[topic] = append(t.partitions[topic], p.Partition)
		}
	}
	for _, t := range hanging {
		slices.Sort(t.partitions[topic])
		found = append(found, *t)
	}
	return found, look.blind, nil
}

// describeProducers asks the leaders for their producers. It returns nil if a broker does not know
// the request (before Kafka 2.8).
func (w *Watch) describeProducers(ctx context.Context, partitions kadm.TopicsSet) (kadm.DescribedProducersTopics, error) {
	all, err := w.admin.ApiVersions(ctx)
	if err != nil {
		return nil, err
	}
	for _, broker := range all {
		if broker.Err != nil {
			return nil, broker.Err
		}
		if _, ok := broker.KeyMaxVersion(int16(kmsg.DescribeProducers)); !ok {
			return nil, nil
		}
	}
	return w.admin.DescribeProducers(ctx, partitions)
}

// Await returns when no transaction includes a partition p of a topic with from <= p
// < to. It waits up to wait; after that it returns StillOpen.
func (w *Watch) Await(ctx context.Context, topic string, from, to int32, exists bool, wait time.Duration) error {
	until := time.Now().Add(wait)
	if deadline, ok := ctx.Deadline(); ok && until.After(deadline.Add(-afterTransactions)) {
		until = deadline.Add(-afterTransactions)
	}
	for {
		open, blind, err := w.In(ctx, topic, from, to, exists)
		if err != nil {
			return err
		}
		if len(open) == 0 {
			if blind != "" {
				w.log.Warn("klink may have missed open transactions in the topic of a new mirror; their markers would end its alignment",
					"topic", topic, "reason", blind)
			}
			return nil
		}
		if !time.Now().Before(until) {
			return refuseOpen(topic, open)
		}
		if err := retry.Sleep(ctx, againAfter); err != nil {
			return refuseOpen(topic, open)
		}
	}
}

// namedTransactions is how many transactions a refusal names.
const namedTransactions = 5

func refuseOpen(topic string, open []Transaction) StillOpen {
	var names []string
	for _, t := range open[:min(len(open), namedTransactions)] {
		partitions := strings.Trim(strings.ReplaceAll(fmt.Sprint(t.partitions[topic]), " ", ", "), "[]")
		if t.ID == "" {
			names = append(names, fmt.Sprintf("a hanging transaction of producer id %d (partitions %s; end it with `kafka-transactions.sh abort`)", t.producer, partitions))
			continue
		}
		names = append(names, fmt.Sprintf("transactional id '%.100s' (%s, partitions %s)", t.ID, t.state, partitions))
	}
	if more := len(open) - namedTransactions; more > 0 {
		names = append(names, fmt.Sprintf("%d more", more))
	}
	return StillOpen{protocol.Errorf(kerr.InvalidRequest,
		"topic '%s' has open transactions at the destination, which would write markers into the mirror when they end: %s; "+
			"let their producers commit or abort, or wait for transaction.timeout.ms, and try again", topic, strings.Join(names, "; "))}
}
