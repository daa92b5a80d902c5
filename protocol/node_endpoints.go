package protocol

import "fmt"

// Node endpoints (KIP-951): the addresses of new leaders, in the tagged field 0 at the end of
// Produce v10+ and Fetch v16+ responses, and in an array at the end of ShareFetch and
// ShareAcknowledge responses. Clients use them to save a Metadata request. Each is: node id int32,
// host compact string, port int32, rack compact nullable string, tags.

// padTag is the key of the unknown tag that fills up space. Clients skip tags that they do not know
// (KIP-482).
const padTag = 100

// tailSize is the size of the token at the end of a streamed response of which left bytes are to
// come: all of it if that can be held back, else as much as it takes to hide it.
func tailSize(left int) int {
	if left > maxToken {
		return maxTailHead
	}
	return max(left, 1)
}

// maxTailHead is the most that hideTags writes: count, key, two varints.
const maxTailHead = 8

// rewriteTail rewrites the tags at the end of a streamed response. b is the token of tailSize, of
// which rest bytes are still to come.
//
// The size of the frame was sent long ago, so the length cannot change. Addresses that take less
// room are padded with an unknown tag. Those that take more, or belong to a broker without a
// listener of klink, are hidden: the bytes become one unknown tag of the same length, and the
// clients ask for Metadata, as they did before KIP-951.
func rewriteTail(b []byte, rest int, brokers Brokers, skip func(int)) error {
	if rest > 0 {
		hideTags(b, len(b)+rest)
		skip(rest)
		return nil
	}
	if len(b) == 1 && b[0] == 0 {
		return nil
	}
	r := Reader{Buf: b, Flexible: true}
	out, last, unknown := rewriteEndpointTags(nil, &r, brokers)
	if err := r.Err(); err != nil {
		return err
	}
	if r.Left() > 0 {
		return fmt.Errorf("%w: %d bytes after the last tag of a response", ErrMalformed, r.Left())
	}
	if unknown || !padTags(b, out, last) {
		hideTags(b, len(b))
	}
	return nil
}

// rewriteEndpointTags reads a section of tags and appends it to dst with the node endpoints of tag
// 0 rewritten. last is the highest key. unknown is true if a broker has no address; it is left out
// then.
func rewriteEndpointTags(dst []byte, r *Reader, brokers Brokers) (_ []byte, last uint32, unknown bool) {
	n := r.Uvarint()
	dst = appendUvarint(dst, n)
	for ; n > 0 && r.Ok(); n-- {
		key := r.Uvarint()
		value := r.Span(int(r.Uvarint()))
		last = max(last, key)
		if key == 0 && r.Ok() {
			inner := Reader{Buf: value, Flexible: true}
			value, unknown = rewriteEndpoints(nil, &inner, brokers)
			if !inner.Ok() || inner.Left() > 0 {
				r.fail()
			}
		}
		dst = appendUvarint(dst, key)
		dst = appendUvarint(dst, uint32(len(value)))
		dst = append(dst, value...)
	}
	return dst, last, unknown
}

// rewriteEndpoints reads an array of node endpoints and appends it to dst with klink's addresses.
// Brokers without one are left out, and unknown is true.
func rewriteEndpoints(dst []byte, r *Reader, brokers Brokers) (_ []byte, unknown bool) {
	var endpoints []byte
	kept := 0
	for n := r.Array(); n > 0 && r.Ok(); n-- {
		id := r.Int32()
		r.String()
		r.Int32()
		from := r.At
		r.String()
		r.Tags()
		if !r.Ok() {
			break
		}
		host, port, ok := brokers.Address(id)
		if !ok {
			unknown = true
			continue
		}
		kept++
		endpoints = appendInt32(endpoints, id)
		endpoints = appendString(endpoints, true, host)
		endpoints = appendInt32(endpoints, port)
		endpoints = append(endpoints, r.Buf[from:r.At]...)
	}
	return append(appendCount(dst, true, kept), endpoints...), unknown
}

// padTags puts the section of tags tags, of which the last has the key last, into b, filled up with
// an unknown tag; false = it does not fit.
func padTags(b, tags []byte, last uint32) bool {
	gap := len(b) - len(tags)
	if gap == 0 {
		copy(b, tags)
		return true
	}
	if gap < 0 || tags[0] >= 127 {
		return false
	}
	padded, ok := appendPadTag(tags, max(padTag, last+1), gap)
	if ok {
		copy(b, padded)
		b[0]++ // the count: one byte, as it was below 127
	}
	return ok
}

// hideTags makes a section of total bytes one unknown tag. b is its beginning, maxTailHead bytes at
// least if it is not all of it; what follows b becomes the tag's value as it is.
func hideTags(b []byte, total int) {
	if n := min(total, len(b)); n > 0 {
		clear(b[:n])
	}
	head, size, ok := padTagHead([]byte{1}, padTag, total-1)
	if ok && len(head)+size == total {
		copy(b, head)
	}
	// else one or two bytes: they have room for no tag but the empty section.
}

// appendPadTag appends an unknown tag that takes total bytes, with a value of zeros.
func appendPadTag(dst []byte, key uint32, total int) ([]byte, bool) {
	dst, size, ok := padTagHead(dst, key, total)
	return append(dst, make([]byte, size)...), ok
}

// padTagHead appends key and size of an unknown tag that takes total bytes. The key is key, or a
// higher one that takes one byte more: where the size of the value is near 128, 16384, ... one of
// the two leaves a byte too many or too few.
func padTagHead(dst []byte, key uint32, total int) (head []byte, size int, ok bool) {
	longer := uint32(1 << 7)
	for longer <= key {
		longer <<= 7
	}
	for _, key := range []uint32{key, longer} {
		head := appendUvarint(dst, key)
		for n := 1; n <= 5; n++ {
			size := total - (len(head) - len(dst)) - n
			if size < 0 {
				break
			}
			if full := appendUvarint(head, uint32(size)); len(full) == len(head)+n {
				return full, size, true
			}
		}
	}
	return dst, 0, false
}
