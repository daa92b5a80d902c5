package router

import (
	"slices"
	"testing"

	"klink/protocol"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// creatingBroker answers Metadata as a broker that creates topics on request. created are the
// missing topics that it was allowed to create.
func creatingBroker(t *testing.T, created *[]string) func([]byte) []byte {
	return func(frame []byte) []byte {
		h, err := protocol.ParseRequestHeader(frame)
		if err != nil || h.Key != 3 {
			t.Fatalf("%x: %v", frame, err)
		}
		req := kmsg.NewPtrMetadataRequest()
		req.Version = h.Version
		if err := req.ReadFrom(frame[h.Body:]); err != nil {
			t.Fatal(err)
		}
		resp := req.ResponseKind().(*kmsg.MetadataResponse)
		resp.Brokers = []kmsg.MetadataResponseBroker{{NodeID: 1, Host: "kafka", Port: 9092}}
		for _, asked := range req.Topics {
			topic := kmsg.NewMetadataResponseTopic()
			topic.Topic = asked.Topic
			if *asked.Topic != "ordinary" {
				topic.ErrorCode = kerr.UnknownTopicOrPartition.Code
				if h.Version < 4 || req.AllowAutoTopicCreation {
					*created = append(*created, *asked.Topic)
				}
			}
			resp.Topics = append(resp.Topics, topic)
		}
		return protocol.AppendResponse(nil, h, resp)
	}
}

// A client's Metadata request never creates a topic with the name of a mirror or of klink's own, in
// any version, nor any topic before the mirrors are known. The other topics of the request are
// created as usual, and the answer is the broker's.
func TestMetadataCreatesNoMirror(t *testing.T) {
	for version := int16(0); version <= 13; version++ {
		for _, c := range []struct {
			topics, want []string
			unknown      bool // the mirrors are unknown
			forbidden    bool // by the client
		}{
			{topics: []string{"ordinary", "new"}, want: []string{"new"}},
			{topics: []string{"mirror", "ordinary", "new"}, want: []string{"new"}},
			{topics: []string{"_klink_tasks", "newer", "new"}, want: []string{"newer", "new"}},
			{topics: []string{"mirror"}},
			{topics: []string{"stopped"}, want: []string{"stopped"}},
			{topics: []string{"mirror", "new"}, forbidden: true},
			{topics: []string{"new"}, unknown: true},
		} {
			if c.forbidden && version < 4 {
				continue
			}
			w := newHotWorld(t)
			if c.unknown {
				w.router = New(nil, w)
				w.router.Directory().SetBrokers(w.brokers)
				w.proxy.session = provenSession(w.router)
			}
			req := kmsg.NewPtrMetadataRequest()
			req.Version, req.AllowAutoTopicCreation = version, !c.forbidden
			for _, name := range c.topics {
				topic := kmsg.NewMetadataRequestTopic()
				topic.Topic = &name
				req.Topics = append(req.Topics, topic)
			}
			var created []string
			w.proxy.broker = creatingBroker(t, &created)
			h := protocol.RequestHeader{Key: 3, Version: version, Flexible: version >= 9, CorrelationID: 9}
			out := w.proxy.exchange(protocol.AppendRequest(nil, h, req))
			resp := kmsg.NewPtrMetadataResponse()
			resp.Version = version
			if out.answer == nil || resp.ReadFrom(out.answer[h.ResponseBody(out.answer):]) != nil {
				t.Fatalf("v%d %v: %v", version, c.topics, out.closed)
			}
			var told []string
			for _, topic := range resp.Topics {
				told = append(told, *topic.Topic)
			}
			if !slices.Equal(created, c.want) || !slices.Equal(told, c.topics) || len(resp.Brokers) != 1 || resp.Brokers[0].Host != "klink" {
				t.Errorf("v%d %v: created %v, want %v; told %v by %v", version, c.topics, created, c.want, told, resp.Brokers)
			}
		}
	}
}

// klink processes a full Metadata response of 100,000 topics off the event loop.
func TestLargeMetadataLeavesTheLoop(t *testing.T) {
	for _, version := range []int16{8, 13} {
		w := newHotWorld(t)
		resp := kmsg.NewPtrMetadataResponse()
		resp.Version = version
		resp.Brokers = []kmsg.MetadataResponseBroker{{NodeID: 1, Host: "kafka", Port: 9092}}
		resp.Topics = manyTopics(100_000)
		req := kmsg.NewPtrMetadataRequest()
		req.Version = version
		h := protocol.RequestHeader{Key: 3, Version: version, Flexible: version >= 9}
		d := w.proxy.session.Request(protocol.AppendRequest(nil, h, req))
		if d = d.Whole(protocol.AppendResponse(nil, h, resp)); d.Action != Run {
			t.Fatalf("v%d: action %d", version, d.Action)
		}
		if d = d.Run(t.Context()); d.Action != Answer || len(d.Frame) < 100_000*20 {
			t.Fatalf("v%d: action %d, %v", version, d.Action, d.Err)
		}
		got := kmsg.NewPtrMetadataResponse()
		got.Version = version
		if err := got.ReadFrom(d.Frame[h.ResponseBody(d.Frame):]); err != nil || len(got.Topics) != 100_000 || got.Brokers[0].Host != "klink" {
			t.Errorf("v%d: %d topics, %v", version, len(got.Topics), err)
		}
	}
}

func manyTopics(n int) (topics []kmsg.MetadataResponseTopic) {
	for i := range n {
		name := "topic-" + string(binaryName(i))
		topic := kmsg.NewMetadataResponseTopic()
		topic.Topic, topic.TopicID = &name, hotID(name)
		topic.Partitions = []kmsg.MetadataResponseTopicPartition{{Leader: 1, Replicas: []int32{1}, ISR: []int32{1}}}
		topics = append(topics, topic)
	}
	return topics
}

// binaryName writes a number in base 26, with letters as digits.
func binaryName(i int) []byte {
	var b []byte
	for ; i > 0; i /= 26 {
		b = append(b, byte('a'+i%26))
	}
	return b
}

// Measures how long a full Metadata response would hold the loop of a connection.
func BenchmarkRewriteMetadata100k(b *testing.B) {
	w := newHotWorld(b)
	resp := kmsg.NewPtrMetadataResponse()
	resp.Version = 13
	resp.Brokers = []kmsg.MetadataResponseBroker{{NodeID: 1, Host: "kafka", Port: 9092}}
	resp.Topics = manyTopics(100_000)
	h := protocol.RequestHeader{Key: 3, Version: 13, Flexible: true}
	frame := protocol.AppendResponse(nil, h, resp)
	for b.Loop() {
		w.router.directory = Directory{}
		w.router.Directory().SetBrokers(w.brokers)
		if d := provenSession(w.router).rewriteMetadata(h, frame); d.Action != Answer {
			b.Fatal(d.Err)
		}
	}
}
