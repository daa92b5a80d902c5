package router

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"

	"klink/protocol"
	"klink/protocol/timeline"

	"github.com/twmb/franz-go/pkg/kmsg"
)

func fetchFrom(version int16, epoch int32, topics ...string) *kmsg.FetchRequest {
	req := kmsg.NewPtrFetchRequest()
	req.Version, req.SessionID, req.SessionEpoch = version, 9, epoch
	for _, name := range topics {
		topic := kmsg.NewFetchRequestTopic()
		topic.Topic, topic.TopicID = name, hotID(name)
		for index := range int32(2) {
			p := kmsg.NewFetchRequestTopicPartition()
			p.Partition, p.FetchOffset = index, 1500
			topic.Partitions = append(topic.Partitions, p)
		}
		req.Topics = append(req.Topics, topic)
	}
	return req
}

// serve answers with a high watermark of 1600 and no records, and records the offsets asked for.
func serve(asked *[]string) func(*kmsg.FetchRequest) *kmsg.FetchResponse {
	return func(req *kmsg.FetchRequest) *kmsg.FetchResponse {
		resp := kmsg.NewPtrFetchResponse()
		if req.SessionEpoch >= 0 {
			resp.SessionID = 9
		}
		for _, topic := range req.Topics {
			out := kmsg.FetchResponseTopic{Topic: topic.Topic, TopicID: topic.TopicID}
			for _, p := range topic.Partitions {
				*asked = append(*asked, fmt.Sprintf("%d:%d", p.Partition, p.FetchOffset))
				q := kmsg.NewFetchResponseTopicPartition()
				q.Partition, q.HighWatermark = p.Partition, 1600
				if req.Version >= 7 {
					q.UnknownTags.Set(30, nil) // and the epoch of the session, for the tests
				}
				out.Partitions = append(out.Partitions, q)
			}
			resp.Topics = append(resp.Topics, out)
		}
		*asked = append(*asked, fmt.Sprint("epoch ", req.SessionEpoch))
		return resp
	}
}

func describeFetch(resp *kmsg.FetchResponse) string {
	out := []string{}
	if resp.ErrorCode != 0 {
		out = append(out, fmt.Sprint("!", resp.ErrorCode))
	}
	for _, topic := range resp.Topics {
		for _, p := range topic.Partitions {
			s := fmt.Sprintf("%d:%d", p.Partition, p.HighWatermark)
			if p.ErrorCode != 0 {
				s += fmt.Sprint("!", p.ErrorCode)
			}
			out = append(out, s)
		}
	}
	return strings.Join(out, " ")
}

// A mirror is read at the source's offsets: klink makes the offsets of the request physical, and
// those of the response logical.
func TestFetch(t *testing.T) {
	for version := int16(0); version <= 18; version++ {
		w := newHotWorld(t)
		w.proxy.piece = 5
		for _, c := range []struct {
			topics []string
			asked  string
			want   string
		}{
			{[]string{"ordinary"}, "0:1500 1:1500", "0:1600 1:1600"},
			{[]string{"mirror"}, "0:500 1:1500", "0:2600 1:1600"},
			{[]string{"stopped", "ordinary"}, "0:1000 1:1500 0:1500 1:1500", "0:2100 1:1600 0:1600 1:1600"},
			{nil, "", ""},
		} {
			var asked []string
			resp, out := send(w, fetchFrom(version, 0, c.topics...), serve(&asked))
			asked = asked[:len(asked)-1]
			if got := strings.Join(asked, " "); got != c.asked || out.closed != nil {
				t.Errorf("v%d %v: asked for %s, want %s: %v", version, c.topics, got, c.asked, out.closed)
			} else if got := describeFetch(resp); got != c.want {
				t.Errorf("v%d %v: got %s, want %s", version, c.topics, got, c.want)
			}
		}
	}
}

// A partition without a timeline is neither fetched nor shown, and no fetch session may remember an
// offset of it.
func TestFetchWithoutTimeline(t *testing.T) {
	for version := int16(0); version <= 18; version++ {
		w := newHotWorld(t)
		sn := hotSnapshot()
		sn.Mirrors["mirror"].Timelines = sn.Mirrors["mirror"].Timelines[:1]
		w.router.Publish(sn)
		for _, epoch := range []int32{-1, 0, 1} {
			var asked []string
			resp, out := send(w, fetchFrom(version, epoch, "ordinary", "mirror"), serve(&asked))
			switch {
			case version >= 7 && epoch > 0:
				if describeFetch(resp) != "!70" || len(out.asked) > 0 || resp.SessionID != 0 {
					t.Errorf("v%d: an incremental request: %s", version, describeFetch(resp))
				}
			default:
				if got := describeFetch(resp); got != "0:1600 1:1600 0:2600 1:-1!6" {
					t.Errorf("v%d epoch %d: %s", version, epoch, got)
				}
				if version >= 7 && asked[len(asked)-1] != "epoch -1" {
					t.Errorf("v%d: a session with %s", version, asked[len(asked)-1])
				}
			}
		}
	}
}

func TestView(t *testing.T) {
	some := timeline.New(0, 5, 5)
	for _, c := range []struct {
		m         Mirror
		partition int32
		want      protocol.View
	}{
		{Mirror{ReadOnly: true, Timelines: []*timeline.Partition{some}}, 0, protocol.View{Timeline: some, Stamped: true}},
		{Mirror{Timelines: []*timeline.Partition{some}}, 0, protocol.View{Timeline: some}},
		{Mirror{ReadOnly: true}, 0, protocol.View{}},
		{Mirror{}, 0, protocol.View{}},
		{Mirror{ReadOnly: true, Timelines: []*timeline.Partition{nil, some}}, 0, protocol.View{Hidden: true}},
		{Mirror{Timelines: []*timeline.Partition{nil, some}}, 0, protocol.View{Hidden: true}},
		{Mirror{ReadOnly: true, Timelines: []*timeline.Partition{some}}, 1, protocol.View{Hidden: true}},
		{Mirror{Timelines: []*timeline.Partition{some}}, 1, protocol.View{}},
		{Mirror{Timelines: []*timeline.Partition{some}}, -1, protocol.View{Hidden: true}},
	} {
		if got := c.m.View(c.partition); got != c.want {
			t.Errorf("partition %d of %+v: %+v", c.partition, c.m, got)
		}
	}
}

// The names of topic ids are looked up before a Fetch is forwarded, once.
func TestFetchByUnknownID(t *testing.T) {
	for _, c := range []struct {
		name   string
		set    func(w *hotWorld)
		want   string
		closed bool
	}{
		{"a stopped mirror", func(*hotWorld) {}, "0:2100 1:1600", false},
		{"an ordinary topic", func(w *hotWorld) { w.topics[hotID("stopped")] = "ordinary" }, "0:1600 1:1600", false},
		{"the look-up fails", func(w *hotWorld) { w.failing = true }, "", true},
		{"the look-up finds nothing, but the broker has data", func(w *hotWorld) { delete(w.topics, hotID("stopped")) }, "", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newHotWorld(t)
			w.router.directory = Directory{}
			c.set(w)
			var asked []string
			resp, out := send(w, fetchFrom(13, 0, "stopped"), serve(&asked))
			if (out.closed != nil) != c.closed || w.lookups != 1 {
				t.Fatalf("%d look-ups, %v", w.lookups, out.closed)
			}
			if !c.closed && describeFetch(resp) != c.want {
				t.Errorf("got %s", describeFetch(resp))
			}
		})
	}
}

// A request with more partitions than a session keeps room for is translated like any other, and
// leaves nothing behind that takes memory.
func TestLargeFetchLeavesNoRoom(t *testing.T) {
	w := newHotWorld(t)
	req := fetchFrom(12, 0, "stopped")
	first := req.Topics[0].Partitions[0]
	for range 3 * keptMoves {
		req.Topics[0].Partitions = append(req.Topics[0].Partitions, first)
	}
	s := provenSession(w.router)
	d := s.Request(protocol.AppendRequest(nil, protocol.RequestHeader{}, req))
	if d.Action != Forward {
		t.Fatal(d.Err)
	}
	h, err := protocol.ParseRequestHeader(d.Frame)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for f := protocol.ReadFetchRequest(d.Frame, h); f.Topic(); {
		for f.Partition() {
			if n++; f.Index == 0 && f.Offset() != 1000 {
				t.Fatalf("partition %d asks for %d", n, f.Offset())
			}
		}
	}
	if n != len(req.Topics[0].Partitions) {
		t.Errorf("%d partitions, want %d", n, len(req.Topics[0].Partitions))
	}
	if s.moves != nil {
		t.Errorf("room for %d moves is kept", cap(s.moves))
	}
}

// Forwarding costs no allocation, whether the topic is a mirror or not.
func TestHotPathDoesNotAllocate(t *testing.T) {
	for _, topic := range []string{"ordinary", "mirror", "stopped"} {
		for version := int16(3); version <= 18; version++ {
			s := provenSession(newHotWorld(t).router)
			request := protocol.AppendRequest(nil, protocol.RequestHeader{}, fetchFrom(version, 0, topic))
			var asked []string
			resp := serve(&asked)(fetchFrom(version, 0, topic))
			resp.Version = version
			response := protocol.AppendResponse(nil, protocol.RequestHeader{Key: 1, Version: version, Flexible: resp.IsFlexible()}, resp)
			buf := make([]byte, len(request)+len(response))
			if n := testing.AllocsPerRun(100, func() {
				d := s.Request(append(buf[:0], request...))
				if d.Action != Forward || d.Stream == nil {
					t.Fatal(d.Err)
				}
				if _, _, err := d.Stream.Next(append(buf[:0], response...)); err != nil {
					t.Fatal(err)
				}
			}); n != 0 {
				t.Errorf("Fetch v%d of %s: %v allocations", version, topic, n)
			}
		}
		if topic == "mirror" {
			continue // refused
		}
		for version := int16(3); version <= 13; version++ {
			s := provenSession(newHotWorld(t).router)
			request := protocol.AppendRequest(nil, protocol.RequestHeader{}, produceTo(version, 1, topic))
			var got []string
			resp := accept(&got)(produceTo(version, 1, topic))
			resp.Version = version
			response := protocol.AppendResponse(nil, protocol.RequestHeader{Key: 0, Version: version, Flexible: resp.IsFlexible()}, resp)
			buf := make([]byte, len(request)+len(response))
			if n := testing.AllocsPerRun(100, func() {
				d := s.Request(append(buf[:0], request...))
				if d.Action != Forward {
					t.Fatal(d.Err)
				}
				if d.Whole != nil {
					if d = d.Whole(append(buf[:0], response...)); d.Action != Answer {
						t.Fatal(d.Err)
					}
				}
			}); n != 0 {
				t.Errorf("Produce v%d to %s: %v allocations", version, topic, n)
			}
		}
	}
}

// Whatever clients and brokers send, the session neither panics nor runs for ever.
func FuzzHotPath(f *testing.F) {
	var asked, got []string
	for version := int16(0); version <= 18; version++ {
		req := fetchFrom(version, 1, "mirror", "ordinary")
		resp := serve(&asked)(req)
		resp.Version = version
		h := protocol.RequestHeader{Key: 1, Version: version, Flexible: resp.IsFlexible()}
		f.Add(protocol.AppendRequest(nil, h, req), protocol.AppendResponse(nil, h, resp))
	}
	for version := int16(0); version <= 13; version++ {
		req := produceTo(version, 1, "mirror", "ordinary")
		resp := accept(&got)(produceTo(version, 1, "ordinary"))
		resp.Version = version
		h := protocol.RequestHeader{Key: 0, Version: version, Flexible: resp.IsFlexible()}
		f.Add(protocol.AppendRequest(nil, h, req), protocol.AppendResponse(nil, h, resp))
	}
	others := []int16{2, 3, 10, 18, 23, 27, 55, 60, 61, 78, 79}
	for _, key := range others {
		req := kmsg.RequestForKey(key)
		for v := int16(0); v <= req.MaxVersion(); v++ {
			req.SetVersion(v)
			resp := req.ResponseKind()
			h := protocol.RequestHeader{Key: key, Version: v, Flexible: resp.IsFlexible()}
			f.Add(protocol.AppendRequest(nil, h, req), protocol.AppendResponse(nil, h, resp))
		}
	}
	f.Fuzz(func(t *testing.T, request, response []byte) {
		h, err := protocol.ParseRequestHeader(request)
		if err == nil && h.Body >= 0 && h.Key > 1 && !slices.Contains(others, h.Key) {
			return // the control path has a fuzz target of its own
		}
		w := newHotWorld(t)
		w.proxy.piece = 7
		w.proxy.broker = func([]byte) []byte {
			if len(response) < 4 {
				return nil
			}
			// Whole frames only: sizes are the business of package proxy.
			frame := append([]byte(nil), response...)
			binary.BigEndian.PutUint32(frame, uint32(len(frame)-4))
			return frame
		}
		w.proxy.exchange(request)
	})
}
