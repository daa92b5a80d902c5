package batch

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"
)

// seedBatches adds each batch or message of the captured logs.
func seedBatches(f *testing.F) {
	for _, name := range captures(f, "*") {
		b, err := os.ReadFile(filepath.Join("testdata", name+".bin"))
		if err != nil {
			f.Fatal(err)
		}
		for range 8 {
			if len(b) <= atMagic {
				break
			}
			size := min(Header(b).Size(), len(b))
			f.Add(b[:size])
			b = b[size:]
		}
	}
	f.Add([]byte{})
}

// repaired lets a fuzzer get past lengths and checksums, which it cannot guess.
func repaired(b []byte) []byte {
	b = bytes.Clone(b)
	if len(b) > atMagic {
		b[0] &= 0x3f
		switch {
		case b[atMagic] < 2 && len(b) >= sizeOfV0:
			fixMessage(b)
		case b[atMagic] == 2 && len(b) >= HeaderSize:
			binary.BigEndian.PutUint32(b[atLength:], uint32(len(b)-sizePrefix))
			fixCRC(b)
		}
	}
	return b
}

// fuzzLimit keeps a bomb from being mistaken for a hang.
const fuzzLimit = 1 << 20

// FuzzRuns: whatever the records, either nothing comes out, or valid data batches with rising
// offsets, as many records as the header says.
func FuzzRuns(f *testing.F) {
	seedBatches(f)
	r := &Recoder{MaxSize: fuzzLimit}
	f.Fuzz(func(t *testing.T, b []byte) {
		b = repaired(b)
		before := bytes.Clone(b)
		records, next := int32(0), int64(-1)
		err := r.Runs(b, 0, func(run Header) error {
			if kind, err := Classify(run); kind != Data || !VerifyCRC(run) {
				t.Fatalf("a run that is %s: %v", kind, err)
			}
			if run.BaseOffset() <= next && records > 0 {
				t.Fatalf("a run at %d after %d", run.BaseOffset(), next)
			}
			records += run.Count()
			next = run.NextOffset()
			return nil
		})
		if !bytes.Equal(before, b) {
			t.Fatal("the source has changed")
		}
		if err != nil {
			if records != 0 {
				t.Fatalf("%d records in spite of %v", records, err)
			}
			return
		}
		if records != Header(b).Count() || next > Header(b).NextOffset() {
			t.Fatalf("%d of %d records, up to %d", records, Header(b).Count(), next)
		}
	})
}

// FuzzConvert: whatever the messages, the results are valid data batches, and repeated calls, each
// from where the last one stopped, come to an end.
func FuzzConvert(f *testing.F) {
	seedBatches(f)
	r := &Recoder{MaxSize: fuzzLimit}
	f.Fuzz(func(t *testing.T, b []byte) {
		b = repaired(b)
		n, next, err := r.Convert(b, 0, func(run Header) error {
			if kind, err := Classify(run); kind != Data || !VerifyCRC(run) {
				t.Fatalf("a run that is %s: %v", kind, err)
			}
			return nil
		})
		if n < 0 || n > len(b) || next < 0 || (n > 0) != (next > 0) {
			t.Fatalf("%d of %d bytes, next %d", n, len(b), next)
		}
		if size, old, peekErr := peekMessage(b[n:]); err == nil && peekErr == nil && old && size != 0 && size <= len(b)-n {
			t.Fatalf("stopped at %d, before a whole message", n)
		}
	})
}

// FuzzInner: the same, but the fuzzed bytes are inside a compressed message.
func FuzzInner(f *testing.F) {
	f.Add(int8(1), oldMessage(1, 0, 0, 5, []byte("k"), []byte("v")))
	f.Add(int8(0), append(oldMessage(0, 1, 0, 5, nil, nil), oldMessage(0, 3, 0, 5, nil, nil)...))
	f.Fuzz(func(t *testing.T, magic int8, inner []byte) {
		var c codecs
		value, err := c.compress(nil, inner, codecSnappy, len(inner))
		if err != nil {
			t.Fatal(err)
		}
		records := int64(0)
		_, _, err = new(Recoder).Convert(oldMessage(magic&1, 1000, codecSnappy, 5, nil, value), 0, func(run Header) error {
			records += int64(run.Count())
			if run.NextOffset() > 1001 {
				t.Fatalf("an offset beyond the wrapper's: %d", run.NextOffset())
			}
			return nil
		})
		if err == nil && (records == 0 || records > int64(len(inner)/sizeOfV0)) || err != nil && records > 0 {
			t.Fatalf("%d records of %d bytes, %v", records, len(inner), err)
		}
	})
}

// FuzzDecompress: whatever the bytes, no panic, and never more than the limit.
func FuzzDecompress(f *testing.F) {
	var c codecs
	for codec := codecNone; codec <= codecZstd; codec++ {
		b, err := c.compress(nil, []byte("records, records, records, records"), codec, 0)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(codec, b)
		f.Add(codec, b[:len(b)/2])
	}
	f.Add(codecSnappy, []byte(xerialMagic))
	f.Fuzz(func(t *testing.T, codec int8, b []byte) {
		for _, limit := range []int{10, fuzzLimit} {
			out, err := new(codecs).decompress(nil, b, codec, limit)
			if err == nil && len(out) > limit {
				t.Fatalf("codec %d: %d bytes", codec, len(out))
			}
		}
		_, _ = new(codecs).unlz4Broken(nil, b, fuzzLimit)
	})
}

// FuzzDrop: for all batches that Classify accepts, Drop neither panics nor drops a damaged one.
func FuzzDrop(f *testing.F) {
	seedBatches(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, b := range [][]byte{b, repaired(b)} {
			if _, err := Classify(b); err != nil {
				continue
			}
			var a Aborted
			a.Reset([]AbortedTransaction{{0, 0}, {1, 82}, {Header(b).ProducerID(), 1 << 20}})
			drop, err := a.Drop(b)
			if drop && (err != nil || !VerifyCRC(b)) {
				t.Fatalf("dropped: %v", err)
			}
			if !drop && err == nil && Header(b).Control() {
				t.Fatal("a control batch is left")
			}
		}
	})
}

// FuzzVoid: whatever is hidden, the batch is valid and as long as it was.
func FuzzVoid(f *testing.F) {
	seedBatches(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) >= HeaderSize {
			binary.BigEndian.PutUint32(b[atLength:], uint32(len(b)-sizePrefix))
		}
		if Void(b, 7) != (len(b) >= HeaderSize) {
			t.Fatalf("%d bytes", len(b))
		}
		if len(b) < HeaderSize {
			return
		}
		if kind, err := Classify(b); kind != Control || err != nil || !VerifyCRC(b) {
			t.Fatalf("%s, %v", kind, err)
		}
		if abort, err := abortMarker(b); abort || err != nil {
			t.Fatalf("abort %t, %v", abort, err)
		}
	})
}
