package batch

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// packed makes a batch of bytes that are compressed with a codec.
func packed(codec int8, count, lastDelta int32, compressed []byte) Header {
	h := Header(append(make([]byte, HeaderSize), compressed...))
	binary.BigEndian.PutUint64(h, 1000)
	binary.BigEndian.PutUint32(h[atLength:], uint32(len(h)-sizePrefix))
	h[atMagic] = 2
	h.setAttributes(int16(codec))
	binary.BigEndian.PutUint32(h[atLastOffsetDelta:], uint32(lastDelta))
	binary.BigEndian.PutUint64(h[atBaseTimestamp:], 5000)
	binary.BigEndian.PutUint32(h[atCount:], uint32(count))
	return h
}

// compressWith compresses what write writes, as a producer does that does not know how much will
// come.
func compressWith(t testing.TB, codec int8, write func(io.Writer)) []byte {
	t.Helper()
	var out bytes.Buffer
	var w io.WriteCloser
	switch codec {
	case codecNone:
		write(&out)
		return out.Bytes()
	case codecGzip:
		w, _ = gzip.NewWriterLevel(&out, gzip.BestSpeed)
	case codecSnappy:
		var plain bytes.Buffer
		write(&plain)
		return snappy(nil, plain.Bytes(), 0)
	case codecLZ4:
		w = lz4.NewWriter(&out)
	case codecZstd:
		w, _ = zstd.NewWriter(&out, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<20))
	}
	write(w)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// writeRecords writes n records of size zero bytes each; record i is at delta 2i, 10i milliseconds
// after the first.
func writeRecords(n, size int) func(io.Writer) {
	value := make([]byte, size)
	return func(w io.Writer) {
		for i := range n {
			body := binary.AppendVarint([]byte{0}, int64(10*i))
			body = binary.AppendVarint(body, int64(2*i))
			body = binary.AppendVarint(append(body, 1), int64(size))
			head := binary.AppendVarint(nil, int64(len(body)+size+1))
			for _, b := range [][]byte{head, body, value, {0}} {
				_, _ = w.Write(b)
			}
		}
	}
}

func TestScan(t *testing.T) {
	for codec := codecNone; codec <= codecZstd; codec++ {
		h := packed(codec, 3000, 5998, compressWith(t, codec, writeRecords(3000, 500)))
		memory, err := ScanMemory(h)
		if err != nil || memory > MaxScanMemory || codec != codecNone && memory == 0 {
			t.Fatalf("codec %d: %d bytes: %v", codec, memory, err)
		}
		s, err := OpenScan(h)
		if err != nil {
			t.Fatal(err)
		}
		n := int64(0)
		for s.Next() {
			if s.Offset != 1000+2*n || s.Timestamp != 5000+10*n {
				t.Fatalf("codec %d: record %d is %d at %d", codec, n, s.Offset, s.Timestamp)
			}
			n++
		}
		if n != 3000 || s.Err() != nil {
			t.Errorf("codec %d: %d records: %v", codec, n, s.Err())
		}
		s.Close()
	}
}

// The bytes behind the record that the caller looks for stay compressed.
func TestScanStopsEarly(t *testing.T) {
	for _, codec := range []int8{codecGzip, codecSnappy, codecLZ4, codecZstd} {
		h := packed(codec, 100, 198, compressWith(t, codec, writeRecords(100, 1<<20)))
		s, err := OpenScan(h)
		if err != nil || !s.Next() {
			t.Fatal(codec, err)
		}
		if n := s.Inflated(); n > 16<<20 {
			t.Errorf("codec %d: %d bytes were decompressed for the first record", codec, n)
		}
		s.Close()
	}
}

// A small batch that decompresses to much takes no more memory and work than the bounds.
func TestBombs(t *testing.T) {
	const size = 2 * MaxInflated
	for codec := codecGzip; codec <= codecZstd; codec++ {
		t.Run(fmt.Sprint("codec ", codec), func(t *testing.T) {
			h := packed(codec, size>>20, 2*size>>20, compressWith(t, codec, writeRecords(size>>20, 1<<20)))
			memory, err := ScanMemory(h)
			if err != nil {
				t.Fatal(err)
			}
			got, scanned := allocated(func() {
				s, err := OpenScan(h)
				if err != nil {
					t.Fatal(err)
				}
				defer s.Close()
				for s.Next() {
				}
				if !errors.Is(s.Err(), ErrTooLarge) || s.Inflated() > MaxInflated+1 {
					t.Errorf("after %d bytes: %v", s.Inflated(), s.Err())
				}
			}), len(h)
			if got > memory+8<<20 {
				t.Errorf("a scan of %d bytes takes %d, it says %d", scanned, got, memory)
			}
			limit := 8 << 20
			if codec == codecZstd {
				limit = MaxInflated // see Recoder.MaxSize
			}
			got = allocated(func() {
				var c codecs
				if out, err := c.decompress(nil, h[HeaderSize:], codec, limit); !errors.Is(err, ErrTooLarge) || len(out) > limit+zstdBlock {
					t.Errorf("%d bytes: %v", len(out), err)
				}
			})
			if got > 6*int64(limit) {
				t.Errorf("decompression to %d bytes at most takes %d", limit, got)
			}
			if _, err := Inflate(h[HeaderSize:], codec, limit); !errors.Is(err, ErrTooLarge) {
				t.Error(err)
			}
		})
	}
}

// Sizes that a header claims cost nothing.
func TestClaimedSizes(t *testing.T) {
	frame := func(window byte, rest ...byte) []byte { // no content size, one window
		return append([]byte{0x28, 0xb5, 0x2f, 0xfd, 0, window}, rest...)
	}
	raw := []byte{1 | 8<<3, 0, 0, 1} // the last block, raw... and cut
	small := compressWith(t, codecZstd, writeRecords(1, 10))
	for name, c := range map[string]struct {
		codec int8
		src   []byte
	}{
		"a window of 2 GiB":                     {codecZstd, frame(21<<3, raw...)},
		"a window of 128 MiB":                   {codecZstd, frame(17<<3, raw...)},
		"a second frame with a window of 1 GiB": {codecZstd, append(bytes.Clone(small), frame(20<<3, raw...)...)},
		"one segment of 4 GiB":                  {codecZstd, []byte{0x28, 0xb5, 0x2f, 0xfd, 0xa0, 0xff, 0xff, 0xff, 0xff, 1, 0, 0}},
		"a snappy block of 1 GiB":               {codecSnappy, append(binary.AppendUvarint(nil, 1<<30), make([]byte, 100)...)},
		"a framed snappy block of 1 GiB": {codecSnappy, append(append([]byte(xerialHeader), 0, 0, 0, 60),
			append(binary.AppendUvarint(nil, 1<<30), make([]byte, 55)...)...)},
		"a framed snappy block that is longer than all": {codecSnappy, append([]byte(xerialHeader), 0xff, 0xff, 0xff, 0xff, 1)},
		"lz4 blocks of 4 MiB":                           {codecLZ4, []byte{4, 0x22, 0x4d, 0x18, 0x60, 0x70, 0x73, 0xff, 0xff, 0x3f, 0}},
		"legacy lz4":                                    {codecLZ4, []byte{2, 0x21, 0x4c, 0x18, 0xff, 0xff, 0x7f, 0, 1}},
		"gzip that is cut":                              {codecGzip, []byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff}},
		"no codec that anybody knows":                   {7, []byte{1, 2, 3}},
	} {
		h := packed(c.codec, 100, 99, c.src)
		got := allocated(func() {
			s, err := OpenScan(h)
			if err == nil {
				for s.Next() {
				}
				err = s.Err()
				s.Close()
			}
			if err == nil {
				t.Errorf("%s: it is scanned", name)
			}
		})
		if got > MaxScanMemory {
			t.Errorf("%s: a scan takes %d bytes", name, got)
		}
		if got := allocated(func() {
			var codec codecs
			if _, err := codec.decompress(nil, c.src, c.codec, 1<<20); err == nil {
				t.Errorf("%s: it is decompressed", name)
			}
		}); got > 24<<20 {
			t.Errorf("%s: decompression takes %d bytes", name, got)
		}
	}
}

// A frame of zstd with several parts, and one without its size, come out whole at the limit and not
// above.
func TestZstdAtTheLimit(t *testing.T) {
	var two []byte
	for range 2 {
		two = append(two, compressWith(t, codecZstd, func(w io.Writer) { _, _ = w.Write(make([]byte, 100_000)) })...)
	}
	empty, _ := zstd.NewWriter(nil, zstd.WithZeroFrames(true))
	for _, src := range [][]byte{two, append(empty.EncodeAll(nil, nil), two...)} {
		for _, limit := range []int{0, 1, 199_999, 200_000, 200_001, 1 << 20} {
			var c codecs
			out, err := c.decompress([]byte("before"), src, codecZstd, limit)
			switch {
			case limit < 200_000 && !errors.Is(err, ErrTooLarge):
				t.Errorf("limit %d: %d bytes, %v", limit, len(out), err)
			case limit >= 200_000 && (err != nil || len(out) != 200_006 || string(out[:6]) != "before"):
				t.Errorf("limit %d: %d bytes, %v", limit, len(out), err)
			}
		}
	}
}

// The memory of a large batch is accounted for before it is allocated, and again when it is
// released.
func TestRecoderAccountsForItsMemory(t *testing.T) {
	for codec := codecGzip; codec <= codecZstd; codec++ {
		held, most := int64(0), int64(0)
		r := &Recoder{Account: func(delta int64) {
			held += delta
			most = max(most, held)
		}}
		large := packed(codec, 32, 62, compressWith(t, codec, writeRecords(32, 1<<20)))
		large.setCRC(crcOf(large))
		runs := 0
		if err := r.Runs(large, 0, func(Header) error { runs++; return nil }); err != nil || runs != 32 {
			t.Fatalf("codec %d: %d runs, %v", codec, runs, err)
		}
		if held != 0 || most < 2*32<<20 || most > 6*32<<20 {
			t.Errorf("codec %d: %d bytes told of, %d not given back", codec, most, held)
		}
		most = 0
		small := packed(codec, 3, 4, compressWith(t, codec, writeRecords(3, 100)))
		small.setCRC(crcOf(small))
		if err := r.Runs(small, 0, func(Header) error { return nil }); err != nil || held != 0 || most != 0 {
			t.Errorf("codec %d: a small batch: %d bytes told of: %v", codec, most, err)
		}
		// The memory is released also if Runs fails.
		r.MaxSize = 10 << 20
		if err := r.Runs(large, 0, func(Header) error { return nil }); !errors.Is(err, ErrTooLarge) || held != 0 {
			t.Errorf("codec %d: %d bytes not given back: %v", codec, held, err)
		}
	}
}

func allocated(do func()) int64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	do()
	runtime.ReadMemStats(&after)
	return int64(after.TotalAlloc - before.TotalAlloc)
}

func crcOf(h Header) uint32 { return crc32.Checksum(h[atAttributes:], castagnoli) }

// Nothing else in klink decompresses foreign data: it all goes through the bounds of this package.
func TestNothingElseDecompresses(t *testing.T) {
	const root = "../.."
	seen := 0
	for _, dir := range []string{"admin", "cmd", "internal/config", "internal/kafkaclient", "telemetry", "protocol", "proxy", "replicator", "router"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(path)
			if seen++; err != nil {
				return err
			}
			if filepath.Dir(path) == filepath.Join(root, "protocol/batch") {
				return nil
			}
			for _, other := range []string{"klauspost/compress", "pierrec/lz4", "\"compress/", "DefaultDecompressor", "ProcessFetchPartition"} {
				if strings.Contains(string(text), other) {
					t.Errorf("%s has %s: use Inflate, Scan or Recoder", path, other)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if seen < 200 {
		t.Errorf("only %d files were looked at", seen)
	}
}
