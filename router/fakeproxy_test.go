package router

import (
	"bytes"
	"context"
	"errors"
	"testing"
)

// fakeProxy carries out the decisions of a session as package proxy does, against a scripted
// broker, without sockets or goroutines. Where the contract leaves a real proxy free, it is as
// strict as possible: it overwrites a frame at once when the session has given it up, and feeds
// streams in pieces.
type fakeProxy struct {
	t       testing.TB
	session Session
	// broker answers a request frame; nil = it closes the connection.
	broker func(request []byte) []byte
	// wait is called when a Run function parks; it makes the awaited event happen.
	wait func()
	// piece is the size of the pieces that streams get; 0 = the whole response at once.
	piece int
	// maxSteps bounds the decisions taken on one request, 0 = 50.
	maxSteps int
}

// exchanged is the outcome of a request.
type exchanged struct {
	answer  []byte // nil = none
	dropped bool
	closed  error
	asked   [][]byte // what went upstream, in order
}

// exchange sends one request frame through the session.
func (p *fakeProxy) exchange(request []byte) (out exchanged) {
	p.t.Helper()
	given := bytes.Clone(request)
	d := p.session.Request(given)
	exclusive := d.Exclusive
	steps := p.maxSteps
	if steps == 0 {
		steps = 50
	}
	for ; steps > 0; steps-- {
		if d.Upstream != Destination {
			p.t.Fatalf("a decision goes to upstream %d", d.Upstream)
		}
		switch d.Action {
		case Answer:
			out.answer = bytes.Clone(d.Frame)
			scribble(given)
			return out
		case Drop:
			out.dropped = true
			return out
		case Close:
			if d.Err == nil {
				p.t.Fatal("a connection is closed without a reason")
			}
			out.closed = d.Err
			return out
		case Retry:
			given = bytes.Clone(request)
			d = p.session.Request(given)
			exclusive = exclusive || d.Exclusive
		case Run:
			if p.wait != nil {
				p.wait()
			}
			d = d.Run(context.Background())
		case Forward:
			if len(out.asked) > 0 && !exclusive {
				p.t.Fatal("a follow-up request, though later requests of the connection are not held back")
			}
			sent := bytes.Clone(d.Frame)
			out.asked = append(out.asked, sent)
			scribble(given) // forwarded, so given up
			if d.NoResponse {
				out.dropped = true
				return out
			}
			response := p.broker(sent)
			switch {
			case response == nil:
				out.closed = errBrokerGone
				return out
			case d.Stream != nil && d.Whole != nil:
				p.t.Fatal("a decision has both Stream and Whole")
			case d.Whole != nil:
				given = response
				d = d.Whole(response)
			case d.Stream != nil:
				out.answer, out.closed = p.stream(d.Stream, response)
				return out
			default:
				out.answer = response
				return out
			}
		default:
			p.t.Fatalf("unknown action %d", d.Action)
		}
	}
	p.t.Fatal("the session never comes to an end with a request")
	return out
}

func (p *fakeProxy) stream(s Stream, response []byte) (answer []byte, err error) {
	size := p.piece
	if size == 0 {
		size = len(response)
	}
	for at := 0; at < len(response); at += size {
		piece := bytes.Clone(response[at:min(at+size, len(response))])
		head, tail, err := s.Next(piece)
		if err != nil {
			return nil, err
		}
		answer = append(append(answer, head...), tail...)
		scribble(piece)
	}
	if len(answer) != len(response) {
		p.t.Fatalf("a stream turned %d bytes into %d", len(response), len(answer))
	}
	return answer, nil
}

// errBrokerGone is the end of a connection that the broker closed.
var errBrokerGone = errors.New("closed by the broker")

// scribble overwrites memory that its holder has given up, so that a later use of it is detected.
func scribble(p []byte) {
	for i := range p {
		p[i] = 0xaa
	}
}
