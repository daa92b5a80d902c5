package caslog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// writer holds the producer of a casLog while this instance has the transactional id. After any
// error klink throws the producer and its epoch away: only a new InitProducerId settles the outcome
// of the transaction.
type writer struct{ producer *kgo.Client }

// casTransactionTimeout is how long the broker keeps a transaction open after its writer has gone.
// Readers of the state topic wait at most that long; another writer ends the transaction at once.
const casTransactionTimeout = 15 * time.Second

// errInDoubt: klink asked for a commit and got no answer, so its outcome is unknown.
var errInDoubt = errors.New("the outcome of a commit is still unknown")

func (w *writer) drop() {
	if w.producer != nil {
		w.producer.Close()
		w.producer = nil
	}
}

// acquire takes the transactional id, unless this instance has it, and reads to the end of the log.
// On success this instance has applied everything that others have committed, and they cannot
// commit more without fencing it.
func (l *Log) acquire(ctx context.Context) error {
	if l.writer.producer != nil {
		return nil
	}
	producer, err := kgo.NewClient(append(append([]kgo.Opt(nil), l.cfg.Options...),
		kgo.TransactionalID(l.cfg.TransactionalID),
		kgo.TransactionTimeout(casTransactionTimeout),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerLinger(0),
		// If a writer was killed in the middle of a commit, the transactional id stays busy until
		// the coordinator has ended that transaction. So retry soon.
		kgo.RetryBackoffFn(func(fails int) time.Duration { return min(20*time.Millisecond<<min(fails, 5), 500*time.Millisecond) }),
		casMetadata,
	)...)
	if err != nil {
		return fmt.Errorf("could not create a producer for the state topic: %w", err)
	}
	if _, _, err = producer.ProducerID(ctx); err != nil {
		producer.Close()
		return fmt.Errorf("could not initialize the transactional id %s for the state topic: %w", l.cfg.TransactionalID, err)
	}
	if err = l.ReadToEnd(ctx); err != nil {
		producer.Close()
		return err
	}
	l.writer.producer = producer
	return nil
}

// commit writes the records in one transaction and applies them.
func (l *Log) commit(ctx context.Context, records []Record) error {
	producer := l.writer.producer
	if err := producer.BeginTransaction(); err != nil {
		l.writer.drop()
		return fmt.Errorf("could not begin a transaction on the state topic: %w", err)
	}
	out := make([]*kgo.Record, len(records))
	for i, r := range records {
		out[i] = &kgo.Record{Topic: l.cfg.Topic, Key: []byte(r.Key), Value: r.Value}
	}
	if err := producer.ProduceSync(ctx, out...).FirstErr(); err != nil {
		l.abort(producer)
		l.writer.drop()
		return fmt.Errorf("could not write to the state topic: %w", err)
	}
	l.watch(out[0].Offset)
	end := func() error { return producer.EndTransaction(ctx, kgo.TryCommit) }
	if l.Intercept != nil {
		commit := end
		end = func() error { return l.Intercept(commit) }
	}
	if err := end(); err != nil {
		l.writer.drop()
		return fmt.Errorf("%w: commit to the state topic: %w", errInDoubt, err)
	}
	if err := l.confirm(ctx); err != nil {
		l.writer.drop()
		return err
	}
	l.mu.Lock()
	for i, r := range records {
		l.apply(r.Key, r.Value, out[i].Offset)
	}
	l.mu.Unlock()
	l.cfg.Changed()
	return nil
}

// abort ends a transaction that will not be committed, so that readers need not wait for its
// time-out. It is a courtesy: the next InitProducerId does the same.
func (l *Log) abort(producer *kgo.Client) {
	ctx, cancel := context.WithTimeout(l.ctx, 3*time.Second)
	defer cancel()
	if err := producer.EndTransaction(ctx, kgo.TryAbort); err != nil {
		l.cfg.Logger.Debug("could not abort a transaction on the state topic; the next writer aborts it", "error", err)
	}
}

// watch makes the reader note when it reads the record at offset, in case the answer to its commit
// is lost.
func (l *Log) watch(offset int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.watched, l.sawIt = offset, false
}

// confirm waits until the reader has read the watched record, or the end of its transaction. A
// successful EndTransaction is not enough. franz-go 1.22.2 aborts the transaction, and reports
// success, if the client is still about to store the metadata of a topic that it writes to for the
// first time: EndTransaction then finds no partition that was written to.
func (l *Log) confirm(ctx context.Context) error {
	for {
		l.mu.Lock()
		saw, position, offset, moved := l.sawIt, l.position, l.watched, l.moved
		l.mu.Unlock()
		switch {
		case saw:
			return nil
		case position > offset:
			return errAborted
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return fmt.Errorf("%w: the commit at offset %d of the state topic was not read back: %w", errInDoubt, offset, ctx.Err())
		}
	}
}

// errAborted: the client reported success, but the transaction was aborted.
var errAborted = errors.New("a transaction on the state topic was aborted")

// doubtResolved reports whether the watched record has been committed. Call it after acquire.
func (l *Log) doubtResolved() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sawIt
}
