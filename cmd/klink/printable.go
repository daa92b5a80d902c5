package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/term"
)

// printable is a writer to a terminal, or to what may end on one. What klink prints comes from
// clusters, and so from people who may mean harm: names, error texts, records. Characters by which
// text commands a terminal, or reads other than it is written, are written as JSON writes them:
// \u001b. Line breaks and tabs stay.
//
// JSON of this program stays the same JSON, since such characters stand only within its strings.
type printable struct {
	mu   sync.Mutex
	to   io.Writer
	half []byte // the beginning of a character whose end has not come yet
}

// Write implements io.Writer. It claims all of b as written unless the writer below fails.
func (p *printable) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	text := append(p.half, b...)
	whole := len(text)
	for n := 1; n < utf8.UTFMax && n <= len(text); n++ {
		if at := len(text) - n; utf8.RuneStart(text[at]) {
			if !utf8.FullRune(text[at:]) {
				whole = at
			}
			break
		}
	}
	out := appendPrintable(nil, text[:whole])
	p.half = append([]byte(nil), text[whole:]...)
	if len(out) == 0 {
		return len(b), nil
	}
	if _, err := p.to.Write(out); err != nil {
		return 0, err
	}
	return len(b), nil
}

// flush writes the beginning of a character whose end never came.
func (p *printable) flush() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.half) > 0 {
		_, _ = p.to.Write(appendPrintable(nil, p.half))
		p.half = nil
	}
}

// appendPrintable appends text as printable writes it.
func appendPrintable(dst, text []byte) []byte {
	for len(text) > 0 {
		r, n := utf8.DecodeRune(text)
		switch {
		case r == utf8.RuneError && n == 1:
			dst = fmt.Appendf(dst, `\x%02x`, text[0])
		case !commands(r):
			dst = append(dst, text[:n]...)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			dst = fmt.Appendf(dst, `\u%04x\u%04x`, high, low)
		default:
			dst = fmt.Appendf(dst, `\u%04x`, r)
		}
		text = text[n:]
	}
	return dst
}

// commands says whether a character does something else than being shown: controls (C0, DEL, C1),
// those that turn the direction of text, separators of lines, and invisible tags.
func commands(r rune) bool {
	if r == '\n' || r == '\t' {
		return false
	}
	return unicode.In(r, unicode.Cc, unicode.Bidi_Control, unicode.Zl, unicode.Zp) || r >= 0xe0000 && r <= 0xe007f
}

// oneLine is text for a cell of a table or a line that is written over: it has no line breaks of
// its own.
func oneLine(text string) string {
	out := appendPrintable(nil, []byte(text))
	var line []byte
	for _, c := range out {
		switch c {
		case '\n':
			line = append(line, `\n`...)
		case '\t':
			line = append(line, `\t`...)
		default:
			line = append(line, c)
		}
	}
	return string(line)
}

// terminal says whether a writer leads to a terminal.
func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
