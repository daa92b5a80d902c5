package protocol

import (
	"fmt"
	"math"
	"unicode/utf8"
)

// Brokers keep some arrays of requests in a hash table while they parse them: the topics of a
// Produce or an OffsetForLeaderEpoch, the resources of an AlterConfigs. The table
// (org.apache.kafka.common.utils.ImplicitLinkedHashCollection) is twice as large as the array, has
// the elements at hash modulo size, and goes on to the next free place. 174,762 elements with an
// empty name, in 1 MiB, kept a network thread of a broker busy for more than 15 s, and with it
// every client of that thread. What brokers then do with elements of the same key takes even
// longer: 5000 times the same topic in an OffsetForLeaderEpoch, in 60 KB, took 84 s. CheckCrowd
// does what the broker would do, with hash codes instead of elements, and gives up soon.

// crowd counts what a broker would do for arrays.
type crowd struct {
	steps int   // in its hash tables, that are still allowed; below 0 = more than enough
	hash  int32 // of the key of the element at hand, as far as it has been read
}

const (
	// crowdFrame is the smallest frame that is looked at, in bytes. What a smaller one costs a
	// broker is no more than other requests do.
	crowdFrame = 1 << 10
	// crowdArray is the smallest array that is looked at.
	crowdArray = 64
	// crowdSteps are allowed in any case, and crowdStepsEach for each element besides. Honest names
	// need steps, too: Java's hash code puts names that differ in numbers close to each other, up
	// to 190 steps for each of 2500 (TestHonestNamesAreNoCrowd).
	crowdSteps     = 1 << 18
	crowdStepsEach = 256
	// crowdTwins elements may have one hash code, and one more for every crowdTwinOf elements: of
	// 100,000 honest names up to 3 had the hash code of another one, of a million 116. Codes are
	// counted in buckets, which several codes may share.
	crowdTwins  = 64
	crowdTwinOf = 1000
	// crowdSmall is the size of the largest table for which nothing is allocated, and the buckets
	// that go with it; crowdBuckets go with larger ones.
	crowdSmall   = 1 << 11
	crowdBuckets = 1 << 16
)

// CheckCrowd refuses a request that would keep a broker busy for a time that grows with the square
// of its size. frame is a whole request with its size in front, and h its header. The error wraps
// ErrMalformed. It allocates only for arrays of more than 4096 elements, and a bit for each half of
// one.
func CheckCrowd(h RequestHeader, frame []byte) error {
	if len(frame) < crowdFrame || h.Key < 0 || h.Key > MaxClientKey || !crowded[h.Key] {
		return nil
	}
	if crowdLeft(h, frame) < 0 {
		return fmt.Errorf("%w: an array names the same too often, or names that collide: a broker would be busy with the %d bytes for long",
			ErrMalformed, len(frame))
	}
	return nil // what is cut short is for the broker to say
}

// crowdLeft is how many steps are left after a broker has read the request; below 0 = it takes too
// many.
func crowdLeft(h RequestHeader, frame []byte) int {
	m := messages[h.Key]
	c := crowd{steps: crowdSteps}
	w := shapeWalk{version: h.Version, flexible: h.Version >= m.FlexibleFrom, elements: math.MaxInt, memory: math.MaxInt, crowd: &c}
	w.part, w.left = frame[h.Body:], len(frame)-h.Body
	w.fields(m.Request)
	return c.steps
}

// crowded are the keys of requests with arrays that brokers keep by their keys.
var crowded = func() (of [MaxClientKey + 1]bool) {
	for key := range of {
		of[key] = messages[int16(key)].Request.anyKeyed()
	}
	return of
}()

func (s Shape) anyKeyed() bool {
	for i := range s {
		if s[i].keyed || s[i].fields.anyKeyed() {
			return true
		}
	}
	return false
}

// keyed walks an array of n structs that have a key.
func (w *shapeWalk) keyed(f *ShapeField, n int) {
	outer := w.crowd.hash
	if n >= crowdArray {
		w.count(f, n)
	} else {
		for ; n > 0 && w.ok(); n-- {
			w.fields(f.fields)
		}
	}
	w.crowd.hash = outer
}

// count is keyed for an array that is large enough to be looked at.
func (w *shapeWalk) count(f *ShapeField, n int) {
	var smallTable [crowdSmall / 64]uint64
	var smallBuckets [crowdSmall]uint16
	size := 2*n + 1 // of the broker's table
	taken, buckets := smallTable[:], smallBuckets[:]
	if size > crowdSmall {
		taken, buckets = make([]uint64, size/64+1), make([]uint16, crowdBuckets)
	}
	c := w.crowd
	for seen := 0; seen < n && w.ok(); seen++ {
		c.hash = 0
		w.fields(f.fields)
		if w.bad {
			return
		}
		c.steps += crowdStepsEach
		c.put(taken, size)
		b := &buckets[uint32(c.hash)*0x9e3779b1>>16%uint32(len(buckets))]
		if *b++; int(*b) > crowdTwins+seen/crowdTwinOf {
			c.steps = -1
		}
	}
}

// put takes the place that the element at hand gets in a table, and counts the steps to it.
func (c *crowd) put(taken []uint64, size int) {
	at := int(c.hash&0x7fffffff) % size
	for ; taken[at/64]>>(at%64)&1 == 1 && c.steps >= 0; c.steps-- {
		if at++; at == size {
			at = 0
		}
	}
	taken[at/64] |= 1 << (at % 64)
}

// add adds the hash of a field to that of the key, as Kafka's generated classes do.
func (c *crowd) add(hash int32) { c.hash = 31*c.hash + hash }

// hash reads a field and gives what Java's hashCode would.
func (w *shapeWalk) hash(f *ShapeField) (h int32) {
	switch {
	case f.kind == shapeString:
		n := w.textLen(false)
		if n > w.left {
			w.fail()
			return 0
		}
		h = javaHash(w.part[:n])
		w.skip(n)
	case f.size == 16: // a uuid
		var halves [2]uint64
		for i := range halves {
			for range 8 {
				halves[i] = halves[i]<<8 | uint64(w.byte())
			}
		}
		x := halves[0] ^ halves[1]
		h = int32(x>>32) ^ int32(x)
	case f.size == 4:
		h = int32(w.int32())
	default: // a byte
		h = int32(int8(w.byte()))
	}
	return h
}

// javaHash is String.hashCode of UTF-8 bytes. Where they are no UTF-8, how Java reads them is not
// imitated: they are all taken for the same.
func javaHash(b []byte) (h int32) {
	for len(b) > 0 {
		if b[0] < utf8.RuneSelf {
			h = 31*h + int32(b[0])
			b = b[1:]
			continue
		}
		r, n := utf8.DecodeRune(b)
		if r == utf8.RuneError && n <= 1 {
			return 0
		}
		b = b[n:]
		if r > 0xffff { // two UTF-16 units
			r -= 0x10000
			h = 31*h + (0xd800 + r>>10)
			r = 0xdc00 + r&0x3ff
		}
		h = 31*h + r
	}
	return h
}
