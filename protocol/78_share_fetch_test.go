package protocol

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

func TestShareRequestTopics(t *testing.T) {
	for _, key := range []int16{78, 79} {
		versions(t, key, func(t *testing.T, version int16) {
			r := rand.New(rand.NewPCG(uint64(key), uint64(version)))
			for range 200 {
				req := kmsg.RequestForKey(key)
				fillRequest(t, r, req, version)
				var want, got [][16]byte
				switch req := req.(type) {
				case *kmsg.ShareFetchRequest:
					for _, topic := range req.Topics {
						want = append(want, topic.TopicID)
					}
				case *kmsg.ShareAcknowledgeRequest:
					for _, topic := range req.Topics {
						want = append(want, topic.TopicID)
					}
				}
				h, frame := requestFrame(t, req)
				if err := ShareRequestTopics(frame, h, func(id [16]byte) { got = append(got, id) }); err != nil {
					t.Fatal(err)
				}
				if !slices.Equal(got, want) {
					t.Fatalf("got %x, want %x", got, want)
				}
			}
		})
	}
}

func TestShareError(t *testing.T) {
	for _, key := range []int16{78, 79} {
		versions(t, key, func(t *testing.T, version int16) {
			h := RequestHeader{Key: key, Version: version, Flexible: true}
			frame := AppendShareError(nil, h, 42, "because")
			switch resp := readResponse[kmsg.Response](t, h, frame).(type) {
			case *kmsg.ShareFetchResponse:
				if resp.ErrorCode != 42 || *resp.ErrorMessage != "because" || len(resp.Topics) != 0 {
					t.Errorf("%+v", resp)
				}
			case *kmsg.ShareAcknowledgeResponse:
				if resp.ErrorCode != 42 || *resp.ErrorMessage != "because" || len(resp.Topics) != 0 {
					t.Errorf("%+v", resp)
				}
			}
		})
	}
}

// A response passes as it is, but for its node endpoints.
func TestShareFetchResponse(t *testing.T) {
	versions(t, 78, func(t *testing.T, version int16) {
		r := rand.New(rand.NewPCG(78, uint64(version)))
		w := newWorld()
		for i := range 60 {
			resp, h, _ := randomResponse[*kmsg.ShareFetchResponse](t, r, 78, version)
			for i := range resp.Topics {
				resp.Topics[i].TopicID = idOf("ordinary")
			}
			resp.NodeEndpoints = nil
			var endpoints []string
			for id := range i % 3 {
				host := "kafka-" + strings.Repeat("k", i*3)
				resp.NodeEndpoints = append(resp.NodeEndpoints, kmsg.ShareFetchResponseNodeEndpoint{NodeID: int32(id + 1), Host: host, Port: 9092})
				endpoints = append(endpoints, fmt.Sprintf("klink-%d:%d", id+1, 19093+id))
			}
			_, frame := responseFrame(resp)
			for at := range frame {
				var f ShareFetchResponse
				f.Reset(version, w)
				out, err := stream(t, &f, frame, at)
				if err != nil || !f.Finished() {
					t.Fatalf("cut at %d: finished %v, %v", at, f.Finished(), err)
				}
				got := readResponse[*kmsg.ShareFetchResponse](t, h, out)
				var shown []string
				for _, e := range got.NodeEndpoints {
					shown = append(shown, fmt.Sprintf("%s:%d", e.Host, e.Port))
				}
				if len(shown) > 0 && !slices.Equal(shown, endpoints) {
					t.Fatalf("cut at %d: %v, want %v", at, shown, endpoints)
				}
				if bytes.Contains(out, []byte("kafka-kkk")) && len(shown) > 0 {
					t.Fatal("a broker's own address is told")
				}
				got.NodeEndpoints, got.UnknownTags = resp.NodeEndpoints, resp.UnknownTags
				sameResponse(t, frame, got)
			}
		}
	})
}

// Endpoints that have to be padded or hidden.
func TestShareFetchEndpoints(t *testing.T) {
	w := newWorld()
	w.brokers[3] = fakeAddr{"a-host-of-klink-with-a-name-that-is-longer-than-any-of-theirs.example.com", 9}
	for _, c := range []struct {
		hosts []string
		nodes []int32
		want  string
	}{
		{nil, nil, ""},
		{[]string{"kafka-1"}, []int32{1}, "klink-1:19093"},
		{[]string{"kafka-1.example"}, []int32{1}, "klink-1:19093"},
		{[]string{"kafka-11"}, []int32{1}, ""},
		{[]string{"k"}, []int32{3}, ""},
		{[]string{"kafka-1", "kafka-4"}, []int32{1, 4}, ""},
		{[]string{strings.Repeat("k", 245)}, []int32{1}, ""},
		{[]string{strings.Repeat("k", 180)}, []int32{1}, "klink-1:19093"},
	} {
		resp := kmsg.NewPtrShareFetchResponse()
		resp.Version = 1
		for i, host := range c.hosts {
			resp.NodeEndpoints = append(resp.NodeEndpoints, kmsg.ShareFetchResponseNodeEndpoint{NodeID: c.nodes[i], Host: host, Port: 9092})
		}
		h, frame := responseFrame(resp)
		var f ShareFetchResponse
		f.Reset(1, w)
		out, err := stream(t, &f, frame)
		if err != nil {
			t.Fatalf("%v: %v", c.hosts, err)
		}
		got := ""
		for _, e := range readResponse[*kmsg.ShareFetchResponse](t, h, out).NodeEndpoints {
			got += fmt.Sprintf("%s:%d", e.Host, e.Port)
		}
		if got != c.want {
			t.Errorf("%v: got %q, want %q", c.hosts, got, c.want)
		}
	}
}

func TestShareFetchResponseRefusesMirrors(t *testing.T) {
	for _, id := range [][16]byte{idOf("mirror"), idOf("stopped"), idOf("who")} {
		resp := kmsg.NewPtrShareFetchResponse()
		resp.Version = 1
		resp.Topics = []kmsg.ShareFetchResponseTopic{{TopicID: id}}
		_, frame := responseFrame(resp)
		var f ShareFetchResponse
		f.Reset(1, newWorld())
		if _, err := stream(t, &f, frame); err == nil {
			t.Errorf("%x passes", id)
		}
	}
}

func FuzzShareFetchResponse(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 1))
	for v := int16(0); v <= 2; v++ {
		_, _, frame := randomResponse[*kmsg.ShareFetchResponse](f, r, 78, v)
		f.Add(v, frame, uint16(50), uint16(7))
	}
	f.Fuzz(func(t *testing.T, version int16, frame []byte, size, step uint16) {
		if version < 0 || version > 2 {
			return
		}
		run := func(cuts ...int) ([]byte, error) {
			w := &ShareFetchResponse{}
			w.Reset(version, newWorld())
			return stream(t, w, frame, cuts...)
		}
		var cuts []int
		for at := min(int(size), len(frame)); at < len(frame) && len(cuts) < 1000; at += int(step)%500 + 1 {
			cuts = append(cuts, at)
		}
		whole, errWhole := run()
		pieces, errPieces := run(cuts...)
		if (errWhole == nil) != (errPieces == nil) || errWhole == nil && !bytes.Equal(whole, pieces) {
			t.Fatalf("whole: %v, in pieces: %v", errWhole, errPieces)
		}
	})
}

func FuzzShareRequest(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 1))
	for _, key := range []int16{78, 79} {
		req := kmsg.RequestForKey(key)
		fillRequest(f, r, req, 1)
		_, frame := requestFrame(f, req)
		f.Add(frame)
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		h, err := ParseRequestHeader(frame)
		if err != nil || h.Body < 0 || h.Key != 78 && h.Key != 79 {
			return
		}
		_ = ShareRequestTopics(frame, h, func([16]byte) {})
	})
}
