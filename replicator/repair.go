package replicator

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"klink/admin"
	"klink/protocol/batch"
	"klink/protocol/timeline"

	"github.com/twmb/franz-go/pkg/kerr"
	"golang.org/x/sync/errgroup"
)

// A compacted mirror with void batches that is stopped is repaired: the last record that counts of
// each key in them is appended anew, behind the mirror's end, or a tombstone for a key of which
// nothing counts. Then the cleaner may go on, and what it keeps of a key is what the source had. It
// comes after the last append and before the topic takes writes, or a client's record could be
// followed by an older one of its key.
//
// The copies have no stamp: they are the topic's own, as what clients write from then on. A repair
// that is broken off is done again, by whom it may be: what it had appended is void then, and has
// the same keys.

const (
	// repairBytes is how large a batch of a repair is, uncompressed, unless one record is larger.
	repairBytes = 256 << 10
	// repairAttempts is how often a partition is tried. After that the mirror stops without, and is
	// never compacted.
	repairAttempts = 8
	// repairsAtOnce is how many partitions are read at a time.
	repairsAtOnce = 4
)

// repair is that of one mirror.
type repair struct {
	id     string // of the mirror
	term   uint64
	cancel context.CancelFunc
	ended  atomic.Bool

	// What has become of it, once it has ended.
	broken   bool    // it was broken off, and says nothing
	physical []int64 // where the partitions end
	why      string  // it was not done, "" = it was
	missing  int     // keys without a record that counts, where the cleaner may have been faster than klink
}

// repaired says whether the log of a mirror that has ended is as the topic may be used from then
// on; if not it sees to it. It corrects the report of the mirror's ends: what is void at the end of
// the log belongs to the mirror.
func (r *Replicator) repaired(am *admin.Mirror, term uint64, tls []*timeline.Partition, ev *admin.Event) bool {
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
		ev.Message = fmt.Sprintf("%d keys of batches that do not count have no record in the mirror, and whether the destination's cleaner has removed them before klink saw it is not known: "+
			"if the source has them, write them to the topic again", p.missing)
	}
	return true
}

// endsOf are the physical ends of a mirror's partitions, whoever has ended them.
func endsOf(am *admin.Mirror, ev *admin.Event, partitions int) []int64 {
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
func (r *Replicator) forgetRepairs(st *admin.State) {
	for topic, p := range r.repairs {
		am := st.Mirrors[topic]
		if am != nil && am.ID == p.id && am.State == admin.MirrorPendingStopped && r.owner.term(topicSlot(topic)) == p.term {
			continue
		}
		p.cancel()
		if p.ended.Load() {
			delete(r.repairs, topic)
		}
	}
}

// repairing is the slots of repairs that have not ended: they may append.
func (r *Replicator) repairing() (busy slotSet) {
	for topic, p := range r.repairs {
		if !p.ended.Load() {
			busy |= 1 << topicSlot(topic)
		}
	}
	return busy
}

func (p *repair) run(ctx context.Context, r *Replicator, am *admin.Mirror, tls []*timeline.Partition) {
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
				unrepaired = append(unrepaired, fmt.Errorf("where partition %d ends is not known", i))
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
			r.log.Error("what void batches of a mirror may take the place of was not appended anew; the topic is not compacted",
				"topic", am.Topic, "partitions", len(unrepaired), "error", p.why)
		}
	}
}

// partition repairs one partition, as often as it takes. end is where the log ended before.
func (p *repair) partition(ctx context.Context, r *Replicator, log *mirrorLog, phys, floor int64, noted bool) (end int64, tombstones int, err error) {
	wait := backoff{low: 100 * time.Millisecond, high: 5 * time.Second}
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
		noted = true // it may have appended
		r.log.Warn("repairing a mirror partition failed, retrying", "topic", log.topic, "partition", log.partition, "error", err)
		if isUnanswered(err) && !sleep(ctx, r.grace) || !sleep(ctx, wait.next()) {
			return end, 0, ctx.Err()
		}
	}
}

// unreadable says that an error comes of what is in the log.
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

// once repairs a partition. Where the log ends behind phys, what is there is void. end is where the
// log ended before anything was appended.
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
	r.log.Warn("what void batches of a mirror would have taken the place of was appended anew", "topic", log.topic, "partition", log.partition,
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

// append appends, for each key whose last void record is behind the last one that counts, that one
// anew, in the order that they have, then tombstones.
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
