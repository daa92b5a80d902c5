package router

import (
	"bytes"
	"strings"
	"testing"

	"klink/protocol"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const secret = "sasl.jaas.config of a link: opensesame"

// secrets answers with records in every partition.
func secrets(req *kmsg.FetchRequest) *kmsg.FetchResponse {
	var asked []string
	resp := serve(&asked)(req)
	for i := range resp.Topics {
		for j := range resp.Topics[i].Partitions {
			resp.Topics[i].Partitions[j].RecordBatches = []byte(strings.Repeat(secret, 4))
		}
	}
	return resp
}

// The records of klink's own topics hold the secrets of links. No client gets them: not by name,
// not by id, not beside other topics, not through a fetch session, and not while there are no
// mirrors.
func TestInternalTopicsAreNotRead(t *testing.T) {
	for _, mirrors := range []bool{true, false} {
		for version := int16(0); version <= 18; version++ {
			w := newHotWorld(t)
			if !mirrors {
				w.router.Publish(&Snapshot{Complete: true})
			}
			for _, topics := range [][]string{{"_klink_state"}, {"ordinary", "_klink_state", "_klink_tasks"}} {
				w.topics[hotID("_klink_tasks")] = "_klink_tasks" // has to be looked up
				var got *kmsg.FetchResponse
				var out exchanged
				check := func() {
					t.Helper()
					if out.closed != nil {
						t.Fatal(out.closed)
					}
					if n := bytes.Count(out.answer, []byte("opensesame")); n != 8*len(got.Topics)-8*strings.Count(strings.Join(topics, " "), "_klink_") {
						t.Fatalf("v%d: %d secrets in %v", version, n, topics)
					}
					for _, topic := range got.Topics {
						for _, p := range topic.Partitions {
							switch internal := topic.Topic != "ordinary" && topic.TopicID != hotID("ordinary"); {
							case internal && (p.ErrorCode != kerr.TopicAuthorizationFailed.Code || p.HighWatermark != -1):
								t.Fatalf("v%d: %s: %+v", version, topic.Topic, p)
							case !internal && (p.ErrorCode != 0 || string(p.RecordBatches) != strings.Repeat(secret, 4)):
								t.Fatalf("v%d: %s: %+v", version, topic.Topic, p)
							}
						}
					}
				}
				got, out = send(w, fetchFrom(version, 0, topics...), secrets)
				check()
				if version < 7 {
					continue
				}
				// In a fetch session the broker may answer with partitions that the request does
				// not list.
				got, out = send(w, fetchFrom(version, 1), func(*kmsg.FetchRequest) *kmsg.FetchResponse {
					return secrets(fetchFrom(version, 1, topics...))
				})
				check()
			}
		}
	}
}

func TestInternalTopicsAreNotShared(t *testing.T) {
	w := newHotWorld(t)
	w.router.Publish(&Snapshot{Complete: true})
	w.topics[hotID("_klink_tasks")] = "_klink_tasks" // has to be looked up
	for version := int16(0); version <= 2; version++ {
		for _, name := range []string{"_klink_state", "_klink_tasks"} {
			req := kmsg.NewPtrShareFetchRequest()
			req.Version = version
			req.Topics = []kmsg.ShareFetchRequestTopic{{TopicID: hotID("ordinary")}, {TopicID: hotID(name)}}
			resp, _ := send[*kmsg.ShareFetchRequest, *kmsg.ShareFetchResponse](w, req, nil)
			if resp.ErrorCode != kerr.TopicAuthorizationFailed.Code || !strings.Contains(*resp.ErrorMessage, name) {
				t.Errorf("v%d: %+v", version, resp)
			}
		}
		// klink does not pass on an internal topic that comes through a session after all.
		req := kmsg.NewPtrShareFetchRequest()
		req.Version = version
		if _, out := send(w, req, func(*kmsg.ShareFetchRequest) *kmsg.ShareFetchResponse {
			resp := kmsg.NewPtrShareFetchResponse()
			resp.Topics = []kmsg.ShareFetchResponseTopic{{TopicID: hotID("_klink_state"), Partitions: []kmsg.ShareFetchResponseTopicPartition{{Records: []byte(secret)}}}}
			return resp
		}); out.closed == nil || out.answer != nil {
			t.Errorf("v%d: answered %x", version, out.answer)
		}
	}
}

// However many topics pass, klink still recognises its own; and topics whose names only look like
// klink's do not fill the memory.
func TestDirectoryNeverForgetsInternalTopics(t *testing.T) {
	var d Directory
	state := [16]byte{7}
	d.SetTopics(map[[16]byte]string{state: "_klink_state"})
	for round := range byte(20) {
		topics := map[[16]byte]string{}
		for i := range 1000 {
			topics[[16]byte{7, byte(i), byte(i >> 8), round}] = "t"
		}
		d.AddTopics(topics)
	}
	d.SetTopics(nil)
	if name, _ := d.Topic(state); name != "_klink_state" {
		t.Errorf("it became %q", name)
	}
	for i := range 10 * maxOwnTopics {
		d.AddTopics(map[[16]byte]string{{8, byte(i), byte(i >> 8)}: "_klink_x"})
	}
	if n := len(*d.own.Load()); n > maxOwnTopics {
		t.Errorf("%d topics are kept", n)
	}
	if name, _ := d.Topic(state); name != "_klink_state" {
		t.Errorf("it became %q", name)
	}
}

// A link request is decoded into memory, where it takes more than on the wire.
func TestLinkRequestsAreBounded(t *testing.T) {
	w := newHotWorld(t)
	w.proxy.broker = func([]byte) []byte { t.Fatal("forwarded"); return nil }
	frame := append([]byte{0, 0, 0, 0, 0x3a, 0x98, 0, 0, 0, 0, 0, 1, 0xff, 0xff, 0}, make([]byte, maxLinkRequest)...)
	if out := w.proxy.exchange(frame); out.closed == nil || !strings.Contains(out.closed.Error(), "CreateLinks") || !strings.Contains(out.closed.Error(), "at most") {
		t.Errorf("closed: %v", out.closed)
	}
	if _, err := protocol.ParseRequestHeader(frame); err != nil {
		t.Fatal(err)
	}
}
