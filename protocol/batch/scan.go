package batch

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// Scan walks the records of a v2 batch one after the other, and holds no more of them than the
// codec must. A caller that has found its record leaves the rest compressed:
//
//	s, err := batch.OpenScan(h)
//	defer s.Close()
//	for s.Next() { use(s.Offset, s.Timestamp) }
//	err = s.Err()
type Scan struct {
	// Offset and Timestamp are those of the record that Next moved to.
	Offset, Timestamp int64

	base, baseTimestamp int64
	records             int32 // that are still to come
	inflated            io.LimitedReader
	in                  *bufio.Reader
	close               func()
	err                 error
}

// MaxScanMemory is the most memory that a Scan takes, in bytes.
const MaxScanMemory = 24 << 20

// scanBuffers is the memory in bytes that a Scan takes besides the codec's window.
const scanBuffers = 1 << 20

// lz4Memory is the memory in bytes of a reader for the largest blocks. Later frames may have larger
// blocks than the first frame names.
const lz4Memory = 16 << 20

// ScanMemory returns the bytes of memory that a Scan of h takes. If that is more than
// MaxScanMemory, the error wraps ErrTooLarge, else ErrCorrupt or ErrUnsupported.
func ScanMemory(h Header) (int64, error) {
	n, src := uint64(0), []byte(h[HeaderSize:])
	switch h.Codec() {
	case codecNone:
		return 0, nil
	case codecGzip:
		n = 64 << 10
	case codecLZ4:
		n = lz4Memory
	case codecSnappy:
		for rest := (snappyBlocks{}).of(src); rest.left(); {
			_, size, err := rest.next()
			if err != nil {
				return 0, fmt.Errorf("%w: snappy: %w", ErrCorrupt, err)
			}
			n = max(n, uint64(size))
		}
	case codecZstd:
		var err error
		if n, err = zstdScanWindow(src); err != nil {
			return 0, err
		}
	default:
		return 0, fmt.Errorf("%w: codec %d", ErrUnsupported, h.Codec())
	}
	if n > MaxScanMemory-scanBuffers {
		return 0, fmt.Errorf("%w: a window of %d bytes", ErrTooLarge, n)
	}
	return int64(n) + scanBuffers, nil
}

// zstdScanWindow returns the window of the first frame. No later frame may have a larger one.
func zstdScanWindow(src []byte) (uint64, error) {
	var h zstd.Header
	if err := h.Decode(src); err != nil {
		return 0, fmt.Errorf("%w: zstd: %w", ErrCorrupt, err)
	}
	window := h.WindowSize
	if h.SingleSegment {
		window = h.FrameContentSize
	}
	return max(window, zstd.MinWindowSize), nil
}

// OpenScan begins a scan. The batch must not change until the caller closes the scan. The errors
// are those of ScanMemory.
func OpenScan(h Header) (*Scan, error) {
	if _, err := ScanMemory(h); err != nil {
		return nil, err
	}
	s := &Scan{base: h.BaseOffset(), baseTimestamp: h.BaseTimestamp(), records: h.Count(), close: func() {}}
	src := []byte(h[HeaderSize:])
	var r io.Reader
	var err error
	switch h.Codec() {
	case codecNone:
		r = bytes.NewReader(src)
	case codecGzip:
		r, err = gzip.NewReader(bytes.NewReader(src))
	case codecLZ4:
		r = lz4.NewReader(bytes.NewReader(src))
	case codecSnappy:
		r = &snappyReader{blocks: snappyBlocks{}.of(src)}
	case codecZstd:
		window, _ := zstdScanWindow(src)
		var d *zstd.Decoder
		d, err = zstd.NewReader(bytes.NewReader(src), zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecodeBuffersBelow(0), zstd.WithDecoderMaxWindow(window), zstd.WithDecoderMaxMemory(window))
		if err == nil {
			r, s.close = d, d.Close
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%w: codec %d: %w", ErrCorrupt, h.Codec(), err)
	}
	s.inflated = io.LimitedReader{R: r, N: MaxInflated + 1}
	s.in = bufio.NewReaderSize(&s.inflated, 32<<10)
	return s, nil
}

// Next moves to the next record. It returns false at the end or at an error.
func (s *Scan) Next() bool {
	if s.err != nil || s.records <= 0 {
		return false
	}
	s.records--
	if s.err = s.record(); s.err != nil && s.inflated.N <= 0 {
		s.err = errTooLarge(MaxInflated)
	}
	return s.err == nil
}

func (s *Scan) record() error {
	size, _, err := s.varint()
	if err != nil {
		return err
	}
	if _, err := s.in.ReadByte(); err != nil { // attributes
		return s.failed(err)
	}
	when, n, err := s.varint()
	if err != nil {
		return err
	}
	delta, m, err := s.varint()
	if err != nil {
		return err
	}
	rest := size - int64(1+n+m)
	if rest < 0 || rest > MaxInflated || delta < 0 {
		return fmt.Errorf("%w: a record of %d bytes with offset delta %d", ErrMalformed, size, delta)
	}
	if _, err := s.in.Discard(int(rest)); err != nil {
		return s.failed(err)
	}
	s.Offset, s.Timestamp = s.base+delta, s.baseTimestamp+when
	return nil
}

// varint reads a varint, and returns its length n in bytes.
func (s *Scan) varint() (v int64, n int, err error) {
	u := uint64(0)
	for shift := 0; shift < 70; shift += 7 {
		b, err := s.in.ReadByte()
		if err != nil {
			return 0, 0, s.failed(err)
		}
		u |= uint64(b&0x7f) << shift
		n++
		if b < 0x80 {
			return int64(u>>1) ^ -int64(u&1), n, nil
		}
	}
	return 0, 0, fmt.Errorf("%w: a varint of more than 64 bits", ErrMalformed)
}

func (s *Scan) failed(err error) error {
	switch {
	case errors.Is(err, zstd.ErrWindowSizeExceeded), errors.Is(err, zstd.ErrDecoderSizeExceeded):
		return fmt.Errorf("%w: %w", ErrTooLarge, err)
	case errors.Is(err, io.EOF):
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("%w: %w", ErrCorrupt, err)
}

// Inflated returns the number of bytes that were decompressed so far.
func (s *Scan) Inflated() int64 { return MaxInflated + 1 - s.inflated.N }

// Err returns the error that ended the scan early. It wraps ErrCorrupt, ErrMalformed or
// ErrTooLarge.
func (s *Scan) Err() error { return s.err }

// Close releases the memory.
func (s *Scan) Close() { s.close() }

// snappyReader decompresses one block at a time.
type snappyReader struct {
	blocks snappyBlocks
	buffer []byte
	rest   []byte
}

func (r *snappyReader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		if !r.blocks.left() {
			return 0, io.EOF
		}
		block, size, err := r.blocks.next()
		if err != nil {
			return 0, err
		}
		if r.buffer, err = unsnappyBlock(r.buffer[:0], block, size); err != nil {
			return 0, err
		}
		r.rest = r.buffer
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

var inflaters sync.Pool

// Inflate decompresses src, at most limit bytes, with a codec as attributes name them. The caller
// owns the result. The error wraps ErrCorrupt, ErrTooLarge or ErrUnsupported. Safe for concurrent
// use.
func Inflate(src []byte, codec int8, limit int) ([]byte, error) {
	c, _ := inflaters.Get().(*codecs)
	if c == nil {
		c = &codecs{}
	}
	defer inflaters.Put(c)
	return c.decompress(nil, src, codec, limit)
}
