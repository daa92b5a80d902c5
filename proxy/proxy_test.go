package proxy

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"net"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestOneRequestOfEachKind(t *testing.T) {
	broker := newBroker(t, nil, nil)
	p, _ := newProxy(t, broker.addr())
	for kind := range kNoResponse {
		conn := dialProxy(t, p, nil)
		for _, n := range []int{0, 1, 200, 300_000} {
			_, err := conn.Write(request(kind, 7, n))
			require.NoError(t, err)
			got, err := readFrame(conn)
			require.NoError(t, err, "kind %d", kind)
			require.True(t, bytes.Equal(wanted(kind, 7, n), got), "kind %d, %d bytes", kind, n)
		}
	}
}

// converse writes the requests in pieces of at most chunk bytes and checks that the answers come in
// their order.
func converse(t testing.TB, conn net.Conn, requests []testRequest, chunk int, rnd *rand.Rand) {
	t.Helper()
	var wire, want []byte
	for i, r := range requests {
		wire = append(wire, request(r.kind, int32(i), r.n, make([]byte, r.payload)...)...)
		want = append(want, wanted(r.kind, int32(i), r.n)...)
	}
	done := make(chan error, 1)
	go func() {
		for len(wire) > 0 {
			n := min(1+rnd.IntN(chunk), len(wire))
			if _, err := conn.Write(wire[:n]); err != nil {
				done <- err
				return
			}
			wire = wire[n:]
		}
		done <- nil
	}()
	for i, r := range requests {
		if !answered(r.kind) {
			continue
		}
		got, err := readFrame(conn)
		require.NoError(t, err, "answer to request %d of kind %d", i, r.kind)
		n := len(wanted(r.kind, int32(i), r.n))
		require.True(t, bytes.Equal(want[:n], got), "answer to request %d of kind %d, %d bytes", i, r.kind, r.n)
		want = want[n:]
	}
	require.NoError(t, <-done)
}

type testRequest struct {
	kind    int16
	n       int // bytes of the response
	payload int // bytes of the request
}

func randomRequests(rnd *rand.Rand, count, maxResponse, maxPayload int) []testRequest {
	rs := make([]testRequest, count)
	for i := range rs {
		rs[i] = testRequest{kind: int16(rnd.IntN(int(kRunDrop) + 1)), n: rnd.IntN(maxResponse), payload: rnd.IntN(maxPayload)}
	}
	return rs
}

func TestRandomConversations(t *testing.T) {
	broker := newBroker(t, nil, nil)
	p, _ := newProxy(t, broker.addr())
	for seed := range uint64(20) {
		rnd := rand.New(rand.NewPCG(seed, 0))
		conn := dialProxy(t, p, nil)
		sizes := []int{10, 1000, 100_000, 2_000_000}
		size := sizes[rnd.IntN(len(sizes))]
		converse(t, conn, randomRequests(rnd, 1+40_000_000/(size+200_000), size, size), 1+rnd.IntN(2*size), rnd)
	}
	require.Zero(t, p.Stats().Panics.Load())
}

// expectClosed awaits the end of the stream, and that nothing comes before it.
func expectClosed(t testing.TB, conn net.Conn) {
	t.Helper()
	n, err := conn.Read(make([]byte, 1))
	require.Zero(t, n)
	require.Error(t, err)
	var timeout net.Error
	require.False(t, errors.As(err, &timeout) && timeout.Timeout(), "the connection is still open")
}
