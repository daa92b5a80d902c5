package caslog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"klink/internal/kafkaclient"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Log is a compacted topic of one partition in which every change is a compare-and-set,
// whichever instance makes it.
//
// All writers share one transactional id. To write, an instance does the following:
//
//  1. It takes the id with InitProducerId. The coordinator first commits or aborts the open
//     transaction of the previous writer, then bumps the producer epoch, which fences every other
//     instance.
//  2. It reads the topic to its end.
//  3. It evaluates its change as a function of what it has read, and commits the records.
//
// After step 1 no other instance can write without fencing this one. If this instance is fenced,
// its next transaction fails, and it starts again at step 1.
//
// Invariants:
//  1. A change is committed only if it was evaluated on everything that was committed before it.
//  2. Of two records with one key, the one with the higher offset counts, in whatever order they
//     are seen. A writer applies its own records at once; they have no effect when the reader meets
//     them again.
//  3. A commit counts once it has been read from the topic. If the outcome of a commit is unknown,
//     klink looks it up there before it does anything else.
//
// Changes that wait at the same time are evaluated one after the other and committed in one
// transaction.
type Log struct {
	cfg    Config
	ctx    context.Context
	cancel context.CancelFunc
	done   sync.WaitGroup

	admin  *kadm.Client
	reader *kgo.Client
	writer writer // owned by the goroutine that runs lead
	// Intercept wraps the commit of a transaction. Only tests set it, to lose or delay an outcome.
	Intercept func(commit func() error) error

	mu       sync.Mutex
	position int64            // next offset to be read
	offsets  map[string]int64 // of the newest record applied, by key
	watched  int64            // an offset whose commit is in doubt, -1 = none
	sawIt    bool             // the record at watched was read
	moved    chan struct{}    // closed and replaced when position moves

	queueMu sync.Mutex
	queue   []*casUpdate
	leading bool
	trouble error // of the last attempt; nil if it succeeded
}

// Config opens a Log. Topic, TransactionalID, Apply, Changed and Logger must be set.
type Config struct {
	Options         []kgo.Opt // client options of the cluster
	Topic           string
	TransactionalID string
	// Apply is called with each record and its offset, with the log's lock held. For one key the
	// offsets only grow. A nil value deletes the key.
	Apply func(key string, value []byte, offset int64)
	// Changed is called without the lock after one or more records have been applied.
	Changed func()
	Logger  *slog.Logger
}

// casUpdate is a change that waits to be committed.
type casUpdate struct {
	ctx  context.Context
	eval Eval
	// fence: take the transactional id again first, even if this instance has it.
	fence bool
	done  chan error
}

// Hold keeps the log from applying records until the caller calls release. Apply runs under the
// same lock, so whoever holds it sees what Apply built, at one moment.
func (l *Log) Hold() (release func()) {
	l.mu.Lock()
	return l.mu.Unlock
}

// OffsetOf returns the offset of the newest record of a key that was applied, -1 if there is none.
// The caller holds the log, or is Apply or a change.
func (l *Log) OffsetOf(key string) int64 {
	if offset, ok := l.offsets[key]; ok {
		return offset
	}
	return -1
}

// ReadTo returns the offset of the next record to be read. The caller holds the log, or is a
// change.
func (l *Log) ReadTo() int64 { return l.position }

// Changed tells the one who opened the log once more that something may have changed.
func (l *Log) Changed() { l.cfg.Changed() }

// Eval evaluates a change. It sees what has been applied, overlaid with pending: the values that
// earlier changes in the same transaction write, nil = deleted. It returns the records to write, in
// order. It is called with the log's lock held, once per attempt, and must depend on nothing but
// the state.
type Eval func(pending map[string][]byte) ([]Record, error)

// maxBatchBytes bounds a batch of records after decompression. klink's own batches have at
// most 1 MB.
const maxBatchBytes = 2 << 20

// Record is a record of the log.
type Record struct {
	Key   string
	Value []byte // nil = delete
}

// maxCASBatch is how many waiting changes go into one transaction.
const maxCASBatch = 1000

// casAttemptTimeout bounds one attempt to commit, including the time to take the transactional id.
const casAttemptTimeout = 30 * time.Second

// casMetadata lets the topic's clients look for a new leader soon after they have lost the old one;
// franz-go's default is 5 s.
var casMetadata = kgo.MetadataMinAge(100 * time.Millisecond)

// ErrClosed is the error of a change that a closed log no longer carries out.
var ErrClosed = errors.New("klink is shutting down")

// Open starts to read the topic, which must exist.
func Open(cfg Config) (*Log, error) {
	l := &Log{cfg: cfg, offsets: map[string]int64{}, watched: -1, moved: make(chan struct{})}
	var err error
	l.reader, err = kgo.NewClient(append(append([]kgo.Opt(nil), cfg.Options...),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{cfg.Topic: {0: kgo.NewOffset().AtStart()}}),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		casMetadata,
		kgo.FetchMaxBytes(4<<20), kgo.FetchMaxPartitionBytes(1<<20), kafkaclient.MaxInflated(maxBatchBytes),
		// A transaction ends in a control record. Without those the position would never reach the
		// end of the log.
		kgo.KeepControlRecords(),
	)...)
	if err != nil {
		return nil, fmt.Errorf("could not create a client for the state topic: %w", err)
	}
	l.admin = kadm.NewClient(l.reader)
	l.ctx, l.cancel = context.WithCancel(context.Background())
	l.done.Go(l.read)
	return l, nil
}

// Close stops reading and writing; waiting changes fail.
func (l *Log) Close() {
	l.queueMu.Lock()
	l.cancel()
	l.queueMu.Unlock()
	l.done.Wait()
	l.writer.drop()
	l.reader.Close()
}

// Update evaluates a change and commits it. If eval returns an error, update returns it as it is
// and writes nothing. If ctx ends first, the change may still be made.
//
// A change that writes nothing, or fails, costs no transaction: eval judged it by what this
// instance had read at that moment. Every other change is linearizable.
func (l *Log) Update(ctx context.Context, eval Eval) error {
	return l.submit(&casUpdate{ctx: ctx, eval: eval, done: make(chan error, 1)})
}

// Fence takes the transactional id, whichever instance has it, and reads to the end of the log.
func (l *Log) Fence(ctx context.Context) error {
	nothing := func(map[string][]byte) ([]Record, error) { return nil, nil }
	return l.submit(&casUpdate{ctx: ctx, eval: nothing, fence: true, done: make(chan error, 1)})
}

func (l *Log) submit(u *casUpdate) error {
	ctx := u.ctx
	l.queueMu.Lock()
	if l.ctx.Err() != nil {
		l.queueMu.Unlock()
		return ErrClosed
	}
	l.queue = append(l.queue, u)
	if !l.leading {
		l.leading = true
		l.done.Go(l.lead)
	}
	l.queueMu.Unlock()
	select {
	case err := <-u.done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("could not write the change to the state topic %s in time: %w%s", l.cfg.Topic, ctx.Err(), l.lastTrouble())
	}
}

// lead commits waiting changes until there are none.
func (l *Log) lead() {
	for {
		l.queueMu.Lock()
		n := min(len(l.queue), maxCASBatch)
		batch := l.queue[:n:n]
		l.queue = l.queue[n:]
		if n == 0 {
			l.leading = false
			l.queueMu.Unlock()
			return
		}
		l.queueMu.Unlock()
		l.commitBatch(batch)
	}
}

// commitBatch commits a batch. Unless an error is permanent, it retries as long as a caller waits
// for one of the changes.
func (l *Log) commitBatch(batch []*casUpdate) {
	inDoubt := false
	for attempt := 0; ; attempt++ {
		if attempt > 0 {
			l.pause(attempt)
		}
		if batch = l.stillWanted(batch); len(batch) == 0 {
			return
		}
		var err error
		batch, err = l.attempt(batch, inDoubt)
		l.setTrouble(err)
		if err == nil {
			return
		}
		inDoubt = errors.Is(err, errInDoubt)
		if permanent(err) {
			if len(batch) == 1 {
				batch[0].done <- err
				return
			}
			// One change is to blame. Commit them one by one, so that the others succeed.
			for i := range batch {
				l.commitBatch(batch[i : i+1 : i+1])
			}
			return
		}
		l.cfg.Logger.Debug("could not change the state topic, will retry", "attempt", attempt+1, "error", err)
	}
}

// stillWanted fails the changes that no caller waits for any more, and returns the others.
func (l *Log) stillWanted(batch []*casUpdate) []*casUpdate {
	var left []*casUpdate
	for _, u := range batch {
		switch {
		case l.ctx.Err() != nil:
			u.done <- ErrClosed
		case u.ctx.Err() != nil:
			u.done <- u.ctx.Err()
		default:
			left = append(left, u)
		}
	}
	return left
}

// pause waits for a random time, so that two instances do not fence each other forever.
func (l *Log) pause(attempt int) {
	t := time.NewTimer(rand.N(min(20*time.Millisecond<<min(attempt, 6), time.Second)))
	defer t.Stop()
	select {
	case <-t.C:
	case <-l.ctx.Done():
	}
}

// attempt evaluates the batch and commits it once. If that fails, it returns the changes that are
// still to be made. inDoubt: the outcome of the last attempt is unknown.
func (l *Log) attempt(batch []*casUpdate, inDoubt bool) ([]*casUpdate, error) {
	ctx, cancel := l.whileWanted(batch)
	defer cancel()
	if slices.ContainsFunc(batch, func(u *casUpdate) bool { return u.fence }) {
		l.writer.drop()
	}
	if err := l.acquire(ctx); err != nil {
		if inDoubt {
			err = fmt.Errorf("%w: %w", errInDoubt, err)
		}
		return batch, err
	}
	if inDoubt && l.doubtResolved() {
		for _, u := range batch {
			u.done <- nil
		}
		return nil, nil
	}
	records, writers := l.evaluate(batch)
	if len(writers) == 0 {
		return nil, nil
	}
	if err := l.commit(ctx, records); err != nil {
		return writers, err
	}
	for _, u := range writers {
		u.done <- nil
	}
	return nil, nil
}

// whileWanted returns the context of an attempt. It ends after casAttemptTimeout, or when no caller
// waits for the batch any more: a broker that does not answer must not hold up later changes.
func (l *Log) whileWanted(batch []*casUpdate) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(l.ctx, casAttemptTimeout)
	var waiting atomic.Int64
	waiting.Store(int64(len(batch)))
	stops := make([]func() bool, len(batch))
	for i, u := range batch {
		stops[i] = context.AfterFunc(u.ctx, func() {
			if waiting.Add(-1) == 0 {
				cancel()
			}
		})
	}
	return ctx, func() {
		for _, stop := range stops {
			stop()
		}
		cancel()
	}
}

// evaluate evaluates the batch in order. It completes the changes that fail or write nothing, and
// returns the others with their records.
func (l *Log) evaluate(batch []*casUpdate) (records []Record, writers []*casUpdate) {
	l.mu.Lock()
	defer l.mu.Unlock()
	pending := map[string][]byte{}
	for _, u := range batch {
		rs, err := u.eval(pending)
		if err != nil || len(rs) == 0 {
			u.done <- err
			continue
		}
		for _, r := range rs {
			pending[r.Key] = r.Value
		}
		records = append(records, rs...)
		writers = append(writers, u)
	}
	return records, writers
}

// permanent reports whether a retry cannot help.
func permanent(err error) bool {
	for _, e := range []error{
		kerr.MessageTooLarge, kerr.RecordListTooLarge, kerr.InvalidRecord, kerr.TopicAuthorizationFailed,
		kerr.TransactionalIDAuthorizationFailed, kerr.ClusterAuthorizationFailed, kerr.PolicyViolation,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func (l *Log) setTrouble(err error) {
	l.queueMu.Lock()
	defer l.queueMu.Unlock()
	l.trouble = err
}

// lastTrouble returns why the last attempt failed, as the end of an error message; "" if it did
// not.
func (l *Log) lastTrouble() string {
	l.queueMu.Lock()
	defer l.queueMu.Unlock()
	if l.trouble == nil {
		return ""
	}
	return fmt.Sprintf(" (last error: %v)", l.trouble)
}
