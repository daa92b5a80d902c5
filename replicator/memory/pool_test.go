package memory

import (
	"testing"

	"pgregory.net/rapid"
)

// TestPoolSizes: memory is large enough, is at most a quarter too large, and each size has its own
// index.
func TestPoolSizes(t *testing.T) {
	last, number := int64(0), -1
	for n := int64(1); n <= maxClass; n += 1 + n/50 {
		size, class := classOf(n)
		if size < n || n > minClass && size*4 > n*5 || class < 0 || class >= classes {
			t.Fatalf("%d bytes get %d, number %d", n, size, class)
		}
		if again, same := classOf(size); again != size || same != class {
			t.Fatalf("%d bytes get %d, number %d; %d get %d, number %d", n, size, class, size, again, same)
		}
		if (size == last) != (class == number) || size < last || class < number {
			t.Fatalf("size %d has number %d, size %d %d", last, number, size, class)
		}
		last, number = size, class
		if floor := FloorClass(max(n, minClass)); floor > max(n, minClass) || floor*5 < max(n, minClass)*4 {
			t.Fatalf("the largest size up to %d is %d", n, floor)
		} else if size, _ := classOf(floor); size != floor {
			t.Fatalf("%d is no size", floor)
		}
	}
	if size, class := classOf(maxClass + 1); size != maxClass+1 || class != -1 {
		t.Errorf("above the largest size: %d, number %d", size, class)
	}
}

// TestPoolIsBounded: the pool gives no memory out twice, keeps no more than its bound, and gives up
// what nobody uses.
func TestPoolIsBounded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := newPool(8 << 20)
		var out [][]byte
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			if len(out) > 0 && rapid.Bool().Draw(t, "put") {
				i := rapid.IntRange(0, len(out)-1).Draw(t, "which")
				p.put(out[i])
				out = append(out[:i], out[i+1:]...)
			} else {
				b := p.get(rapid.Int64Range(1, 2<<20).Draw(t, "size"))
				for _, other := range out {
					if &b[0] == &other[0] {
						t.Fatal("the same memory was given out twice")
					}
				}
				out = append(out, b)
			}
			if rapid.IntRange(0, 20).Draw(t, "trim") == 0 {
				p.Trim()
			}
			sum := int64(0)
			for _, free := range p.free {
				for _, b := range free {
					sum += int64(cap(b))
				}
			}
			if sum != p.idle || p.idle > 1<<20 {
				t.Fatalf("%d bytes are kept, counted as %d", sum, p.idle)
			}
		}
		p.Trim()
		if p.Trim(); p.idle != 0 {
			t.Fatalf("%d bytes are kept that nobody has wanted", p.idle)
		}
	})
}

// TestFrameGrows: a frame keeps what was read into it, and is accounted for by the size of its
// memory.
func TestFrameGrows(t *testing.T) {
	b := NewBudget(1 << 20)
	if err := b.Reserve(t.Context(), 64<<10); err != nil {
		t.Fatal(err)
	}
	f := b.Read(64<<10, 5000)
	copy(f.Mem, "hello")
	if held, _ := b.Usage(); held != int64(len(f.Mem)) || len(f.Mem) != 5120 || b.free != 1<<20-held {
		t.Fatalf("%d bytes of memory, %d held, %d free", len(f.Mem), held, b.free)
	}
	f.Grow(5, 100_000)
	if held, _ := b.Usage(); held != int64(len(f.Mem)) || len(f.Mem) < 100_000 || string(f.Mem[:5]) != "hello" || b.free != 1<<20-held {
		t.Fatalf("%d bytes of memory, %d held, %d free", len(f.Mem), held, b.free)
	}
	f.Keep()
	f.Release()
	f.Release()
	if held, _ := b.Usage(); held != 0 || b.free != 1<<20 {
		t.Fatalf("%d held, %d free at the end", held, b.free)
	}
}
