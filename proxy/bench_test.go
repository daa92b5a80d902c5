package proxy

import (
	"encoding/binary"
	"io"
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"klink/router"
)

// passSessions forward everything and know nothing.
type passSessions struct{}

func (passSessions) NewSession(router.Client) router.Session { return passSessions{} }
func (passSessions) Proven() bool                            { return true }
func (passSessions) Prove() router.Decision                  { return router.Decision{Action: router.Drop} }
func (passSessions) Closed()                                 {}
func (passSessions) Request(frame []byte) router.Decision {
	return router.Decision{Action: router.Forward, Frame: frame}
}

// BenchmarkPassThrough is one connection that asks and waits, client and broker in the same
// process.
func BenchmarkPassThrough(b *testing.B) {
	for _, c := range []struct {
		name              string
		request, response int
	}{{"200B", 200, 200}, {"fetch-1MiB", 200, 1 << 20}, {"produce-1MiB", 1 << 20, 200}} {
		b.Run(c.name, func(b *testing.B) {
			broker := newBroker(b, nil, func(conn net.Conn) {
				in, out := make([]byte, 4+c.request), make([]byte, 4+c.response)
				binary.BigEndian.PutUint32(out, uint32(c.response))
				for {
					if _, err := io.ReadFull(conn, in); err != nil {
						return
					}
					if _, err := conn.Write(out); err != nil {
						return
					}
				}
			})
			p, _ := newProxy(b, broker.addr(), func(c *Config) { c.Sessions = passSessions{} })
			conn, err := net.Dial("tcp", p.Addr().String())
			require.NoError(b, err)
			defer conn.Close()
			out, in := make([]byte, 4+c.request), make([]byte, 4+c.response)
			binary.BigEndian.PutUint32(out, uint32(c.request))
			b.ReportAllocs()
			b.SetBytes(int64(c.request + c.response))
			for b.Loop() {
				if _, err := conn.Write(out); err != nil {
					b.Fatal(err)
				}
				if _, err := io.ReadFull(conn, in); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
