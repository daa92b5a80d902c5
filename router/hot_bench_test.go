package router

import (
	"testing"

	"klink/protocol"
)

// BenchmarkRequest measures what klink adds to a request on its way: header, decision, offsets.
func BenchmarkRequest(b *testing.B) {
	for _, topic := range []string{"ordinary", "stopped"} {
		for _, c := range []struct {
			name    string
			request []byte
		}{
			{"fetch/v12/", protocol.AppendRequest(nil, protocol.RequestHeader{}, fetchFrom(12, 0, topic))},
			{"fetch/v18/", protocol.AppendRequest(nil, protocol.RequestHeader{}, fetchFrom(18, 0, topic))},
			{"produce/v12/", protocol.AppendRequest(nil, protocol.RequestHeader{}, produceTo(12, 1, topic))},
			{"produce/v13/", protocol.AppendRequest(nil, protocol.RequestHeader{}, produceTo(13, 1, topic))},
		} {
			b.Run(c.name+topic, func(b *testing.B) {
				s := provenSession(newHotWorld(b).router)
				buf := make([]byte, len(c.request))
				response := protocol.AppendRefusedProduce(nil, protocol.RequestHeader{Version: 12, Flexible: true}, nil)
				b.ReportAllocs()
				for b.Loop() {
					d := s.Request(append(buf[:0], c.request...))
					if d.Action != Forward {
						b.Fatal(d.Err)
					}
					// As if the response had passed.
					if f, ok := d.Stream.(*fetchStream); ok {
						s.fetchStreams = f
					}
					if d.Whole != nil {
						d.Whole(response)
					}
				}
			})
		}
	}
}
