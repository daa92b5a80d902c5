package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/term"
)

const (
	// progressInterval is how often progress is checked.
	progressInterval = 500 * time.Millisecond
	// progressLines is the least time between two lines when lines cannot be overwritten.
	progressLines = 5 * time.Second
)

// progress shows the progress of a command. In a terminal it overwrites one line; elsewhere it
// prints a line from time to time, when something has changed.
type progress struct {
	out   io.Writer
	width int // of the terminal, 0 = not a terminal
	last  string
	at    time.Time // when the last permanent line was printed
}

func newProgress(out io.Writer) *progress {
	p := &progress{out: out, at: time.Now()}
	if terminal(out) {
		p.width = 80
		if w, _, err := term.GetSize(int(out.(*os.File).Fd())); err == nil && w > 0 {
			p.width = w
		}
	}
	return p
}

func (p *progress) show(text string, now time.Time) {
	text = oneLine(text)
	switch {
	case text == p.last:
	case p.width > 0:
		p.last = text
		if len(text) >= p.width {
			text = text[:p.width-1] // a line that wraps cannot be overwritten
		}
		fmt.Fprintf(p.out, "\r\x1b[K%s", text)
	case now.Sub(p.at) >= progressLines:
		p.last, p.at = text, now
		fmt.Fprintln(p.out, text)
	}
}

// clear erases the line that is overwritten.
func (p *progress) clear() {
	if p.width > 0 && p.last != "" {
		fmt.Fprint(p.out, "\r\x1b[K")
	}
}
