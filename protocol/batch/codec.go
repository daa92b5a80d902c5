package batch

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// The codecs, as attributes name them (Kafka's CompressionType).
const (
	codecNone int8 = iota
	codecGzip
	codecSnappy
	codecLZ4
	codecZstd
)

// MaxInflated bounds, everywhere in klink, the bytes of a decompressed batch. Brokers accept
// requests of at most 100 MiB (socket.request.max.bytes), so only a hostile client makes larger
// batches.
const MaxInflated = 128 << 20

// codecs are the compressors and decompressors of a Recoder, created when first needed.
type codecs struct {
	gzipReader *gzip.Reader
	lz4Reader  *lz4.Reader
	zstdReader *zstd.Decoder
	writers    [2]struct { // [0] the usual effort, [1] more
		gzip *gzip.Writer
		lz4  *lz4.Writer
		zstd *zstd.Encoder
	}
	// account is called before a buffer for decompressed bytes becomes large; it may be nil. See
	// Recoder.Account.
	account   func(delta int64)
	accounted int64
}

// grow makes room for n bytes behind b. Everything that is decompressed passes through it.
func (c *codecs) grow(b []byte, n int) []byte {
	if cap(b)-len(b) >= n {
		return b
	}
	size := max(len(b)+n, cap(b)+cap(b)/2, 512)
	c.reserve(size)
	grown := make([]byte, len(b), size)
	copy(grown, b)
	return grown
}

// reserve accounts for a buffer of this size, unless it is small. It counts it twice, because
// decompressed records exist twice: as they were, and as the run that is made of them.
func (c *codecs) reserve(size int) {
	if more := 2*int64(size) - c.accounted; c.account != nil && size > kept && more > 0 {
		c.accounted += more
		c.account(more)
	}
}

// shrunk calls account after the large buffers were released.
func (c *codecs) shrunk() {
	if c.accounted > 0 {
		c.account(-c.accounted)
		c.accounted = 0
	}
}

// decompress appends the decompressed src, at most limit bytes, to dst. The error wraps ErrCorrupt,
// ErrTooLarge or ErrUnsupported.
func (c *codecs) decompress(dst, src []byte, codec int8, limit int) ([]byte, error) {
	var err error
	switch codec {
	case codecNone:
		if len(src) > limit {
			return dst, errTooLarge(limit)
		}
		return append(dst, src...), nil
	case codecGzip:
		dst, err = c.gunzip(dst, src, limit)
	case codecSnappy:
		dst, err = c.unsnappy(dst, src, limit)
	case codecLZ4:
		dst, err = c.unlz4(dst, bytes.NewReader(src), limit)
	case codecZstd:
		dst, err = c.unzstd(dst, src, limit)
	default:
		return dst, fmt.Errorf("%w: codec %d", ErrUnsupported, codec)
	}
	if err != nil && !errors.Is(err, ErrTooLarge) {
		err = fmt.Errorf("%w: codec %d: %w", ErrCorrupt, codec, err)
	}
	return dst, err
}

func errTooLarge(limit int) error { return fmt.Errorf("%w: more than %d bytes", ErrTooLarge, limit) }

func (c *codecs) gunzip(dst, src []byte, limit int) ([]byte, error) {
	if c.gzipReader == nil {
		c.gzipReader = new(gzip.Reader)
	}
	if err := c.gzipReader.Reset(bytes.NewReader(src)); err != nil {
		return dst, err
	}
	return c.readAll(dst, c.gzipReader, limit)
}

func (c *codecs) unlz4(dst []byte, src io.Reader, limit int) ([]byte, error) {
	if c.lz4Reader == nil {
		c.lz4Reader = lz4.NewReader(src)
	} else {
		c.lz4Reader.Reset(src)
	}
	return c.readAll(dst, c.lz4Reader, limit)
}

// readAll appends everything that r has, at most limit bytes.
func (c *codecs) readAll(dst []byte, r io.Reader, limit int) ([]byte, error) {
	start := len(dst)
	for {
		if len(dst) == cap(dst) {
			dst = c.grow(dst, min(max(512, len(dst)/2), limit+1))
		}
		n, err := r.Read(dst[len(dst):min(cap(dst), start+limit+1)])
		dst = dst[:len(dst)+n]
		switch {
		case len(dst)-start > limit:
			return dst, errTooLarge(limit)
		case err == io.EOF:
			return dst, nil
		case err != nil:
			return dst, err
		}
	}
}

// zstdBlock is the largest number of decompressed bytes that one block of three bytes or more can
// hold (RFC 8878, section 3.1.1.2.4).
const zstdBlock = 128 << 10

// zstdWindow is the largest window that zstd's levels choose. The decoder refuses frames whose
// window is above its memory limit, even if they hold little, so the limit cannot be lower. The
// window itself costs no memory: it is the data that the decoder has already decompressed.
const zstdWindow = 128 << 20

func (c *codecs) unzstd(dst, src []byte, limit int) ([]byte, error) {
	if c.zstdReader == nil {
		var err error
		c.zstdReader, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxMemory(uint64(max(limit, zstdWindow))))
		if err != nil {
			return dst, err
		}
	}
	// When the decoder allocates, it trusts the size in a frame's header. So bound that size by
	// what the blocks can hold.
	var h zstd.Header
	if err := h.Decode(src); err != nil {
		return dst, err
	}
	room := min(limit, 4*len(src))
	switch {
	case h.HasFCS && h.FrameContentSize/zstdBlock > uint64(len(src)/3):
		return dst, fmt.Errorf("%d bytes cannot hold %d", len(src), h.FrameContentSize)
	case h.HasFCS && h.FrameContentSize > uint64(limit):
		return dst, errTooLarge(limit)
	case h.HasFCS:
		room = int(h.FrameContentSize)
	}
	c.reserve(len(dst) + min(zstdBound(src), max(limit, zstdWindow)))
	start := len(dst)
	dst, err := c.zstdReader.DecodeAll(src, c.grow(dst, room))
	if errors.Is(err, zstd.ErrDecoderSizeExceeded) || errors.Is(err, zstd.ErrWindowSizeExceeded) || err == nil && len(dst)-start > limit {
		err = errTooLarge(limit)
	}
	return dst, err
}

// zstdBound returns an upper bound of the decompressed size of src, from its blocks (RFC 8878,
// section 3.1.1). If src is malformed, the bound holds up to where the decoder stops.
func zstdBound(src []byte) (bound int) {
	for len(src) > 0 {
		var h zstd.Header
		if h.Decode(src) != nil {
			return bound
		}
		if h.Skippable {
			if skip := uint64(h.HeaderSize) + uint64(h.SkippableSize); skip < uint64(len(src)) {
				src = src[skip:]
				continue
			}
			return bound
		}
		src = src[min(h.HeaderSize, len(src)):]
		for last := false; !last; {
			if len(src) < 3 {
				return bound
			}
			head := int(src[0]) | int(src[1])<<8 | int(src[2])<<16
			src = src[3:]
			last = head&1 != 0
			size, kind := head>>3, head>>1&3
			switch kind {
			case 0: // not compressed
				bound += size
			case 1: // one byte, repeated
				bound += size
				size = 1
			default:
				bound += zstdBlock
			}
			src = src[min(size, len(src)):]
		}
		if h.HasCheckSum {
			src = src[min(4, len(src)):]
		}
	}
	return bound
}

// compress appends src, compressed, to dst. If dst then is longer than target, it tries harder.
func (c *codecs) compress(dst, src []byte, codec int8, target int) ([]byte, error) {
	start := len(dst)
	for effort := range c.writers {
		var err error
		switch codec {
		case codecNone:
			return append(dst, src...), nil
		case codecGzip:
			dst, err = c.gzip(dst[:start], src, effort)
		case codecSnappy:
			dst = snappy(dst[:start], src, effort)
		case codecLZ4:
			dst, err = c.lz4(dst[:start], src, effort)
		case codecZstd:
			dst, err = c.zstd(dst[:start], src, effort)
		default:
			err = fmt.Errorf("%w: codec %d", ErrUnsupported, codec)
		}
		if err != nil {
			return dst, err
		}
		if len(dst) <= target {
			break
		}
	}
	return dst, nil
}

func (c *codecs) gzip(dst, src []byte, effort int) ([]byte, error) {
	out := appender{dst}
	w := &c.writers[effort].gzip
	if *w == nil {
		var err error
		if *w, err = gzip.NewWriterLevel(&out, [2]int{gzip.DefaultCompression, gzip.BestCompression}[effort]); err != nil {
			return dst, err
		}
	} else {
		(*w).Reset(&out)
	}
	if _, err := (*w).Write(src); err != nil {
		return dst, err
	}
	err := (*w).Close()
	(*w).Reset(io.Discard)
	return out.b, err
}

// lz4 writes what Kafka's producer writes: one frame of independent blocks of 64 KiB, without
// checksums (Kafka's Lz4BlockOutputStream; its reader refuses blocks that depend on each other).
func (c *codecs) lz4(dst, src []byte, effort int) ([]byte, error) {
	out := appender{dst}
	w := &c.writers[effort].lz4
	if *w == nil {
		*w = lz4.NewWriter(&out)
		if err := (*w).Apply(lz4.BlockSizeOption(lz4.Block64Kb), lz4.ChecksumOption(false), lz4.ConcurrencyOption(1),
			lz4.CompressionLevelOption([2]lz4.CompressionLevel{lz4.Fast, lz4.Level9}[effort])); err != nil {
			return dst, err
		}
	} else {
		(*w).Reset(&out)
	}
	if _, err := (*w).Write(src); err != nil {
		return dst, err
	}
	err := (*w).Close()
	(*w).Reset(io.Discard)
	return out.b, err
}

func (c *codecs) zstd(dst, src []byte, effort int) ([]byte, error) {
	w := &c.writers[effort].zstd
	if *w == nil {
		var err error
		level := [2]zstd.EncoderLevel{zstd.SpeedDefault, zstd.SpeedBetterCompression}[effort]
		if *w, err = zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(level)); err != nil {
			return dst, err
		}
	}
	return (*w).EncodeAll(src, dst), nil
}

// appender appends what is written to it.
type appender struct{ b []byte }

func (a *appender) Write(p []byte) (int, error) {
	a.b = append(a.b, p...)
	return len(p), nil
}
