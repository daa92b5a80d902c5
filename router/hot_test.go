package router

import (
	"bytes"
	"errors"
	"testing"

	"klink/protocol"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// A request with a key or version that is not offered closes the connection, and so does garbage.
func TestUnknownRequestsClose(t *testing.T) {
	header := func(key, version int16, rest ...byte) []byte {
		b := append([]byte{0, 0, 0, 0, byte(key >> 8), byte(key), byte(version >> 8), byte(version), 0, 0, 0, 1}, rest...)
		b[3] = byte(len(b) - 4)
		return b
	}
	for _, c := range []struct {
		name  string
		frame []byte
		want  error
	}{
		{"between brokers", header(4, 0, 0xff, 0xff), errUnknownAPI},
		{"unknown key", header(999, 0, 0xff, 0xff), errUnknownAPI},
		{"negative key", header(-1, 0, 0xff, 0xff), errUnknownAPI},
		{"version too high", header(0, 14, 0xff, 0xff, 0), errUnknownAPI},
		{"negative version", header(3, -1, 0xff, 0xff), errUnknownAPI},
		{"tokens after SaslHandshake v0", header(17, 0, 0xff, 0xff), errUnknownAPI},
		{"half a header", header(0, 0)[:9], protocol.ErrMalformed},
		{"client id past the end", header(3, 0, 0, 9), protocol.ErrMalformed},
		{"no body", header(0, 0, 0xff, 0xff), protocol.ErrMalformed},
		{"no body", header(1, 4, 0xff, 0xff), protocol.ErrMalformed},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newHotWorld(t)
			w.proxy.broker = func([]byte) []byte { t.Fatal("forwarded"); return nil }
			if out := w.proxy.exchange(c.frame); !errors.Is(out.closed, c.want) {
				t.Errorf("got %v, want %v", out.closed, c.want)
			}
		})
	}
}

// Requests of every version of every API without a handler pass unchanged, and so do their
// responses.
func TestUntouched(t *testing.T) {
	for _, api := range protocol.APIs() {
		if *handlerSlot(api.Key) != nil {
			continue
		}
		for v := api.Min; v <= api.Max; v++ {
			w := newHotWorld(t)
			req := kmsg.RequestForKey(api.Key)
			req.SetVersion(v)
			frame := append(kmsg.NewRequestFormatter().AppendRequest(nil, req, 5), "and what is not parsed"...)
			response := []byte("\x00\x00\x00\x07any.thing")
			var got []byte
			w.proxy.broker = func(asked []byte) []byte { got = asked; return bytes.Clone(response) }
			out := w.proxy.exchange(frame)
			if !bytes.Equal(got, frame) || !bytes.Equal(out.answer, response) {
				t.Errorf("%s v%d: %x upstream, %x to the client: %v", api.Name, v, got, out.answer, out.closed)
			}
		}
	}
}

// An ApiVersions request of a version that klink does not know reaches the broker, because clients
// can read the broker's answer.
func TestApiVersionsOfTheFuture(t *testing.T) {
	w := newHotWorld(t)
	resp := kmsg.NewPtrApiVersionsResponse()
	resp.ErrorCode = kerr.UnsupportedVersion.Code
	resp.ApiKeys = []kmsg.ApiVersionsResponseApiKey{{ApiKey: 18, MaxVersion: 4}}
	want := protocol.AppendResponse(nil, protocol.RequestHeader{Key: 18, CorrelationID: 1}, resp)
	frame := []byte("\x00\x00\x00\x0e\x00\x12\x00\x09\x00\x00\x00\x01\xff\xff\x00\x05\x06\x07")
	var asked []byte
	w.proxy.broker = func(a []byte) []byte { asked = a; return bytes.Clone(want) }
	if out := w.proxy.exchange(frame); !bytes.Equal(asked, frame) || !bytes.Equal(out.answer, want) {
		t.Errorf("%x upstream, %x to the client: %v", asked, out.answer, out.closed)
	}
}

func TestApiVersions(t *testing.T) {
	w := newHotWorld(t)
	for v := int16(0); v <= 5; v++ {
		req := kmsg.NewPtrApiVersionsRequest()
		req.Version = v
		resp, _ := send(w, req, func(*kmsg.ApiVersionsRequest) *kmsg.ApiVersionsResponse {
			resp := kmsg.NewPtrApiVersionsResponse()
			resp.ApiKeys = []kmsg.ApiVersionsResponseApiKey{{ApiKey: 1, MaxVersion: 30}, {ApiKey: 4, MaxVersion: 1}}
			return resp
		})
		if k := resp.ApiKeys; len(k) != 14 || k[0].ApiKey != 1 || k[0].MaxVersion != 18 || k[1].ApiKey != 15000 || k[13].ApiKey != 15012 {
			t.Errorf("v%d: %+v", v, k)
		}
	}
}

// Offsets in responses of ListOffsets, OffsetForLeaderEpoch and DescribeProducers are those of the
// source.
func TestOffsetsAreLogical(t *testing.T) {
	w := newHotWorld(t)
	topics := []string{"mirror", "stopped", "ordinary"}
	want := map[string]int64{"mirror": 1040, "stopped": 540, "ordinary": 40}
	for v := int16(1); v <= 11; v++ {
		req := kmsg.NewPtrListOffsetsRequest()
		req.Version = v
		resp, _ := send(w, req, func(*kmsg.ListOffsetsRequest) *kmsg.ListOffsetsResponse {
			resp := kmsg.NewPtrListOffsetsResponse()
			for _, name := range topics {
				resp.Topics = append(resp.Topics, kmsg.ListOffsetsResponseTopic{Topic: name, Partitions: []kmsg.ListOffsetsResponseTopicPartition{{Offset: 40}}})
			}
			return resp
		})
		for _, topic := range resp.Topics {
			if got := topic.Partitions[0].Offset; got != want[topic.Topic] {
				t.Errorf("ListOffsets v%d: %s at %d", v, topic.Topic, got)
			}
		}
	}
	epochs, _ := send(w, kmsg.NewPtrOffsetForLeaderEpochRequest(), func(*kmsg.OffsetForLeaderEpochRequest) *kmsg.OffsetForLeaderEpochResponse {
		resp := kmsg.NewPtrOffsetForLeaderEpochResponse()
		for _, name := range topics {
			resp.Topics = append(resp.Topics, kmsg.OffsetForLeaderEpochResponseTopic{Topic: name, Partitions: []kmsg.OffsetForLeaderEpochResponseTopicPartition{{EndOffset: 40}}})
		}
		return resp
	})
	for _, topic := range epochs.Topics {
		if got := topic.Partitions[0].EndOffset; got != want[topic.Topic] {
			t.Errorf("OffsetForLeaderEpoch: %s at %d", topic.Topic, got)
		}
	}
	producers, _ := send(w, kmsg.NewPtrDescribeProducersRequest(), func(*kmsg.DescribeProducersRequest) *kmsg.DescribeProducersResponse {
		resp := kmsg.NewPtrDescribeProducersResponse()
		for _, name := range topics {
			resp.Topics = append(resp.Topics, kmsg.DescribeProducersResponseTopic{Topic: name, Partitions: []kmsg.DescribeProducersResponseTopicPartition{
				{ActiveProducers: []kmsg.DescribeProducersResponseTopicPartitionActiveProducer{{CurrentTxnStartOffset: 40}, {CurrentTxnStartOffset: -1}}},
			}})
		}
		return resp
	})
	for _, topic := range producers.Topics {
		if p := topic.Partitions[0].ActiveProducers; p[0].CurrentTxnStartOffset != want[topic.Topic] || p[1].CurrentTxnStartOffset != -1 {
			t.Errorf("DescribeProducers: %s %+v", topic.Topic, p)
		}
	}
}

// Until the mirrors are known, klink answers no request that a mirror affects.
func TestRequestsWaitForTheMirrors(t *testing.T) {
	for _, key := range []int16{0, 1, 2, 23, 27, 61, 78, 79} {
		w := newHotWorld(t)
		w.router = New(nil, w)
		w.proxy.session = provenSession(w.router)
		waited := false
		w.proxy.wait = func() {
			waited = true
			w.router.Publish(hotSnapshot())
		}
		w.proxy.broker = func(asked []byte) []byte {
			if !waited {
				t.Errorf("key %d is forwarded at once", key)
			}
			return nil
		}
		req := kmsg.RequestForKey(key)
		req.SetVersion(req.MaxVersion())
		if p, ok := req.(*kmsg.ProduceRequest); ok {
			p.Acks, p.TimeoutMillis = 1, 60000
		}
		w.proxy.exchange(kmsg.NewRequestFormatter().AppendRequest(nil, req, 5))
		if !waited {
			t.Errorf("key %d does not wait", key)
		}
	}
}

// Every complete snapshot that replaces an incomplete one wakes the waiting requests.
func TestPublish(t *testing.T) {
	r := New(nil, nil)
	for i, step := range []struct{ complete, wakes bool }{{false, false}, {true, true}, {true, false}, {false, false}, {true, true}} {
		published := r.published()
		r.Publish(&Snapshot{Complete: step.complete})
		woken := false
		select {
		case <-published:
			woken = true
		default:
		}
		if woken != step.wakes || r.snapshot.Load().Complete != step.complete {
			t.Errorf("step %d: woken %v, want %v", i, woken, step.wakes)
		}
	}
}

// Markers take an offset each, and would shift a mirror.
func TestWriteTxnMarkersToMirrors(t *testing.T) {
	w := newHotWorld(t)
	for v := int16(0); v <= 2; v++ {
		req := kmsg.NewPtrWriteTxnMarkersRequest()
		req.Version = v
		req.Markers = []kmsg.WriteTxnMarkersRequestMarker{{ProducerID: 4, Topics: []kmsg.WriteTxnMarkersRequestMarkerTopic{
			{Topic: "ordinary", Partitions: []int32{0, 1}}, {Topic: "mirror", Partitions: []int32{0}}, {Topic: "_klink_state", Partitions: []int32{0}},
		}}}
		resp, _ := send[*kmsg.WriteTxnMarkersRequest, *kmsg.WriteTxnMarkersResponse](w, req, nil)
		for i, want := range []*kerr.Error{kerr.OperationNotAttempted, kerr.InvalidRequest, kerr.TopicAuthorizationFailed} {
			if got := resp.Markers[0].Topics[i].Partitions[0].ErrorCode; got != want.Code {
				t.Errorf("v%d: %s: %d, want %v", v, resp.Markers[0].Topics[i].Topic, got, want)
			}
		}
		req.Markers[0].Topics[1].Topic, req.Markers[0].Topics[2].Topic = "stopped", "other"
		if _, out := send(w, req, func(*kmsg.WriteTxnMarkersRequest) *kmsg.WriteTxnMarkersResponse {
			return kmsg.NewPtrWriteTxnMarkersResponse()
		}); len(out.asked) != 1 {
			t.Errorf("v%d: not forwarded", v)
		}
	}
}

// Share groups cannot read mirrors, but they can read other topics.
func TestShareGroups(t *testing.T) {
	w := newHotWorld(t)
	for v := int16(0); v <= 2; v++ {
		for _, name := range []string{"mirror", "stopped"} {
			fetch := kmsg.NewPtrShareFetchRequest()
			fetch.Version = v
			fetch.Topics = []kmsg.ShareFetchRequestTopic{{TopicID: hotID("ordinary")}, {TopicID: hotID(name)}}
			if resp, _ := send[*kmsg.ShareFetchRequest, *kmsg.ShareFetchResponse](w, fetch, nil); resp.ErrorCode != 42 || *resp.ErrorMessage != "Share groups cannot read mirror topic '"+name+"': use a consumer group" {
				t.Errorf("v%d: %+v", v, resp)
			}
			ack := kmsg.NewPtrShareAcknowledgeRequest()
			ack.Version = v
			ack.Topics = []kmsg.ShareAcknowledgeRequestTopic{{TopicID: hotID(name)}}
			if resp, _ := send[*kmsg.ShareAcknowledgeRequest, *kmsg.ShareAcknowledgeResponse](w, ack, nil); resp.ErrorCode != 42 {
				t.Errorf("v%d: %+v", v, resp)
			}
		}
		fetch := kmsg.NewPtrShareFetchRequest()
		fetch.Version = v
		fetch.Topics = []kmsg.ShareFetchRequestTopic{{TopicID: hotID("ordinary")}}
		got, _ := send(w, fetch, func(*kmsg.ShareFetchRequest) *kmsg.ShareFetchResponse {
			resp := kmsg.NewPtrShareFetchResponse()
			resp.Topics = []kmsg.ShareFetchResponseTopic{{TopicID: hotID("ordinary"), Partitions: []kmsg.ShareFetchResponseTopicPartition{{Records: []byte("records")}}}}
			resp.NodeEndpoints = []kmsg.ShareFetchResponseNodeEndpoint{{NodeID: 2, Host: "kafka", Port: 9092}}
			return resp
		})
		if e := got.NodeEndpoints; len(e) != 1 || e[0].Host != "klink" || e[0].Port != 19094 || string(got.Topics[0].Partitions[0].Records) != "records" {
			t.Errorf("v%d: %+v", v, got)
		}
		ack := kmsg.NewPtrShareAcknowledgeRequest()
		ack.Version = v
		acked, _ := send(w, ack, func(*kmsg.ShareAcknowledgeRequest) *kmsg.ShareAcknowledgeResponse {
			resp := kmsg.NewPtrShareAcknowledgeResponse()
			resp.NodeEndpoints = []kmsg.ShareAcknowledgeResponseNodeEndpoint{{NodeID: 2, Host: "kafka", Port: 9092}, {NodeID: 9, Host: "kafka"}}
			return resp
		})
		if e := acked.NodeEndpoints; len(e) != 1 || e[0].Host != "klink" || e[0].Port != 19094 {
			t.Errorf("v%d: %+v", v, e)
		}
	}
}
