package replicator

import (
	"context"
	"errors"
	"fmt"
	"time"

	"klink/admin/model"
	"klink/internal/kafkaclient"
	"klink/internal/retry"
	"klink/protocol/batch"
	"klink/replicator/core"

	"github.com/twmb/franz-go/pkg/kgo"
)

// When void batches are found in a compacted mirror klink makes the cleaner rest, but the cleaner
// may have been faster: klink was away for longer than min.compaction.lag.ms, or the timestamps are
// old. klink then finds out. A key of a void batch is safe if the log still has a record of it that
// counts, because the cleaner would have removed that record. For the other keys, klink asks the
// source for a record below the mirror's end that is not in the mirror. If there is one, it is
// lost, and the mirror fails with a named error.

const (
	examineInterval = 2 * time.Second
	// examineBytes is how many bytes one fetch from a source asks for.
	examineBytes = 1 << 20
)

// voidAt names a partition in which void batches were found.
type voidAt struct {
	m         *mirror
	partition int32
}

// examineVoid examines, one after the other, the partitions whose void batches are not known to
// have done no harm, until ctx ends.
func (r *Replicator) examineVoid(ctx context.Context) {
	type attempt struct {
		wait retry.Backoff
		at   time.Time
	}
	attempts := map[voidAt]*attempt{}
	for retry.Sleep(ctx, examineInterval) == nil {
		due := map[voidAt]model.VoidBatches{}
		st := r.cfg.Control.State()
		for _, m := range r.mirrorsNow() {
			am := st.Mirrors[m.topic]
			if am == nil || keyOf(am) != m.mirrorKey || !am.CompactionRests() || m.lost.Load() || m.failed() != nil || am.State == model.MirrorPendingStopped {
				continue
			}
			for _, v := range am.Void {
				if !v.Safe {
					due[voidAt{m, v.Partition}] = v
				}
			}
		}
		for at := range attempts {
			if _, ok := due[at]; !ok {
				delete(attempts, at)
			}
		}
		for at, v := range due {
			a := attempts[at]
			if a == nil {
				a = &attempt{wait: retry.Backoff{Low: 5 * time.Second, High: 5 * time.Minute}}
				attempts[at] = a
			}
			if time.Now().Before(a.at) {
				continue
			}
			err := r.examine(ctx, at, v)
			a.at = time.Now().Add(a.wait.Next())
			if err != nil && ctx.Err() == nil {
				r.log.Warn("could not check yet whether the destination's cleaner has removed records, will retry",
					"topic", at.m.topic, "partition", at.partition, "error", err)
			}
		}
	}
}

// errNotNow: the partition, or its source, cannot be asked at the moment.
var errNotNow = errors.New("the partition is not being mirrored right now")

// examine finds out whether the cleaner has removed records of one partition. It reports to the
// control plane that it has not, or fails the mirror.
func (r *Replicator) examine(ctx context.Context, at voidAt, v model.VoidBatches) error {
	w := at.m.worker(at.partition)
	if w == nil {
		return errNotNow
	}
	w.mu.Lock()
	running, sure := w.core.State == core.StateRunning && w.core.SureKnown, w.core.Sure
	w.mu.Unlock()
	if !running {
		return errNotNow
	}
	log := w.log()
	start, _, err := log.ends(ctx)
	if err != nil {
		return err
	}
	scan := newVoidScan(log, start, sure.Physical, w.tl.Floor(), r.voidKeys)
	var lost *core.Failure
	if err := scan.eachPart(ctx, func(keys map[string]*voidKey) error {
		for key, k := range keys {
			if k.counts >= 0 {
				delete(keys, key)
			}
		}
		if len(keys) == 0 || lost != nil {
			return nil
		}
		s, _ := at.m.currentSource()
		if s == nil {
			return errNotNow
		}
		// Below the mirror's first record, retention may have deleted what the source still has.
		from := w.tl.Floor()
		if am := r.cfg.Control.State().Mirrors[at.m.topic]; am != nil && am.CleanupPolicy != "compact" {
			from = max(from, scan.first)
		}
		if scan.first < 0 && start > 0 {
			from = sure.Logical // nothing counts in the log: all may have been deleted
		}
		offset, key, n, err := s.lastOf(ctx, at.m.sourceTopic, at.partition, from, sure.Logical, keys)
		if err != nil {
			return err
		}
		if n > 0 {
			lost = core.Failf(model.ErrRecordsCompacted, "%s: the destination's cleaner has removed the records of %d keys, among them source offset %d (key %.40q), "+
				"in favour of void batches, from physical offset %d on: delete the topic and re-create the mirror", log.name(), n, offset, key, v.From)
		}
		return nil
	}); err != nil {
		return err
	}
	if lost != nil {
		at.m.fail(lost)
		return nil
	}
	v.Safe = true
	ctx, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	return r.cfg.Control.Report(ctx, model.Event{Kind: model.EventMirrorVoid, Link: at.m.link, Topic: at.m.topic, Void: v})
}

// lastOf reads a partition of the source in [from, to). It returns of how many of the keys the last
// record there has a value, and the lowest offset of these records with its key.
func (s *source) lastOf(ctx context.Context, topic string, partition int32, from, to int64, keys map[string]*voidKey) (offset int64, key string, n int, err error) {
	last := map[string]int64{}
	if err := s.readRecords(ctx, topic, partition, from, to, func(at int64, r batch.Record) {
		if at < from || at >= to || keys[string(r.Key)] == nil {
			return
		}
		if delete(last, string(r.Key)); r.HasValue() {
			last[string(r.Key)] = at
		}
	}); err != nil {
		return 0, "", 0, err
	}
	for k, at := range last {
		if n++; n == 1 || at < offset {
			offset, key = at, k
		}
	}
	return offset, key, n, nil
}

// readRecords calls see for the committed records with a key that a partition of the source has in
// [from, to), and for some around them.
func (s *source) readRecords(ctx context.Context, topic string, partition int32, from, to int64, see func(at int64, r batch.Record)) error {
	meta := &destination{r: s.r, clients: []*kgo.Client{s.client}, topics: map[string]*destTopic{}}
	t, err := meta.fetchTopic(ctx, topic)
	if err != nil {
		return err
	}
	if int(partition) >= len(t.leaders) || t.leaders[partition] < 0 {
		return fmt.Errorf("%s-%d has no leader at the source", topic, partition)
	}
	of := kafkaclient.OnePartition{Topic: topic, TopicID: t.id, Partition: partition, Epoch: kafkaclient.AnyEpoch}
	bounds := kafkaclient.FetchBounds{Isolation: kafkaclient.ReadCommitted, Wait: time.Second, MaxBytes: examineBytes, PartitionMaxBytes: examineBytes}
	var aborted batch.Aborted
	for from < to {
		p, err := of.Fetch(ctx, s.client.Broker(int(t.leaders[partition])), from, bounds)
		if err != nil {
			if p != nil {
				err = fmt.Errorf("fetch of %s-%d at offset %d at the source: %w", topic, partition, from, err)
			}
			return err
		}
		list := make([]batch.AbortedTransaction, 0, len(p.AbortedTransactions))
		for _, a := range p.AbortedTransactions {
			list = append(list, batch.AbortedTransaction{ProducerID: a.ProducerID, FirstOffset: a.FirstOffset})
		}
		aborted.Reset(list)
		next, err := readCommittedBatches(p.RecordBatches, &aborted, see)
		if err != nil {
			return err
		}
		if next <= from {
			return nil // the source has no more
		}
		from = next
	}
	return nil
}

// readCommittedBatches calls see for the committed records with a key in a fetch response. It
// returns the offset to go on at; 0 = the response was empty.
func readCommittedBatches(records []byte, aborted *batch.Aborted, see func(at int64, r batch.Record)) (next int64, err error) {
	w := batch.Walk(records)
	for w.Next() {
		b := w.Batch()
		next = b.NextOffset()
		drop, err := aborted.Drop(b)
		if err != nil {
			return 0, err
		}
		if drop {
			continue
		}
		if err := batch.EachRecord(b, func(r batch.Record) error {
			if r.HasKey {
				see(b.BaseOffset()+int64(r.OffsetDelta), r)
			}
			return nil
		}); err != nil {
			return 0, err
		}
	}
	return next, w.Err()
}
