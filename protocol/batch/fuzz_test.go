package batch

import (
	"os"
	"path/filepath"
	"testing"
)

// seed adds the captured logs, whole and from the middle on.
func seed(f *testing.F) {
	for _, name := range captures(f, "*") {
		b, err := os.ReadFile(filepath.Join("testdata", name+".bin"))
		if err != nil {
			f.Fatal(err)
		}
		b = b[:min(len(b), 2000)]
		f.Add(b)
		f.Add(b[len(b)/2:])
	}
	f.Add(newBatch(5, 0, 1, []byte("r")))
	f.Add([]byte{})
}

// FuzzWalk: whatever a broker sends, the batches are whole, in place and do not overlap, and the
// walk ends.
func FuzzWalk(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, records []byte) {
		w := Walk(records)
		sum := 0
		for w.Next() {
			b := w.Batch()
			if len(b) < HeaderSize || len(b) != b.Size() || b.Magic() != 2 || &b[0] != &records[sum] {
				t.Fatalf("batch of %d bytes at %d, its header says %d and magic %d", len(b), sum, b.Size(), b.Magic())
			}
			sum += len(b)
		}
		if have, want := w.Cut(); w.Err() == nil && (have != len(records)-sum || want != 0 && have >= want) {
			t.Fatalf("cut %d of %d bytes, %d of %d walked", have, want, sum, len(records))
		}
	})
}

// FuzzStamp: whatever the bytes, checking, stamping, placing and restoring neither panic nor make a
// right checksum of a wrong one or the other way round, nor change the length or the records.
func FuzzStamp(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		right, before := VerifyCRC(b), string(b)
		checked := Check(b)
		if err := Stamp(b, 7, 3); err != nil {
			if checked == nil {
				t.Fatalf("Check let pass what Stamp refuses: %v", err)
			}
			if string(b) != before {
				t.Fatal("a refused stamp has changed the batch")
			}
			_ = Restore(b, 9)
			return
		}
		if VerifyCRC(b) != right {
			t.Fatalf("checksum right: %t before, %t after the stamp", right, !right)
		}
		SetPlace(b, 11)
		if VerifyCRC(b) != right {
			t.Fatalf("checksum right: %t before, %t after the place", right, !right)
		}
		if at, _, _, ok := ReadStamp(b); !ok || at != 7 {
			t.Fatalf("stamp %d, %t", at, ok)
		}
		if err := Restore(b, 9); err != nil || VerifyCRC(b) != right || string(b[atCount:]) != before[atCount:] {
			t.Fatalf("restore: %v", err)
		}
	})
}
