package linkapi

import (
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kbin"
)

// Every error about malformed bytes wraps ErrMalformed.
var ErrMalformed = errors.New("malformed link API message")

// codec walks the fields of a message once, in the order of its schema, and either appends them to
// dst or fills them from src. One walk serves both directions, so that they cannot disagree.
//
// The encoding is that of Kafka's flexible versions (KIP-482): compact strings and arrays, and a
// tag section at the end of each struct. codec writes empty tag sections, and skips them when it
// reads. Writing changes no field.
//
// When it reads, codec does not trust src. It allocates nothing for an array that the bytes left
// could not fill. After the first error every further read gives zero values, so that a walk always
// ends.
type codec struct {
	dst  []byte
	src  kbin.Reader
	read bool
	err  error // the first error in src that kbin does not detect
}

// appendTo appends the message whose fields `fields` walks.
func appendTo(dst []byte, fields func(*codec)) []byte {
	c := codec{dst: dst}
	fields(&c)
	c.tags()
	return c.dst
}

// readFrom fills the message whose fields `fields` walks from src, and uses all of src. It copies
// strings, so src may be reused. After an error the message is half filled.
func readFrom(src []byte, key int16, kind string, fields func(*codec)) error {
	c := codec{src: kbin.Reader{Src: src}, read: true}
	fields(&c)
	c.tags()
	switch {
	case c.err != nil:
		return fmt.Errorf("%w: %s %s: %w", ErrMalformed, Name(key), kind, c.err)
	case !c.src.Ok():
		return fmt.Errorf("%w: %s %s of %d bytes is cut short or has a bad length in it", ErrMalformed, Name(key), kind, len(src))
	case len(c.src.Src) > 0:
		return fmt.Errorf("%w: %s %s of %d bytes has %d bytes too many", ErrMalformed, Name(key), kind, len(src), len(c.src.Src))
	}
	return nil
}

// ok reports whether reading has met no error so far.
func (c *codec) ok() bool { return c.err == nil && c.src.Ok() }

// fail ends a read: it drops the rest of src.
func (c *codec) fail(format string, args ...any) {
	if c.ok() {
		c.err = fmt.Errorf(format, args...)
	}
	c.src.Src = nil
}

func (c *codec) bool(v *bool) {
	if c.read {
		*v = c.src.Bool()
		return
	}
	c.dst = kbin.AppendBool(c.dst, *v)
}

func (c *codec) int8(v *int8) {
	if c.read {
		*v = c.src.Int8()
		return
	}
	c.dst = kbin.AppendInt8(c.dst, *v)
}

func (c *codec) int16(v *int16) {
	if c.read {
		*v = c.src.Int16()
		return
	}
	c.dst = kbin.AppendInt16(c.dst, *v)
}

func (c *codec) int32(v *int32) {
	if c.read {
		*v = c.src.Int32()
		return
	}
	c.dst = kbin.AppendInt32(c.dst, *v)
}

func (c *codec) int64(v *int64) {
	if c.read {
		*v = c.src.Int64()
		return
	}
	c.dst = kbin.AppendInt64(c.dst, *v)
}

func (c *codec) string(v *string) {
	if c.read {
		*v = c.src.CompactString()
		return
	}
	c.dst = kbin.AppendCompactString(c.dst, *v)
}

func (c *codec) nullableString(v **string) {
	if c.read {
		*v = c.src.CompactNullableString()
		return
	}
	c.dst = kbin.AppendCompactNullableString(c.dst, *v)
}

// strings is an array of strings that may not be null.
func (c *codec) strings(v *[]string) { array(c, v, 1, (*codec).string) }

// nullableStrings is an array of strings that may be null, which is not the same as empty.
func (c *codec) nullableStrings(v *[]string) {
	if c.read {
		if len(c.src.Src) > 0 && c.src.Src[0] == 0 {
			c.src.Src, *v = c.src.Src[1:], nil
			return
		}
		c.strings(v)
		if *v == nil {
			*v = []string{}
		}
		return
	}
	if *v == nil {
		c.dst = append(c.dst, 0)
		return
	}
	c.strings(v)
}

// structs is an array of structs, each with a tag section at its end. min is the smallest number of
// bytes that a struct takes without that section. It bounds the array length that a message may
// claim.
func structs[T any](c *codec, v *[]T, min int, fields func(*T, *codec)) {
	array(c, v, min+1, func(c *codec, e *T) {
		fields(e, c)
		c.tags()
	})
}

// array is a non-null array; an empty one is read as nil. min is the smallest number of bytes of an
// element.
func array[T any](c *codec, v *[]T, min int, element func(*codec, *T)) {
	if !c.read {
		c.dst = kbin.AppendCompactArrayLen(c.dst, len(*v))
		for i := range *v {
			element(c, &(*v)[i])
		}
		return
	}
	*v = nil
	n := int64(c.src.Uvarint()) - 1
	switch left := int64(len(c.src.Src)); {
	case !c.ok() || n == 0:
		return
	case n < 0:
		c.fail("an array that must not be null is null")
		return
	case n*int64(min) > left:
		c.fail("an array claims %d elements with %d bytes left", n, left)
		return
	}
	s := make([]T, n)
	for i := range s {
		if element(c, &s[i]); !c.ok() {
			return
		}
	}
	*v = s
}

// tags writes an empty tag section, or skips one. (kmsg.SkipTags would loop as often as a hostile
// count says, even after the bytes have run out.)
func (c *codec) tags() {
	if !c.read {
		c.dst = append(c.dst, 0)
		return
	}
	for n := c.src.Uvarint(); n > 0 && c.ok(); n-- {
		c.src.Uvarint()
		c.src.Span(int(c.src.Uvarint()))
	}
}
