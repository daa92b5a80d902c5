package router

import (
	"bytes"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"klink/protocol"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// manyPartitions makes a request with n partitions without records in each of the topics.
func manyPartitions(version int16, n int, topics ...string) []byte {
	req := kmsg.NewPtrProduceRequest()
	req.Version, req.Acks = version, 1
	for _, name := range topics {
		topic := kmsg.ProduceRequestTopic{Topic: name, TopicID: hotID(name)}
		for i := range n {
			topic.Partitions = append(topic.Partitions, kmsg.ProduceRequestTopicPartition{Partition: int32(i)})
		}
		req.Topics = append(req.Topics, topic)
	}
	return protocol.AppendRequest(nil, protocol.RequestHeader{}, req)
}

// A small request never causes a large answer, and an answer with many partitions still gives the
// reason for as many of them as possible.
func TestRefusedProducesAreBounded(t *testing.T) {
	long := "_klink_" + strings.Repeat("x", 30_000)
	for _, c := range []struct {
		name    string
		frame   []byte
		limit   int // of the answer, in bytes
		said    int // partitions whose result has a message
		message string
	}{
		{"a request of a client", manyPartitions(9, 2000, "mirror"), 1 << 20, 2000, "Cannot append records to read-only mirror topic 'mirror'"},
		{"an impossible name", manyPartitions(9, 2000, long), 1 << 20, 2000, "Topics whose names begin with '_klink_' belong to klink and cannot be written by clients"},
		{"the longest name there is", manyPartitions(9, 50_000, long[:249]), 4 << 20, 0, ""},
		{"names that share the room", manyPartitions(9, 2500, long[:249], "mirror"), 2 << 20, 5000, ""},
		{"names that do not", manyPartitions(9, 8000, long[:249], "mirror"), 2 << 20, 8000, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newHotWorld(t)
			out := w.proxy.exchange(c.frame)
			if out.closed != nil || len(out.answer) > c.limit {
				t.Fatalf("%d bytes became %d: %v", len(c.frame), len(out.answer), out.closed)
			}
			resp := kmsg.NewPtrProduceResponse()
			resp.Version = 9
			h := protocol.RequestHeader{Version: 9, Flexible: true}
			if err := resp.ReadFrom(out.answer[h.ResponseBody(out.answer):]); err != nil {
				t.Fatal(err)
			}
			said := 0
			for _, topic := range resp.Topics {
				for _, p := range topic.Partitions {
					if p.ErrorCode == 0 {
						t.Fatal("a partition was not refused")
					}
					if p.ErrorMessage != nil {
						said++
						if c.message != "" && *p.ErrorMessage != c.message {
							t.Fatalf("it says %q", *p.ErrorMessage)
						}
					}
				}
			}
			if said != c.said {
				t.Errorf("%d partitions have a message, want %d", said, c.said)
			}
		})
	}
}

// A request that no real client sends closes the connection.
func TestRefusedProducesBeyondTheBound(t *testing.T) {
	topics := make([]string, maxRefusedPartitions+1)
	for i := range topics {
		topics[i] = fmt.Sprintf("_klink_%d", i)
	}
	for name, frame := range map[string][]byte{
		"partitions": manyPartitions(9, maxRefusedPartitions, "mirror"),
		"topics":     manyPartitions(9, 0, topics...),
	} {
		w := newHotWorld(t)
		if out := w.proxy.exchange(frame); out.closed == nil || !strings.Contains(out.closed.Error(), "have to be refused") {
			t.Errorf("%s: an answer of %d bytes: %v", name, len(out.answer), out.closed)
		}
		w.router = New(nil, w)
		h, _ := protocol.ParseRequestHeader(frame)
		if d := refuseAll(h, frame, errNoSnapshot); d.Action != Close {
			t.Errorf("%s, before the mirrors are known: an answer of %d bytes", name, len(d.Frame))
		}
	}
}

// A request that claims topics which it does not have costs nothing.
func TestClaimedTopicsAreNotAllocated(t *testing.T) {
	frame := manyPartitions(9, 1, "mirror")
	at := bytes.Index(frame, []byte("\x02\x07mirror"))
	claim := append(bytes.Clone(frame[:at]), 0x80, 0x80, 0x80, 0x08) // 2^24 topics and one less
	claim = append(append(claim, frame[at+1:]...), make([]byte, 1<<24)...)
	claim[0], claim[1], claim[2], claim[3] = 0x01, 0, 0, byte(len(claim)-4)
	s := provenSession(newHotWorld(t).router)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if d := s.Request(claim); d.Action != Close {
		t.Fatalf("action %d", d.Action)
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 16<<20 { // other goroutines may allocate too
		t.Errorf("%d bytes were allocated", n)
	}
}

// A null topic name is refused as a broker refuses it, and not taken for an unknown id.
func TestNullNamesAreRefused(t *testing.T) {
	w := newHotWorld(t)
	for version := int16(0); version <= 12; version++ {
		for _, req := range []kmsg.Request{produceTo(version, 1, "\x01name"), fetchFrom(version, 0, "\x01name")} {
			frame := protocol.AppendRequest(nil, protocol.RequestHeader{}, req)
			if req.IsFlexible() {
				frame = bytes.Replace(frame, []byte("\x06\x01name"), []byte{0}, 1)
			} else {
				frame = bytes.Replace(frame, []byte("\x00\x05\x01name"), []byte{0xff, 0xff}, 1)
			}
			frame[3] -= byte(len(protocol.AppendRequest(nil, protocol.RequestHeader{}, req)) - len(frame))
			if out := w.proxy.exchange(frame); !errors.Is(out.closed, protocol.ErrMalformed) || w.lookups > 0 {
				t.Errorf("key %d v%d: closed %v after %d look-ups", req.Key(), version, out.closed, w.lookups)
			}
		}
	}
}
