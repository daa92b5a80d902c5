package replicator

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"klink/admin/model"
	"klink/internal/retry"
	"klink/protocol/batch"
	"klink/protocol/timeline"
	"klink/replicator/group"

	"github.com/twmb/franz-go/pkg/kerr"
	"golang.org/x/sync/errgroup"
)

// When a compacted mirror with void batches is stopped, klink repairs it. For each key in the void
// batches it appends a copy of the last record that counts, behind the mirror's end, or a tombstone
// if no record of the key counts. Then the cleaner may go on: what it keeps of a key is what the
// source had. The repair comes after the last append of the mirror and before the topic takes
// writes. Otherwise an older record could follow a client's record of the same key.
//
// The copies have no stamp: they belong to the topic, like everything that clients write from then
// on. A repair that is broken off is done again, by this instance or by another one. What the first
// attempt has appended is then void, and has the same keys.

const (
	// repairBytes is the size of a batch of a repair, uncompressed, unless one record is larger.
	repairBytes = 256 << 10
	// repairAttempts is how often a partition is tried. After that the mirror stops without a
	// repair, and is never compacted.
	repairAttempts = 8
	// repairsAtOnce is how many partitions are repaired at a time.
	repairsAtOnce = 4
)

// repair is the repair of one mirror.
type repair struct {
	id     string // of the mirror
	term   uint64
	cancel context.CancelFunc
	ended  atomic.Bool

	// The result, once it has ended.
	broken   bool    // it was broken off: there is no result
	physical []int64 // where the partitions end
	why      string  // why it was not done, "" = it was done
	missing  int     // keys without a record that counts, perhaps as the cleaner was faster
}

// repaired reports whether the log of a mirror that has ended is ready for the topic's clients. If
// a repair is needed first, repaired starts it. It then corrects the ends in ev: what is void at
// the end of the log belongs to the mirror.
func (r *Replicator) repaired(am *model.Mirror, term uint64, tls []*timeline.Partition, ev *model.Event) bool {
	if !am.Created || len(tls) == 0 || am.CleanupPolicy == "" || appendOnly(am.CleanupPolicy) {
		return true
	}
	p := r.repairs[am.Topic]
	if p == nil || p.id != am.ID || p.term != term {
		if p != nil {
			p.cancel()
		}
		ctx, cancel := context.WithCancel(r.owner.appends())
		p = &repair{id: am.ID, term: term, cancel: cancel, physical: endsOf(am, ev, len(tls))}
		r.repairs[am.Topic] = p
		r.spawn(func(context.Context) {
			defer cancel()
			p.run(ctx, r, am, tls)
			p.broken = ctx.Err() != nil
			p.ended.Store(true)
			r.wake()
		})
	}
	if !p.ended.Load() {
		return false
	}
	if p.broken {
		delete(r.repairs, am.Topic) // the next round begins another one, if it may
		return false
	}
	ev.PhysicalEnds, ev.Unrepaired = p.physical, p.why
	if p.missing > 0 {
		ev.Message = fmt.Sprintf("%d keys of void batches have no record in the mirror, and the destination's cleaner may have removed their records before klink noticed: "+
			"if the source has them, write them to the topic again", p.missing)
	}
	return true
}

// endsOf returns the physical ends of a mirror's partitions, whichever instance has ended them; -1
// = unknown.
func endsOf(am *model.Mirror, ev *model.Event, partitions int) []int64 {
	ends := make([]int64, partitions)
	for p := range ends {
		if ends[p] = -1; p < len(am.EndedAt) {
			ends[p] = am.EndedAt[p]
		}
	}
	for _, e := range ev.Ended {
		if int(e.Partition) < partitions {
			ends[e.Partition] = e.Physical
		}
	}
	return ends
}

// forgetRepairs drops the repairs of mirrors that are stopped, gone or another instance's.
func (r *Replicator) forgetRepairs(st *model.State) {
	for topic, p := range r.repairs {
		am := st.Mirrors[topic]
		if am != nil && am.ID == p.id && am.State == model.MirrorPendingStopped && r.owner.term(group.TopicSlot(topic)) == p.term {
			continue
		}
		p.cancel()
		if p.ended.Load() {
			delete(r.repairs, topic)
		}
	}
}

// repairing returns the slots of repairs that have not ended, and so may still append.
func (r *Replicator) repairing() (busy group.SlotSet) {
	for topic, p := range r.repairs {
		if !p.ended.Load() {
			busy |= 1 << group.TopicSlot(topic)
		}
	}
	return busy
}

func (p *repair) run(ctx context.Context, r *Replicator, am *model.Mirror, tls []*timeline.Partition) {
	var mu sync.Mutex
	var unrepaired []error
	var all errgroup.Group
	all.SetLimit(repairsAtOnce)
	for i, tl := range tls {
		noted, unsafe := am.VoidElsewhere, am.VoidElsewhere
		for _, v := range am.Void {
			if v.Partition == int32(i) {
				noted, unsafe = true, !v.Safe
			}
		}
		if i >= len(p.physical) || p.physical[i] < 0 {
			if noted {
				unrepaired = append(unrepaired, fmt.Errorf("the end of partition %d is unknown", i))
			}
			continue
		}
		all.Go(func() error {
			d := r.dest
			log := newMirrorLog(d, d.clients[len(d.clients)-1], am.Topic, am.TopicID, int32(i))
			end, tombstones, err := p.partition(ctx, r, log, p.physical[i], tl.Floor(), noted)
			mu.Lock()
			defer mu.Unlock()
			p.physical[i] = max(p.physical[i], end)
			if unsafe {
				p.missing += tombstones
			}
			if err != nil {
				unrepaired = append(unrepaired, err)
			}
			return nil
		})
	}
	_ = all.Wait()
	if len(unrepaired) > 0 {
		p.why = unrepaired[0].Error()
		if n := len(unrepaired) - 1; n > 0 {
			p.why += fmt.Sprintf(", and %d more", n)
		}
		if ctx.Err() == nil {
			r.log.Error("could not re-append the records that void batches of a mirror may replace; compaction of the topic stays paused",
				"topic", am.Topic, "partitions", len(unrepaired), "error", p.why)
		}
	}
}

// partition repairs one partition, in up to repairAttempts attempts. end is where the log ended
// before.
func (p *repair) partition(ctx context.Context, r *Replicator, log *mirrorLog, phys, floor int64, noted bool) (end int64, tombstones int, err error) {
	wait := retry.Backoff{Low: 100 * time.Millisecond, High: 5 * time.Second}
	end = phys
	for attempt := 1; ; attempt++ {
		at, n, err := p.once(ctx, r, log, end, floor, noted)
		end = max(end, at)
		switch {
		case err == nil, errors.Is(err, errNotThere):
			return end, n, nil
		case unreadable(err), attempt == repairAttempts, ctx.Err() != nil:
			return end, 0, err
		}
		noted = true // the attempt may have appended
		r.log.Warn("could not repair a mirror partition, retrying", "topic", log.topic, "partition", log.partition, "error", err)
		if isUnanswered(err) && retry.Sleep(ctx, r.grace) != nil || retry.Sleep(ctx, wait.Next()) != nil {
			return end, 0, ctx.Err()
		}
	}
}

// unreadable reports whether an error comes from what is in the log, or from an ACL, so that no
// further attempt is made.
func unreadable(err error) bool {
	for _, of := range []error{
		batch.ErrOldFormat, batch.ErrUnsupported, batch.ErrCorrupt, batch.ErrMalformed, batch.ErrTooLarge, kerr.MessageTooLarge, kerr.RecordListTooLarge,
		kerr.InvalidRecord, kerr.TopicAuthorizationFailed,
	} {
		if errors.Is(err, of) {
			return true
		}
	}
	return false
}

// once tries to repair a partition. Whatever the log has behind phys is void. end is where the log
// ended before once appended anything.
func (p *repair) once(ctx context.Context, r *Replicator, log *mirrorLog, phys, floor int64, noted bool) (end int64, tombstones int, err error) {
	start, end, err := log.ends(ctx)
	if err != nil {
		return phys, 0, err
	}
	if !noted {
		if err := log.walk(ctx, phys, end, func(h batch.Header) error {
			noted = noted || !h.Control()
			return nil
		}); err != nil {
			return phys, 0, err
		}
	}
	if !noted {
		return end, 0, nil
	}
	scan := newVoidScan(log, start, end, floor, r.voidKeys)
	out := &repairs{log: log, now: time.Now().UnixMilli()}
	if err := scan.eachPart(ctx, func(keys map[string]*voidKey) error { return out.append(ctx, scan, keys) }); err != nil {
		return end, 0, err
	}
	r.log.Warn("re-appended the records that void batches of a mirror would have replaced", "topic", log.topic, "partition", log.partition,
		"records", out.records, "tombstones", out.tombstones, "offset", end)
	return end, out.tombstones, nil
}

// repairs appends copies of records.
type repairs struct {
	log                 *mirrorLog
	now                 int64 // milliseconds since the epoch
	plain               batch.Plain
	codec               int8
	records, tombstones int
}

// append looks at each key whose last void record is behind its last record that counts, and
// appends a copy of the latter, in the order of the log. Then it appends tombstones for the keys of
// which no record counts.
func (o *repairs) append(ctx context.Context, scan *voidScan, keys map[string]*voidKey) error {
	wanted, last := map[int64]bool{}, int64(-1)
	for _, k := range keys {
		if k.counts >= 0 && k.counts < k.void {
			wanted[k.counts], last = true, max(last, k.counts)
		}
	}
	all := scan.end
	if scan.end = last + 1; len(wanted) > 0 {
		if err := scan.each(ctx, func(h batch.Header, counts bool) error {
			if !counts || h.Control() {
				return nil
			}
			return scan.records(h, func(at int64, r batch.Record) error {
				if !wanted[at] {
					return nil
				}
				if o.codec != h.Codec() {
					if err := o.flush(ctx); err != nil {
						return err
					}
					o.codec = h.Codec()
				}
				if batch.FromAppendTime(h) {
					r.Timestamp = h.MaxTimestamp()
				}
				o.plain.Add(r)
				o.records++
				return o.full(ctx)
			})
		}); err != nil {
			return err
		}
	}
	scan.end = all
	for key, k := range keys {
		if k.counts >= 0 {
			continue
		}
		o.plain.AddTombstone(o.now, []byte(key))
		o.tombstones++
		if err := o.full(ctx); err != nil {
			return err
		}
	}
	return o.flush(ctx)
}

func (o *repairs) full(ctx context.Context) error {
	if o.plain.Size() < repairBytes {
		return nil
	}
	return o.flush(ctx)
}

func (o *repairs) flush(ctx context.Context) error {
	if o.plain.Count() == 0 {
		return nil
	}
	b, err := o.plain.Batch(o.codec)
	if err != nil {
		return err
	}
	_, err = o.log.append(ctx, b)
	return err
}
