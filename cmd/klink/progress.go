package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/term"
)

const (
	// progressInterval is how often progress is looked at.
	progressInterval = 500 * time.Millisecond
	// progressLines is the least time between two lines where they cannot be written over.
	progressLines = 5 * time.Second
)

// progress shows how a command comes on: in a terminal by one line that is written over and over,
// elsewhere by a line from time to time, when something has changed.
type progress struct {
	out   io.Writer
	width int // of the terminal, 0 = it is none
	last  string
	at    time.Time // of the last line that stays
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
			text = text[:p.width-1] // a line that wraps cannot be written over
		}
		fmt.Fprintf(p.out, "\r\x1b[K%s", text)
	case now.Sub(p.at) >= progressLines:
		p.last, p.at = text, now
		fmt.Fprintln(p.out, text)
	}
}

// clear takes the line away that is written over.
func (p *progress) clear() {
	if p.width > 0 && p.last != "" {
		fmt.Fprint(p.out, "\r\x1b[K")
	}
}
