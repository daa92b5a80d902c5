package batch

import (
	"fmt"
	"testing"
)

// BenchmarkStampCRC compares the two ways to correct the checksum.
func BenchmarkStampCRC(b *testing.B) {
	for _, size := range []int{128, 256, 512, 1 << 10, 2 << 10, 4 << 10, 16 << 10, 128 << 10, 1 << 20} {
		batch := Header(newBatch(5, 0, 1, make([]byte, size-HeaderSize)))
		b.Run(fmt.Sprintf("patch/%d", size), func(b *testing.B) {
			b.ReportAllocs()
			for i := range b.N {
				patchCRC(batch, func(h Header) { writeStamp(h, int64(i), 7) })
			}
		})
		b.Run(fmt.Sprintf("recompute/%d", size), func(b *testing.B) {
			b.ReportAllocs()
			for i := range b.N {
				recomputeCRC(batch, func(h Header) { writeStamp(h, int64(i), 7) })
			}
		})
	}
}

func BenchmarkStamp(b *testing.B) {
	for _, size := range []int{200, 1 << 10, 128 << 10} {
		batch := newBatch(5, 0, 1, make([]byte, size-HeaderSize))
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			b.ReportAllocs()
			for i := range b.N {
				if err := Stamp(batch, int64(i), 7); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkRestore(b *testing.B) {
	for _, attributes := range []int16{0, bitLogAppendTime} {
		batch := newBatch(5, attributes, 1, make([]byte, 4000))
		if err := Stamp(batch, 5, 7); err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprintf("attributes=%#x", attributes), func(b *testing.B) {
			b.ReportAllocs()
			for i := range b.N {
				h := Header(batch)
				h.setAttributes(0) // as the destination's broker clears it
				if err := Restore(h, int64(i)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkWalkAndCheck(b *testing.B) {
	var records []byte
	for i := range 1000 {
		records = append(records, newBatch(int64(i), 0, 1, make([]byte, 100))...)
	}
	b.ReportAllocs()
	b.SetBytes(int64(len(records)))
	for b.Loop() {
		w := Walk(records)
		for w.Next() {
			if err := Check(w.Batch()); err != nil {
				b.Fatal(err)
			}
		}
		if w.Err() != nil {
			b.Fatal(w.Err())
		}
	}
}
