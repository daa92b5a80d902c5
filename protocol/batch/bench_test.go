package batch

import (
	"fmt"
	"testing"
)

func BenchmarkStampCRC(b *testing.B) {
	for _, size := range []int{128, 256, 512, 1 << 10, 2 << 10, 4 << 10, 16 << 10, 128 << 10, 1 << 20} {
		batch := Header(newBatch(5, 0, 1, make([]byte, size-HeaderSize)))
		for _, how := range []struct {
			name  string
			patch func(Header, func(Header))
		}{{"patch", patchCRC}, {"recompute", recomputeCRC}} {
			b.Run(fmt.Sprintf("%s/%d", how.name, size), func(b *testing.B) {
				b.ReportAllocs()
				for i := range b.N {
					how.patch(batch, func(h Header) { writeStamp(h, int64(i), 7) })
				}
			})
		}
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
