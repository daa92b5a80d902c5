package protocol

import "fmt"

// Node endpoints (KIP-951) are the addresses of new leaders. They stand in the tagged field 0 at
// the end of Produce v10+ and Fetch v16+ responses, and in an array at the end of ShareFetch and
// ShareAcknowledge responses. They save clients a Metadata request. Each is: node id int32, host
// compact string, port int32, rack compact nullable string, tags.

// padTag is the key of the unknown tag that fills up space. Clients skip tags that they do not know
// (KIP-482).
const padTag = 100

// tailSize returns the size of the token at the end of a streamed response of which left bytes are
// still to come. That is the whole tail if it can be held back, else as much as is needed to hide
// it.
func tailSize(left int) int {
	if left > maxToken {
		return maxTailHead
	}
	return max(left, 1)
}

// maxTailHead is the largest number of bytes that hideTags writes: count, key, two varints.
const maxTailHead = 8

// rewriteTail rewrites the tags at the end of a streamed response. b is the token of tailSize; rest
// bytes of the tail are still to come after it.
//
// The client already has the size of the frame, so the length cannot change. Addresses that take
// less room are padded with an unknown tag. If they take more, or belong to a broker for which
// klink has no listener, they are hidden: the bytes become one unknown tag of the same length.
// Clients then ask for Metadata, as they did before KIP-951.
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
// 0 rewritten. last is the highest key. It leaves out a broker that has no address, and returns
// unknown = true.
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
// It leaves out brokers that have none, and returns unknown = true.
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

// padTags copies a section of tags, whose highest key is last, into b, and fills the rest of b with
// an unknown tag. It returns false if the section does not fit.
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
		b[0]++ // the count of tags: still one byte, as it was below 127
	}
	return ok
}

// hideTags turns a section of total bytes into one unknown tag. b is the beginning of the section:
// all of it, or at least maxTailHead bytes. The bytes behind b become the value of the tag,
// unchanged.
func hideTags(b []byte, total int) {
	if n := min(total, len(b)); n > 0 {
		clear(b[:n])
	}
	head, size, ok := padTagHead([]byte{1}, padTag, total-1)
	if ok && len(head)+size == total {
		copy(b, head)
	}
	// Else the section has one or two bytes, which have room only for an empty section.
}

// appendPadTag appends an unknown tag that takes total bytes, with a value of zeros.
func appendPadTag(dst []byte, key uint32, total int) ([]byte, bool) {
	dst, size, ok := padTagHead(dst, key, total)
	return append(dst, make([]byte, size)...), ok
}

// padTagHead appends key and size of an unknown tag that takes total bytes. It uses key, or a
// higher key that takes one byte more: where the size of the value is near 128, 16384, ..., one of
// the two keys leaves a byte too many or too few.
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
