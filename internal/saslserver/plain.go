package saslserver

import (
	"bytes"
	"context"
	"unicode/utf8"
)

// plainExchange is PLAIN (RFC 4616): authorization id, name and password, with zero bytes between.
type plainExchange struct{ server *Server }

// Step implements Exchange.
func (e plainExchange) Step(ctx context.Context, message []byte) ([]byte, *Client, error) {
	parts := bytes.Split(message, []byte{0})
	if len(parts) != 3 || !utf8.Valid(message) || len(parts[1]) == 0 || len(parts[2]) == 0 {
		return nil, nil, malformed(Plain)
	}
	id, name, password := string(parts[0]), string(parts[1]), string(parts[2])
	if id != "" && id != name {
		return nil, nil, other()
	}
	table := e.server.table()
	select {
	case e.server.work <- struct{}{}:
		defer func() { <-e.server.work }()
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
	if !table.Check(name, password) {
		return nil, nil, wrong(Plain, "")
	}
	return []byte{}, &Client{Name: name}, nil
}
