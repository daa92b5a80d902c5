package protocol

import (
	"encoding/binary"
	"fmt"

	"klink/protocol/batch"
)

// maxToken bounds the bytes that a walker holds back: it is the size of the longest token, which
// must lie in one piece.
const maxToken = 255

// walker reads a response frame token by token while its bytes pass, in pieces that may end
// anywhere. It never holds more than one token, and never changes the length.
//
// Invariants:
//  1. left is the number of bytes of the frame that follow the last token; skip <= left.
//  2. A token lies in one piece and is changed there. A token that is cut is completed in hold,
//     changed there, and goes out as the head of the next piece.
//  3. After the last byte of the frame the walker asks the grammar whether it expected the end
//     (done).
type walker struct {
	grammar grammar
	skip    int          // bytes that pass unread before the next token
	blank   bool         // the skipped bytes become zeros; false again after the skip
	void    batch.Voider // overwrites the first toVoid bytes that are skipped
	toVoid  int
	left    int
	held    int // bytes of a cut token in hold
	started bool
	hold    [maxToken]byte
	out     [maxToken]byte // the head that Next returned last; valid until the next call
}

// grammar is the state machine of one response. The walker calls size and token when all earlier
// tokens have been handled.
type grammar interface {
	// size returns the length of the next token, in 1..maxToken. b begins with the token, and has
	// as much of it as is there. If b is too short to tell, size returns a number above len(b).
	size(b []byte) int
	// token handles a token, may change it in place, and sets what comes next: w.skip and the
	// grammar's own state.
	token(b []byte) error
	// done reports whether the frame may end here.
	done() bool
}

var errCutField = fmt.Errorf("%w: response ends in the middle of a field", ErrMalformed)

func (w *walker) reset(g grammar) {
	w.grammar, w.skip, w.left, w.held, w.started, w.blank, w.toVoid = g, 0, 0, 0, false, false, 0
}

// finished reports whether the whole frame has passed.
func (w *walker) finished() bool { return w.started && w.left == 0 }

func (w *walker) size(b []byte) int {
	if !w.started {
		return 4
	}
	return w.grammar.size(b)
}

func (w *walker) token(b []byte) error {
	if !w.started {
		n := int32(binary.BigEndian.Uint32(b))
		if n < 4 {
			return fmt.Errorf("%w: response of size %d", ErrMalformed, n)
		}
		w.started, w.left = true, int(n)
		return nil
	}
	if len(b) > w.left {
		return errCutField
	}
	w.left -= len(b)
	if err := w.grammar.token(b); err != nil {
		return err
	}
	if w.skip < 0 || w.skip > w.left {
		return fmt.Errorf("%w: a field of %d bytes where %d are left of the response", ErrMalformed, w.skip, w.left)
	}
	return w.end()
}

func (w *walker) end() error {
	if w.left == 0 && !w.grammar.done() {
		return fmt.Errorf("%w: response cut short", ErrMalformed)
	}
	return nil
}

// Next implements router.Stream.
func (w *walker) Next(p []byte) (head, tail []byte, err error) {
	at := 0
	for w.held > 0 {
		n := w.size(w.hold[:w.held])
		if n <= w.held {
			if err := w.token(w.hold[:n]); err != nil {
				return nil, nil, err
			}
			// n == held: bytes were added only up to the size.
			copy(w.out[:], w.hold[:n])
			head, w.held = w.out[:n], 0
			break
		}
		if w.started && n > w.left || n > maxToken {
			return nil, nil, errCutField
		}
		if at == len(p) {
			return nil, nil, nil
		}
		// While the size is unknown, n is a lower bound.
		k := copy(w.hold[w.held:n], p[at:])
		w.held += k
		at += k
	}
	from := at
	for at < len(p) {
		if w.skip > 0 {
			k := min(w.skip, len(p)-at)
			if w.blank {
				clear(p[at : at+k])
				w.blank = k < w.skip
			}
			if w.toVoid > 0 {
				n := min(k, w.toVoid)
				w.void.Fill(p[at : at+n])
				w.toVoid -= n
			}
			w.skip -= k
			w.left -= k
			at += k
			if err := w.end(); err != nil {
				return nil, nil, err
			}
			continue
		}
		if w.finished() {
			return nil, nil, fmt.Errorf("%w: %d bytes after the end of a response", ErrMalformed, len(p)-at)
		}
		n := w.size(p[at:])
		if n > len(p)-at {
			if w.started && n > w.left {
				return nil, nil, errCutField
			}
			w.held = copy(w.hold[:], p[at:])
			return head, p[from:at], nil
		}
		if err := w.token(p[at : at+n]); err != nil {
			return nil, nil, err
		}
		at += n
	}
	return head, p[from:at], nil
}

// uvarintSize is the size of a token that is one unsigned varint.
func uvarintSize(b []byte) int {
	for i := range min(len(b), 5) {
		if b[i] < 0x80 {
			return i + 1
		}
	}
	if len(b) >= 5 {
		return 5 // token refuses it
	}
	return len(b) + 1
}

// readUvarint reads a token of uvarintSize.
func readUvarint(b []byte) (int, error) {
	v, n := uvarint(b)
	if n != len(b) {
		return 0, fmt.Errorf("%w: varint of more than 32 bits", ErrMalformed)
	}
	return int(v), nil
}
