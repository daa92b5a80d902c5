// Package jsonbound bounds JSON before a general decoder sees it. So others cannot choose how deep
// a decoder recurses, or how much it allocates.
package jsonbound

import "fmt"

// Limits are the limits of one JSON text.
type Limits struct {
	Bytes  int // length of the text
	Depth  int // nesting of arrays and objects
	Values int // array elements, object members and member names, together
}

// Check returns an error if the text exceeds a limit. It does not validate the JSON: the decoder
// does that, within the limits. It allocates nothing but the error.
func Check(text []byte, l Limits) error {
	if len(text) > l.Bytes {
		return fmt.Errorf("%d bytes are too many: at most %d", len(text), l.Bytes)
	}
	depth, values := 0, 1
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '"':
			for i++; i < len(text) && text[i] != '"'; i++ {
				if text[i] == '\\' {
					i++
				}
			}
		case '[', '{':
			depth++
			values++
			if depth > l.Depth {
				return fmt.Errorf("it is nested deeper than %d", l.Depth)
			}
		case ']', '}':
			depth = max(depth-1, 0) // more closed than opened is not JSON
		case ',', ':':
			values++
		}
		if values > l.Values {
			return fmt.Errorf("it has more than %d values", l.Values)
		}
	}
	return nil
}
