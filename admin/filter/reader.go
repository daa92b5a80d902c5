package filter

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// Reader reads the JSON of a filter config strictly. A field that is unknown, repeated or
// missing is an error, and so is any text behind the value: a misread filter would silently sync
// too much or too little. Every error begins with its place in the text.
type Reader struct {
	text string
	dec  *json.Decoder
}

// MaxValue bounds the length of one value in bytes: records of the state topic hold all
// configs of a link, and a broker takes no record over 1 MiB by default.
const MaxValue = 256 << 10

// maxFilters bounds the number of filters in one config.
const maxFilters = 4000

// NewReader begins to read text.
func NewReader(text string) (*Reader, error) {
	r := &Reader{text: text, dec: json.NewDecoder(strings.NewReader(text))}
	if len(text) > MaxValue {
		return nil, fmt.Errorf("%d bytes of JSON; at most %d are allowed", len(text), MaxValue)
	}
	// encoding/json would read invalid bytes as U+FFFD.
	for i, c := range text {
		if c == utf8.RuneError && !strings.HasPrefix(text[i:], "\uFFFD") {
			return nil, r.ErrorAt(i, "the text is not UTF-8")
		}
	}
	return r, nil
}

// ErrorAt returns an error with the line and column of a byte offset of the text.
func (r *Reader) ErrorAt(offset int, format string, args ...any) error {
	before := r.text[:min(offset, len(r.text))]
	line := strings.Count(before, "\n") + 1
	column := utf8.RuneCountInString(before[strings.LastIndexByte(before, '\n')+1:]) + 1
	return fmt.Errorf("line %d, column %d: %s", line, column, fmt.Sprintf(format, args...))
}

// next returns the byte offset at which the next token begins.
func (r *Reader) next() int {
	at := int(r.dec.InputOffset())
	return at + len(r.text[at:]) - len(strings.TrimLeft(r.text[at:], " \t\r\n,:"))
}

// token reads the next token. want says what is expected there, for the error.
func (r *Reader) token(want string) (token json.Token, at int, err error) {
	at = r.next()
	token, err = r.dec.Token()
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return nil, at, r.ErrorAt(len(r.text), "the text ends where %s is expected", want)
	case err != nil:
		return nil, at, r.ErrorAt(at, "%s where %s is expected", strings.TrimPrefix(err.Error(), "json: "), want)
	}
	return token, at, nil
}

// delim reads a bracket.
func (r *Reader) delim(d json.Delim, want string) (at int, err error) {
	token, at, err := r.token(want)
	if err == nil && token != d {
		err = r.ErrorAt(at, "%s is expected", want)
	}
	return at, err
}

// Str reads a string. what names it in errors.
func (r *Reader) Str(what string) (value string, at int, err error) {
	token, at, err := r.token("a string")
	if err != nil {
		return "", at, err
	}
	value, ok := token.(string)
	if !ok {
		return "", at, r.ErrorAt(at, "%s must be a string", what)
	}
	return value, at, nil
}

// word reads a string that must be one of the allowed words, in upper or lower case. The allowed
// words and the result are in upper case.
func (r *Reader) word(what string, allowed ...string) (string, error) {
	value, at, err := r.Str(what)
	if err != nil {
		return "", err
	}
	upper := strings.ToUpper(value)
	if !slices.Contains(allowed, upper) {
		return "", r.ErrorAt(at, "%s %s is not allowed; allowed: %s", what, Clipped(value), strings.Join(allowed, ", "))
	}
	return upper, nil
}

// Object reads an object in which each of the fields must occur once, in any order. It calls field
// to read each value. what names the object in errors.
func (r *Reader) Object(what string, fields []string, field func(name string) error) error {
	return r.ObjectWith(what, fields, nil, field)
}

// ObjectWith is object with fields that may be left out.
func (r *Reader) ObjectWith(what string, required, optional []string, field func(name string) error) error {
	fields := slices.Concat(required, optional)
	start, err := r.delim('{', what+", {...},")
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	for r.dec.More() {
		name, at, err := r.Str("the name of a field")
		switch {
		case err != nil:
			return err
		case !slices.Contains(fields, name):
			return r.ErrorAt(at, "%s has no field %s; allowed: %s", what, Clipped(name), strings.Join(fields, ", "))
		case seen[name]:
			return r.ErrorAt(at, "duplicate field %q", name)
		}
		seen[name] = true
		if err := field(name); err != nil {
			return err
		}
	}
	if _, err := r.delim('}', "a comma or }"); err != nil {
		return err
	}
	for _, name := range required {
		if !seen[name] {
			return r.ErrorAt(start, "%s must have the field %q", what, name)
		}
	}
	return nil
}

// Array reads an array of at most maxFilters elements; element reads one.
func (r *Reader) Array(what string, element func() error) error {
	if _, err := r.delim('[', what+", [...],"); err != nil {
		return err
	}
	for n := 0; r.dec.More(); n++ {
		if n == maxFilters {
			return r.ErrorAt(r.next(), "more than %d filters", maxFilters)
		}
		if err := element(); err != nil {
			return err
		}
	}
	_, err := r.delim(']', "a comma or ]")
	return err
}

// skip reads a value and drops it.
func (r *Reader) skip() error {
	at := r.next()
	switch err := r.dec.Decode(new(json.RawMessage)); {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return r.ErrorAt(len(r.text), "the text ends where more is expected")
	case err != nil:
		return r.ErrorAt(at, "%s in this value", strings.TrimPrefix(err.Error(), "json: "))
	}
	return nil
}

// End returns an error if anything follows the value.
func (r *Reader) End() error {
	if rest := strings.TrimLeft(r.text[r.dec.InputOffset():], " \t\r\n"); rest != "" {
		return r.ErrorAt(len(r.text)-len(rest), "unexpected text after the end of the JSON")
	}
	return nil
}

// Clipped quotes a value for an error, and cuts it to 80 bytes.
func Clipped(value string) string {
	if len(value) > 80 {
		value = value[:80] + "..."
	}
	return fmt.Sprintf("%q", value)
}

// Parse reads a filter config: an object whose only field is a list of filters. readOne reads one
// of them. An empty text has no filters.
func Parse[F any](text, field string, readOne func(*Reader) (F, error)) (filters []F, err error) {
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	r, err := NewReader(text)
	if err != nil {
		return nil, err
	}
	err = r.Object("the value", []string{field}, func(string) error {
		return r.Array("the value of "+field, func() error {
			f, err := readOne(r)
			filters = append(filters, f)
			return err
		})
	})
	if err == nil {
		err = r.End()
	}
	if err != nil {
		return nil, err
	}
	return filters, nil
}
