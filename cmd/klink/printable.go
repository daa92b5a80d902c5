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

// printable filters output that may reach a terminal. klink prints text from clusters, and so from
// people who may mean harm: names, error texts, records. Some characters command a terminal, or
// make text read differently from how it is written. printable writes them as JSON does: \u001b.
// Line breaks and tabs stay.
//
// klink's JSON output keeps its meaning, because such characters occur only within its strings.
type printable struct {
	mu   sync.Mutex
	to   io.Writer
	half []byte // an incomplete character at the end of the last Write
}

// Write implements io.Writer. It reports all of b as written unless the underlying writer fails.
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

// flush writes an incomplete character that was never completed.
func (p *printable) flush() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.half) > 0 {
		_, _ = p.to.Write(appendPrintable(nil, p.half))
		p.half = nil
	}
}

// appendPrintable appends text in the form that printable writes.
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

// commands reports whether a character does something other than show itself: controls (C0, DEL,
// C1), changes of text direction, line separators, and invisible tags.
func commands(r rune) bool {
	if r == '\n' || r == '\t' {
		return false
	}
	return unicode.In(r, unicode.Cc, unicode.Bidi_Control, unicode.Zl, unicode.Zp) || r >= 0xe0000 && r <= 0xe007f
}

// oneLine returns text without line breaks, for a table cell or a line that is overwritten.
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

// terminal reports whether a writer is a terminal.
func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
