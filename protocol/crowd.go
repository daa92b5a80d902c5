package protocol

import (
	"fmt"
	"math"
	"unicode/utf8"
)

// While brokers parse a request they keep some of its arrays in a hash table: the topics of a
// Produce or an OffsetForLeaderEpoch, the resources of an AlterConfigs. The table
// (org.apache.kafka.common.utils.ImplicitLinkedHashCollection) is twice as large as the array, puts
// an element at hash modulo size, and on a collision probes the next places in order. 174,762
// elements with an empty name, in 1 MiB, kept a network thread of a broker busy for more than 15 s,
// and with it every client of that thread. What a broker then does with elements of the same key
// takes even longer: an OffsetForLeaderEpoch with 5000 times the same topic, in 60 KB, took 84 s.
//
// CheckCrowd does what the broker would do, with hash codes instead of elements, and gives up
// early.

// crowd counts the work that a broker would have with the arrays of a request.
type crowd struct {
	steps int   // in the broker's hash tables, that are still allowed; below 0 = too many
	hash  int32 // of the part of the current element's key that has been read
}

const (
	// crowdFrame is the size in bytes of the smallest frame that is checked. A smaller one costs a
	// broker no more than other requests do.
	crowdFrame = 1 << 10
	// crowdArray is the number of elements of the smallest array that is checked.
	crowdArray = 64
	// A request may cost crowdSteps, and crowdStepsEach more for each element. Honest names need
	// steps too: Java's hash code puts names that differ only in numbers close to each other, up to
	// 190 steps for each of 2500 names (TestHonestNamesAreNoCrowd).
	crowdSteps     = 1 << 18
	crowdStepsEach = 256
	// crowdTwins elements may share one hash code, and one more for every crowdTwinOf elements. Of
	// 100,000 honest names up to 3 had the hash code of another name, of a million 116. Codes are
	// counted in buckets, which several codes may share.
	crowdTwins  = 64
	crowdTwinOf = 1000
	// crowdSmall is the size of the largest table that is checked without allocating, and the
	// number of buckets for such tables. Larger tables get crowdBuckets buckets.
	crowdSmall   = 1 << 11
	crowdBuckets = 1 << 16
)

// CheckCrowd refuses a request that would keep a broker busy for a time that grows with the square
// of its size. frame is a whole request with its size prefix, and h its header. The error wraps
// ErrMalformed. CheckCrowd allocates only for arrays of more than 1023 elements: two bits for
// each element, and the buckets.
func CheckCrowd(h RequestHeader, frame []byte) error {
	if len(frame) < crowdFrame || h.Key < 0 || h.Key > MaxClientKey || !crowded[h.Key] {
		return nil
	}
	if crowdLeft(h, frame) < 0 {
		return fmt.Errorf("%w: an array names the same too often, or names that collide: a broker would be busy with the %d bytes for long",
			ErrMalformed, len(frame))
	}
	return nil // if the request is cut short, the broker says so
}

// crowdLeft returns how many steps are left after a broker has read the request. Below 0 = the
// request takes too many.
func crowdLeft(h RequestHeader, frame []byte) int {
	m := messages[h.Key]
	c := crowd{steps: crowdSteps}
	w := shapeWalk{version: h.Version, flexible: h.Version >= m.FlexibleFrom, elements: math.MaxInt, memory: math.MaxInt, crowd: &c}
	w.part, w.left = frame[h.Body:], len(frame)-h.Body
	w.fields(m.Request)
	return c.steps
}

// crowded marks the API keys whose requests have arrays that brokers keep in a hash table.
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

// keyed walks an array of n structs that have a key. It counts only arrays of crowdArray elements
// or more.
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

// count walks an array that is large enough to be checked, and counts its work.
func (w *shapeWalk) count(f *ShapeField, n int) {
	var smallTable [crowdSmall / 64]uint64
	var smallBuckets [crowdSmall]uint16
	size := 2*n + 1 // of the broker's hash table
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

// put takes the place in the table that the current element would get, and counts the steps to it.
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

// hash reads a field and returns what Java's hashCode would.
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

// javaHash returns Java's String.hashCode of UTF-8 bytes. Bytes that are not valid UTF-8 all get 0:
// it does not imitate how Java reads them.
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
