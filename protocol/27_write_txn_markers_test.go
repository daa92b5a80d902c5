package protocol

import (
	"math/rand/v2"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

func TestWriteTxnMarkers(t *testing.T) {
	versions(t, 27, func(t *testing.T, version int16) {
		r := rand.New(rand.NewPCG(27, uint64(version)))
		for range 200 {
			req := kmsg.NewPtrWriteTxnMarkersRequest()
			fillRequest(t, r, req, version)
			h, frame := requestFrame(t, req)
			markers, err := ReadWriteTxnMarkers(frame, h)
			if err != nil {
				t.Fatal(err)
			}
			want := kmsg.NewPtrWriteTxnMarkersResponse()
			want.Version = version
			for _, m := range req.Markers {
				marker := kmsg.WriteTxnMarkersResponseMarker{ProducerID: m.ProducerID}
				for _, topic := range m.Topics {
					out := kmsg.WriteTxnMarkersResponseMarkerTopic{Topic: topic.Topic}
					for _, index := range topic.Partitions {
						out.Partitions = append(out.Partitions, kmsg.WriteTxnMarkersResponseMarkerTopicPartition{Partition: index, ErrorCode: int16(len(topic.Topic))})
					}
					marker.Topics = append(marker.Topics, out)
				}
				want.Markers = append(want.Markers, marker)
			}
			h.CorrelationID = 77
			sameResponse(t, AppendWriteTxnMarkers(nil, h, markers, func(topic []byte) int16 { return int16(len(topic)) }), want)
			for cut := h.Body; cut < len(frame); cut++ {
				if _, err := ReadWriteTxnMarkers(frame[:cut], h); err == nil {
					t.Fatalf("cut to %d of %d", cut, len(frame))
				}
			}
		}
	})
	if _, err := ReadWriteTxnMarkers(make([]byte, maxTxnMarkers+1), RequestHeader{Key: 27}); err == nil {
		t.Error("a request of any size is read into memory")
	}
}

func FuzzWriteTxnMarkers(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 1))
	for v := int16(0); v <= 2; v++ {
		req := kmsg.NewPtrWriteTxnMarkersRequest()
		fillRequest(f, r, req, v)
		_, frame := requestFrame(f, req)
		f.Add(frame)
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		h, err := ParseRequestHeader(frame)
		if err != nil || h.Body < 0 || h.Key != 27 {
			return
		}
		if markers, err := ReadWriteTxnMarkers(frame, h); err == nil {
			AppendWriteTxnMarkers(nil, h, markers, func([]byte) int16 { return 0 })
		}
	})
}
