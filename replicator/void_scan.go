package replicator

import (
	"context"
	"errors"
	"hash/maphash"

	"klink/protocol/batch"
	"klink/replicator/core"
)

// voidScan reads the whole log of a mirror partition. For each key in void batches it finds the
// last record that counts. Nobody appends to the log at the same time, or what is appended does not
// matter.
type voidScan struct {
	log        *mirrorLog
	start, end int64 // physical
	floor      int64 // logical: clients see nothing below, so it does not count here
	// maxKeys and maxKeyBytes bound the keys that are looked up at a time. If there are more, the
	// log is read several times.
	maxKeys, maxKeyBytes int
	seed                 maphash.Seed
	parts                uint64 // how many times the log is read
	first                int64  // logical: the first record that counts, -1 = none
}

// voidKey is a key that a void batch has.
type voidKey struct {
	void   int64 // the last void record of the key, physical
	counts int64 // the last record that counts, physical; -1 = there is none
}

// voidScanBytes is how much of a log is fetched at once, since a scan reads all of it.
const voidScanBytes = 1 << 20

// maxVoidKeys and maxVoidKeyBytes are voidScan.maxKeys and maxKeyBytes.
const (
	maxVoidKeys     = 1 << 18
	maxVoidKeyBytes = 32 << 20
)

func newVoidScan(log *mirrorLog, start, end, floor int64, maxKeys int) *voidScan {
	log.chunk = voidScanBytes
	return &voidScan{log: log, start: start, end: end, floor: floor, maxKeys: maxKeys, maxKeyBytes: maxVoidKeyBytes, seed: maphash.MakeSeed(), parts: 1}
}

// each passes every batch to see, with whether it counts.
func (s *voidScan) each(ctx context.Context, see func(h batch.Header, counts bool) error) error {
	if s.start >= s.end {
		return nil
	}
	t := tail{at: s.start, last: core.UnknownEpoch}
	return s.log.walk(ctx, s.start, s.end, func(h batch.Header) error {
		void := t.void
		if err := t.see(h); err != nil {
			return err
		}
		return see(h, t.void == void)
	})
}

// records passes the records of a batch that have a key to see, with their physical offsets, from
// the log start on.
func (s *voidScan) records(h batch.Header, see func(at int64, r batch.Record) error) error {
	return batch.EachRecord(h, func(r batch.Record) error {
		if at := h.BaseOffset() + int64(r.OffsetDelta); r.HasKey && at >= s.start {
			return see(at, r)
		}
		return nil
	})
}

var errTooManyKeys = errors.New("too many keys")

// eachPart passes the keys of void batches to use, in as many parts as are needed.
func (s *voidScan) eachPart(ctx context.Context, use func(keys map[string]*voidKey) error) error {
	for part := uint64(0); part < s.parts; part++ {
		keys, err := s.keys(ctx, part)
		if errors.Is(err, errTooManyKeys) {
			// Begin again with more parts. The keys of the parts before are used again, which does
			// no harm.
			s.parts *= 4
			part = ^uint64(0)
			continue
		}
		if err != nil {
			return err
		}
		if err := s.find(ctx, keys); err != nil {
			return err
		}
		if err := use(keys); err != nil {
			return err
		}
	}
	return nil
}

// keys returns the keys of void batches that belong to a part.
func (s *voidScan) keys(ctx context.Context, part uint64) (map[string]*voidKey, error) {
	keys, size := map[string]*voidKey{}, 0
	err := s.each(ctx, func(h batch.Header, counts bool) error {
		if counts || h.Control() {
			return nil
		}
		return s.records(h, func(at int64, r batch.Record) error {
			if s.parts > 1 && maphash.Bytes(s.seed, r.Key)%s.parts != part {
				return nil
			}
			k := keys[string(r.Key)]
			if k == nil {
				k = &voidKey{counts: -1}
				keys[string(r.Key)] = k
				if size += len(r.Key); size > s.maxKeyBytes || len(keys) > s.maxKeys {
					return errTooManyKeys
				}
			}
			k.void = at
			return nil
		})
	})
	return keys, err
}

// find finds the last record that counts of each key.
func (s *voidScan) find(ctx context.Context, keys map[string]*voidKey) error {
	s.first = -1
	if len(keys) == 0 {
		return nil
	}
	return s.each(ctx, func(h batch.Header, counts bool) error {
		base, flags, _, _ := batch.ReadStamp(h)
		if !counts || h.Control() || flags&batch.FlagFiller != 0 {
			return nil
		}
		return s.records(h, func(at int64, r batch.Record) error {
			logical := base + int64(r.OffsetDelta)
			if logical < s.floor {
				return nil
			}
			if s.first < 0 {
				s.first = logical
			}
			if k := keys[string(r.Key)]; k != nil {
				k.counts = at
			}
			return nil
		})
	})
}
