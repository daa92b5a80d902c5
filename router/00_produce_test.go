package router

import (
	"fmt"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// produceTo makes a request with partitions 0 and 1 of each topic; the records say where they
// belong.
func produceTo(version, acks int16, topics ...string) *kmsg.ProduceRequest {
	req := kmsg.NewPtrProduceRequest()
	req.Version, req.Acks, req.TimeoutMillis = version, acks, 30000
	for _, name := range topics {
		topic := kmsg.ProduceRequestTopic{Topic: name, TopicID: hotID(name)}
		for index := range int32(2) {
			topic.Partitions = append(topic.Partitions, kmsg.ProduceRequestTopicPartition{Partition: index, Records: fmt.Appendf(nil, "%s-%d", name, index)})
		}
		req.Topics = append(req.Topics, topic)
	}
	return req
}

// accept answers like a leader that appends everything at offset 40, in the opposite order, and
// records what it received.
func accept(got *[]string) func(*kmsg.ProduceRequest) *kmsg.ProduceResponse {
	return func(req *kmsg.ProduceRequest) *kmsg.ProduceResponse {
		resp := kmsg.NewPtrProduceResponse()
		for _, topic := range req.Topics {
			out := kmsg.NewProduceResponseTopic()
			out.Topic, out.TopicID = topic.Topic, topic.TopicID
			for _, p := range topic.Partitions {
				*got = append(*got, string(p.Records))
				q := kmsg.NewProduceResponseTopicPartition()
				q.Partition, q.BaseOffset, q.LogStartOffset = p.Partition, 40, 3
				out.Partitions = append(out.Partitions, q)
			}
			resp.Topics = append(resp.Topics, out)
		}
		return resp
	}
}

// describeProduce shows a response: topic/partition, then its base offset or its error.
func describeProduce(resp *kmsg.ProduceResponse) string {
	var out []string
	for _, topic := range resp.Topics {
		name := topic.Topic
		if resp.Version >= 13 {
			name = strings.TrimRight(string(topic.TopicID[:15]), "\x00")
		}
		for _, p := range topic.Partitions {
			s := fmt.Sprintf("%s/%d @%d", name, p.Partition, p.BaseOffset)
			if p.ErrorCode != 0 {
				s = fmt.Sprintf("%s/%d !%d", name, p.Partition, p.ErrorCode)
				if p.ErrorMessage != nil {
					s += " " + *p.ErrorMessage
				}
			}
			out = append(out, s)
		}
	}
	return strings.Join(out, ", ")
}

// Produce to a mirror is refused for its partitions alone; other partitions of the request succeed.
func TestProduce(t *testing.T) {
	refused := "mirror/0 !42 Cannot append records to read-only mirror topic 'mirror', mirror/1 !42 Cannot append records to read-only mirror topic 'mirror'"
	internal := "_klink_state/0 !29 Topic '_klink_state' belongs to klink and cannot be written by clients, _klink_state/1 !29 Topic '_klink_state' belongs to klink and cannot be written by clients"
	for _, c := range []struct {
		topics []string
		sent   string // upstream; "" = nothing
		want   string
	}{
		{[]string{"ordinary"}, "ordinary-0 ordinary-1", "ordinary/0 @40, ordinary/1 @40"},
		{[]string{"stopped", "ordinary"}, "stopped-0 stopped-1 ordinary-0 ordinary-1", "stopped/0 @540, stopped/1 @40, ordinary/0 @40, ordinary/1 @40"},
		{[]string{"mirror"}, "", refused},
		{[]string{"_klink_state"}, "", internal},
		{[]string{"mirror", "_klink_state"}, "", refused + ", " + internal},
		{[]string{"mirror", "ordinary", "other"}, "ordinary-0 ordinary-1 other-0 other-1", refused + ", ordinary/0 @40, ordinary/1 @40, other/0 @40, other/1 @40"},
		{[]string{"ordinary", "mirror", "stopped"}, "ordinary-0 ordinary-1 stopped-0 stopped-1", "ordinary/0 @40, ordinary/1 @40, " + refused + ", stopped/0 @540, stopped/1 @40"},
		{[]string{"ordinary", "other", "mirror"}, "ordinary-0 ordinary-1 other-0 other-1", "ordinary/0 @40, ordinary/1 @40, other/0 @40, other/1 @40, " + refused},
	} {
		for version := int16(0); version <= 13; version++ {
			for _, acks := range []int16{1, -1} {
				w := newHotWorld(t)
				var got []string
				answer := accept(&got)
				if c.sent == "" {
					answer = nil
				}
				resp, out := send(w, produceTo(version, acks, c.topics...), answer)
				if sent := strings.Join(got, " "); out.closed != nil || sent != c.sent {
					t.Fatalf("v%d %v: upstream got %q, want %q: %v", version, c.topics, sent, c.sent, out.closed)
				}
				want := c.want
				if version < 8 { // no messages yet
					for _, topic := range []string{"mirror", "_klink_state"} {
						for _, m := range []string{" Cannot append records to read-only mirror topic '" + topic + "'", " Topic '" + topic + "' belongs to klink and cannot be written by clients"} {
							want = strings.ReplaceAll(want, m, "")
						}
					}
				}
				if shown := describeProduce(resp); shown != want {
					t.Errorf("v%d acks %d %v:\n got %s\nwant %s", version, acks, c.topics, shown, want)
				}
				if version >= 5 && strings.Contains(want, "stopped") {
					for _, topic := range resp.Topics {
						if start := topic.Partitions[0].LogStartOffset; (topic.Topic == "stopped" || topic.TopicID == hotID("stopped")) && start != 503 {
							t.Errorf("v%d: log start %d", version, start)
						}
					}
				}
			}
		}
	}
}

// With acks=0 there is no response that could carry the error.
func TestProduceWithoutAcks(t *testing.T) {
	for version := int16(0); version <= 13; version++ {
		for _, c := range []struct {
			topics []string
			closed string
		}{
			{[]string{"ordinary"}, ""},
			{[]string{"stopped"}, ""},
			{[]string{"mirror"}, "read-only mirror topic 'mirror'"},
			{[]string{"ordinary", "mirror"}, "read-only mirror topic 'mirror'"},
			{[]string{"_klink_state"}, "belongs to klink"},
		} {
			w := newHotWorld(t)
			_, out := send(w, produceTo(version, 0, c.topics...), func(*kmsg.ProduceRequest) *kmsg.ProduceResponse {
				t.Fatal("a response is awaited")
				return nil
			})
			if c.closed == "" {
				if !out.dropped || len(out.asked) != 1 || out.closed != nil {
					t.Errorf("v%d %v: %+v", version, c.topics, out)
				}
				continue
			}
			if out.closed == nil || !strings.Contains(out.closed.Error(), c.closed) || len(out.asked) > 0 {
				t.Errorf("v%d %v: %+v", version, c.topics, out)
			}
		}
	}
}

// Until the mirrors are known a producer waits, up to its own time-out; then it is told to try
// again.
func TestProduceBeforeTheMirrorsAreKnown(t *testing.T) {
	for version := int16(0); version <= 13; version++ {
		w := newHotWorld(t)
		w.router = New(nil, w)
		w.router.Directory().SetTopics(w.topics)
		w.proxy.session = provenSession(w.router)
		w.proxy.wait = func() { w.router.Publish(hotSnapshot()) }
		if resp, _ := send[*kmsg.ProduceRequest, *kmsg.ProduceResponse](w, produceTo(version, -1, "mirror"), nil); resp.Topics[0].Partitions[0].ErrorCode != 42 {
			t.Errorf("v%d: %s", version, describeProduce(resp))
		}

		w.router = New(nil, w)
		w.proxy.session = provenSession(w.router)
		w.proxy.wait = nil
		req := produceTo(version, -1, "ordinary", "mirror")
		req.TimeoutMillis = 1
		resp, _ := send[*kmsg.ProduceRequest, *kmsg.ProduceResponse](w, req, nil)
		for _, topic := range resp.Topics {
			for _, p := range topic.Partitions {
				if p.ErrorCode != 6 || len(resp.Topics) != 2 || len(topic.Partitions) != 2 {
					t.Errorf("v%d: %s", version, describeProduce(resp))
				}
			}
		}
		req.Acks = 0
		if _, out := send[*kmsg.ProduceRequest, *kmsg.ProduceResponse](w, req, nil); out.closed == nil {
			t.Errorf("v%d: not closed", version)
		}
	}
}

// klink looks up the names of topic ids before it forwards anything.
func TestProduceByUnknownID(t *testing.T) {
	for _, c := range []struct {
		name string
		set  func(w *hotWorld)
		want string
	}{
		{"a stopped mirror", func(*hotWorld) {}, "stopped/0 @540, stopped/1 @40"},
		{"a read-only mirror that the snapshot has no id of", func(w *hotWorld) {
			w.topics[hotID("stopped")] = "mirror"
		}, "stopped/0 !42 Cannot append records to read-only mirror topic 'mirror', stopped/1 !42 Cannot append records to read-only mirror topic 'mirror'"},
		{"no topic", func(w *hotWorld) { w.topics[hotID("stopped")] = "" }, "stopped/0 !100 This server does not host this topic ID., stopped/1 !100 This server does not host this topic ID."},
		{"the look-up fails", func(w *hotWorld) { w.failing = true }, "stopped/0 !6 no broker answers, stopped/1 !6 no broker answers"},
		{"the look-up finds nothing", func(w *hotWorld) { delete(w.topics, hotID("stopped")) }, "stopped/0 !100 This server does not host this topic ID., stopped/1 !100 This server does not host this topic ID."},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newHotWorld(t)
			w.router.directory = Directory{}
			c.set(w)
			var got []string
			resp, _ := send(w, produceTo(13, -1, "stopped"), accept(&got))
			if shown := describeProduce(resp); shown != c.want {
				t.Errorf("got %s", shown)
			}
			if w.lookups != 1 {
				t.Errorf("%d look-ups", w.lookups)
			}
			// The snapshot itself knows the topic ids of its mirrors.
			if resp, _ := send[*kmsg.ProduceRequest, *kmsg.ProduceResponse](w, produceTo(13, -1, "mirror"), nil); resp.Topics[0].Partitions[0].ErrorCode != 42 || w.lookups != 1 {
				t.Errorf("%s after %d look-ups", describeProduce(resp), w.lookups)
			}
		})
	}
}

// New leaders are reported with their addresses at klink.
func TestProduceEndpoints(t *testing.T) {
	w := newHotWorld(t)
	for version := int16(10); version <= 13; version++ {
		for _, topics := range [][]string{{"ordinary"}, {"ordinary", "mirror"}} {
			resp, _ := send(w, produceTo(version, 1, topics...), func(req *kmsg.ProduceRequest) *kmsg.ProduceResponse {
				var got []string
				resp := accept(&got)(req)
				resp.Brokers = []kmsg.ProduceResponseBroker{{NodeID: 2, Host: "kafka", Port: 9092}, {NodeID: 7, Host: "kafka", Port: 9092}}
				return resp
			})
			if len(resp.Brokers) != 1 || resp.Brokers[0].Host != "klink" || resp.Brokers[0].Port != 19094 || len(resp.Topics) != len(topics) {
				t.Errorf("v%d: %+v", version, resp)
			}
		}
	}
}
