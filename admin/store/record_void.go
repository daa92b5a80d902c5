package store

import (
	"errors"
	"fmt"
	"slices"

	"klink/admin/model"
)

// maxVoidRecords bounds how many partitions a mirror's record lists in Void.
const maxVoidRecords = 256

// NoteVoid adds what was found to a mirror's record, and reports whether that changed the record.
func (r *MirrorRecord) NoteVoid(v model.VoidBatches) bool {
	i := slices.IndexFunc(r.Void, func(known model.VoidBatches) bool { return known.Partition == v.Partition })
	switch {
	case i < 0 && len(r.Void) >= maxVoidRecords:
		changed := !r.VoidElsewhere
		r.VoidElsewhere = true
		return changed
	case i < 0:
		r.Void = append(slices.Clone(r.Void), v)
		return true
	}
	known := r.Void[i]
	next := known
	switch {
	case v.From >= known.To:
		// These are behind the known ones.
		next.To, next.Offsets, next.Foreign = v.To, known.Offsets+v.Offsets, known.Foreign+v.Foreign
		next.Safe = known.Safe && v.Safe
	case v.From == known.From && v.To == known.To:
		next.Safe = known.Safe || v.Safe
	default:
		// A walk that began elsewhere has found some of them again.
		next.From, next.To = min(known.From, v.From), max(known.To, v.To)
		next.Offsets, next.Foreign = max(known.Offsets, v.Offsets), max(known.Foreign, v.Foreign)
		next.Safe = known.Safe && v.Safe
	}
	if next == known {
		return false
	}
	r.Void = slices.Clone(r.Void)
	r.Void[i] = next
	return true
}

// checkVoid refuses a record that klink has not written.
func (r *MirrorRecord) checkVoid() error {
	if len(r.Void) > maxVoidRecords {
		return fmt.Errorf("names void batches of %d partitions; at most %d are possible", len(r.Void), maxVoidRecords)
	}
	for _, v := range r.Void {
		if v.Partition < 0 || v.From < 0 || v.To < v.From {
			return errors.New("names void batches at impossible offsets")
		}
	}
	return nil
}

// HasVoid reports whether the log of the mirror has batches that do not count.
func (r *MirrorRecord) HasVoid() bool { return len(r.Void) > 0 || r.VoidElsewhere }
