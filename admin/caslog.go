package admin

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

// casLog is a compacted topic of one partition in which every change is a compare-and-set, whoever
// makes it.
//
// All writers share one transactional id. To write, an instance takes the id (InitProducerId, which
// bumps its epoch and so fences every other instance, after the transaction that one had open has
// been committed or aborted), reads the topic to its end, and evaluates its change as a function of
// what it has read. From then on nobody else can have written unless this instance is fenced, which
// fails its next transaction; it then takes the id again, reads, and evaluates the change once
// more.
//
// Invariants:
//  1. A change is committed only if it was evaluated on all that was committed before it.
//  2. Of two records of one key the one with the higher offset counts, in whatever order they are
//     seen: own records are applied at once, and again, without effect, when the reader meets them.
//  3. A commit counts when it has been read from the topic. One whose outcome is unknown is looked
//     up there before anything else is done.
//
// Changes that wait at the same time are evaluated one after the other and committed in one
// transaction.
type casLog struct {
	cfg    casLogConfig
	ctx    context.Context
	cancel context.CancelFunc
	done   sync.WaitGroup

	admin  *kadm.Client
	reader *kgo.Client
	writer casWriter // only the leader touches it
	// intercept stands between a transaction and its commit, in tests.
	intercept func(commit func() error) error

	mu       sync.Mutex
	position int64            // next offset to be read
	offsets  map[string]int64 // of the newest record applied, by key
	watched  int64            // an offset whose commit is in doubt, -1 = none
	sawIt    bool             // the record at watched was read
	moved    chan struct{}    // closed and replaced when position moves

	queueMu sync.Mutex
	queue   []*casUpdate
	leading bool
	trouble error // of the last attempt
}

type casLogConfig struct {
	Options         []kgo.Opt // of the cluster
	Topic           string
	TransactionalID string
	// Apply takes a record and its offset. Of a key the newest record comes last. A nil value
	// deletes the key. The log's lock is held.
	Apply func(key string, value []byte, offset int64)
	// Changed is called after a number of records have been applied, without the lock.
	Changed func()
	Logger  *slog.Logger
}

// casUpdate is a change that waits to be committed.
type casUpdate struct {
	ctx  context.Context
	eval casEval
	// fence: the transactional id is taken anew before, even if it was ours.
	fence bool
	done  chan error
}

// casEval evaluates a change on what has been applied, overlaid with pending: the values that
// changes before it in the same transaction write, nil = deleted. It returns the records to write,
// in their order. It is called with the log's lock held, once per attempt, and must be a function
// of the state alone.
type casEval func(pending map[string][]byte) ([]casRecord, error)

type casRecord struct {
	key   string
	value []byte // nil = delete
}

// maxCASBatch is how many waiting changes go into one transaction.
const maxCASBatch = 1000

// casAttemptTimeout is how long one attempt to commit may take, the taking of the transactional id
// included.
const casAttemptTimeout = 30 * time.Second

// casMetadata lets the clients of the topic look for its leader again soon after they have lost it;
// franz-go's default is 5 s.
var casMetadata = kgo.MetadataMinAge(100 * time.Millisecond)

var errClosed = errors.New("klink is shutting down")

// openCASLog starts to read the topic, which must exist.
func openCASLog(cfg casLogConfig) (*casLog, error) {
	l := &casLog{cfg: cfg, offsets: map[string]int64{}, watched: -1, moved: make(chan struct{})}
	var err error
	l.reader, err = kgo.NewClient(append(append([]kgo.Opt(nil), cfg.Options...),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{cfg.Topic: {0: kgo.NewOffset().AtStart()}}),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		casMetadata,
		kgo.FetchMaxBytes(4<<20), kgo.FetchMaxPartitionBytes(1<<20), kafkaclient.MaxInflated(stateBatchBytes),
		// A transaction ends in a control record. Only if those are seen does the position reach
		// the end of the log.
		kgo.KeepControlRecords(),
	)...)
	if err != nil {
		return nil, fmt.Errorf("client of the state topic: %w", err)
	}
	l.admin = kadm.NewClient(l.reader)
	l.ctx, l.cancel = context.WithCancel(context.Background())
	l.done.Go(l.read)
	return l, nil
}

// close stops reading and writing; waiting changes fail.
func (l *casLog) close() {
	l.queueMu.Lock()
	l.cancel()
	l.queueMu.Unlock()
	l.done.Wait()
	l.writer.drop()
	l.reader.Close()
}

// update evaluates a change and commits it. An error of eval is returned as it is, and nothing is
// written. When ctx ends first, the change may still be made.
//
// A change that turns out to be none, or an error, was judged by what this instance had read at
// that moment; it costs no write. Everything else is linear.
func (l *casLog) update(ctx context.Context, eval casEval) error {
	return l.submit(&casUpdate{ctx: ctx, eval: eval, done: make(chan error, 1)})
}

// fence takes the transactional id, whoever has it, and reads to the end of the log.
func (l *casLog) fence(ctx context.Context) error {
	nothing := func(map[string][]byte) ([]casRecord, error) { return nil, nil }
	return l.submit(&casUpdate{ctx: ctx, eval: nothing, fence: true, done: make(chan error, 1)})
}

func (l *casLog) submit(u *casUpdate) error {
	ctx := u.ctx
	l.queueMu.Lock()
	if l.ctx.Err() != nil {
		l.queueMu.Unlock()
		return errClosed
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
		return fmt.Errorf("the state topic %s did not take the change in time: %w%s", l.cfg.Topic, ctx.Err(), l.lastTrouble())
	}
}

// lead commits what waits until nothing does.
func (l *casLog) lead() {
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

// commitBatch commits a batch, in as many attempts as it takes while somebody waits for it.
func (l *casLog) commitBatch(batch []*casUpdate) {
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
			// One of them is to blame; the others shall not suffer.
			for i := range batch {
				l.commitBatch(batch[i : i+1 : i+1])
			}
			return
		}
		l.cfg.Logger.Debug("a change of the state topic is tried again", "attempt", attempt+1, "error", err)
	}
}

// stillWanted ends the changes that nobody waits for any more.
func (l *casLog) stillWanted(batch []*casUpdate) []*casUpdate {
	var left []*casUpdate
	for _, u := range batch {
		switch {
		case l.ctx.Err() != nil:
			u.done <- errClosed
		case u.ctx.Err() != nil:
			u.done <- u.ctx.Err()
		default:
			left = append(left, u)
		}
	}
	return left
}

// pause waits with jitter, so that two instances that fence each other do not do so forever.
func (l *casLog) pause(attempt int) {
	t := time.NewTimer(rand.N(min(20*time.Millisecond<<min(attempt, 6), time.Second)))
	defer t.Stop()
	select {
	case <-t.C:
	case <-l.ctx.Done():
	}
}

// attempt evaluates the batch and commits it once; beside an error it returns what is still to be
// done. inDoubt: the outcome of the last attempt is unknown.
func (l *casLog) attempt(batch []*casUpdate, inDoubt bool) ([]*casUpdate, error) {
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

// whileWanted is the context of an attempt: it ends after casAttemptTimeout, or when nobody waits
// for the batch any more, so that an attempt at a broker that does not answer holds up nobody who
// comes after.
func (l *casLog) whileWanted(batch []*casUpdate) (context.Context, context.CancelFunc) {
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

// evaluate evaluates the batch in its order. Changes that are none, and those that fail, are done;
// the others are returned with their records.
func (l *casLog) evaluate(batch []*casUpdate) (records []casRecord, writers []*casUpdate) {
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
			pending[r.key] = r.value
		}
		records = append(records, rs...)
		writers = append(writers, u)
	}
	return records, writers
}

// permanent says that trying again cannot help.
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

func (l *casLog) setTrouble(err error) {
	l.queueMu.Lock()
	defer l.queueMu.Unlock()
	l.trouble = err
}

// lastTrouble is why the last attempt failed, for an error message.
func (l *casLog) lastTrouble() string {
	l.queueMu.Lock()
	defer l.queueMu.Unlock()
	if l.trouble == nil {
		return ""
	}
	return fmt.Sprintf(" (last error: %v)", l.trouble)
}
