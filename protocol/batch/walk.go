package batch

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Walker walks the `records` bytes of a fetch response, batch by batch:
//
//	w := batch.Walk(records)
//	for w.Next() {
//		use(w.Batch())
//	}
//	if err := w.Err(); err != nil { ... }
//
// Every batch that it yields is whole, has magic 2, and is as long as its header says. Walker
// checks nothing else. A last batch that was cut off ends the walk without an error, because
// brokers cut at the size that a fetch asked for.
type Walker struct {
	rest  []byte
	batch Header
	at    int // the position of rest in the records
	want  int // size of the batch that was cut off
	err   error
}

// Walk starts a walk. The batches alias records.
func Walk(records []byte) Walker { return Walker{rest: records} }

// Next moves to the next batch. It returns false at the end or at an error.
func (w *Walker) Next() bool {
	if w.err != nil {
		return false
	}
	w.batch = nil
	size, err := Peek(w.rest)
	if err != nil {
		w.err = fmt.Errorf("%w, %d bytes into the records", err, w.at)
		return false
	}
	if size == 0 || size > len(w.rest) {
		w.want = size
		return false
	}
	w.batch = Header(w.rest[:size:size])
	w.rest = w.rest[size:]
	w.at += size
	return true
}

// Batch returns the batch that Next moved to.
func (w *Walker) Batch() Header { return w.batch }

// Err returns the error that ended the walk early. It wraps ErrMalformed, ErrOldFormat or
// ErrUnsupported.
func (w *Walker) Err() error { return w.err }

// Rest returns the bytes behind the batch that Next moved to, or those at which Next stopped. If
// Err wraps ErrOldFormat, Recoder.Convert can go on from there.
func (w *Walker) Rest() []byte { return w.rest }

// Cut returns, once Next has returned false, how many bytes of a cut-off last batch were there, and
// how many the whole batch has. have = 0: nothing was cut off; want = 0: not even the length of the
// batch was there. If a walk yields nothing but a cut batch, the fetch asked for too few bytes
// (only brokers before KIP-74 answer so).
func (w *Walker) Cut() (have, want int) { return len(w.rest), w.want }

// Peek reads the size in bytes of the batch that b begins with, which may be more than b has. 0 = b
// is too short to tell. An error wraps ErrMalformed, ErrOldFormat or ErrUnsupported.
func Peek(b []byte) (size int, err error) {
	if len(b) <= atMagic {
		return 0, nil
	}
	// The magic stands at the same place in every format, and the length counts the same bytes.
	switch magic := int8(b[atMagic]); {
	case magic == 0 || magic == 1:
		return 0, fmt.Errorf("%w (magic %d) at offset %d", ErrOldFormat, magic, Header(b).BaseOffset())
	case magic < 0:
		return 0, fmt.Errorf("%w: magic %d", ErrMalformed, magic)
	case magic > 2:
		return 0, fmt.Errorf("%w: magic %d", ErrUnsupported, magic)
	}
	length := int64(int32(binary.BigEndian.Uint32(b[atLength:])))
	if length < HeaderSize-sizePrefix || length > math.MaxInt32-sizePrefix {
		return 0, fmt.Errorf("%w: batch length %d at offset %d", ErrMalformed, length, Header(b).BaseOffset())
	}
	return int(length) + sizePrefix, nil
}

// whole checks that b is exactly one v2 batch by its length and magic.
func whole(b []byte) error {
	size, err := Peek(b)
	switch {
	case err != nil:
		return err
	case size == 0 || size != len(b):
		return fmt.Errorf("%w: %d bytes where a batch of %d was expected", ErrMalformed, len(b), size)
	}
	return nil
}
