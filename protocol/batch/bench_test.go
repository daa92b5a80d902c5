package batch

import (
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
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

// BenchmarkRuns splits batches that compaction has thinned to every second record, the worst case,
// and to all but one.
func BenchmarkRuns(b *testing.B) {
	for codec := codecNone; codec <= codecZstd; codec++ {
		for name, keep := range map[string]func(i int32) bool{
			"half":   func(i int32) bool { return i%2 == 0 },
			"most":   func(i int32) bool { return i != 500 },
			"single": func(i int32) bool { return i == 500 },
		} {
			var records []kmsg.Record
			for i := range int32(1000) {
				if keep(i) {
					records = append(records, makeRecord(i, int64(i), fmt.Appendf(nil, "key-%d", i*7919), fmt.Appendf(nil, "value of %d, %x", i, i*104729)))
				}
			}
			batch := kmsgBatch(b, 0, int16(codec), 999, records)
			b.Run(fmt.Sprintf("codec%d/%s", codec, name), func(b *testing.B) {
				var r Recoder
				runs := 0
				b.ReportAllocs()
				for b.Loop() {
					if err := r.Runs(batch, 0, func(Header) error { runs++; return nil }); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(runs), "ns/run")
			})
		}
	}
}

func BenchmarkConvert(b *testing.B) {
	var set []byte
	for i := range int64(1000) {
		set = append(set, oldMessage(1, i, 0, i, []byte("key"), make([]byte, 100))...)
	}
	var r Recoder
	b.ReportAllocs()
	b.SetBytes(int64(len(set)))
	for b.Loop() {
		if _, _, err := r.Convert(set, 0, func(Header) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
}
