package router

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"klink/protocol"
	"klink/protocol/linkapi"
	"klink/protocol/timeline"

	"github.com/cockroachdb/datadriven"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestControl runs the conversations in testdata/control: the state of the world, a request in
// JSON, and then what went upstream (->), what the control plane received, and what the client got
// (<-). If it fails, run with -rewrite and read the diff.
func TestControl(t *testing.T) {
	datadriven.Walk(t, "testdata/control", func(t *testing.T, path string) {
		w := newControlWorld(t)
		datadriven.RunTest(t, path, func(t *testing.T, td *datadriven.TestData) string {
			w.t = t
			if w.command(td) {
				return ""
			}
			if td.Cmd == "request" {
				return w.request(td)
			}
			td.Fatalf(t, "unknown command %s", td.Cmd)
			return ""
		})
	})
}

// controlKeys are the APIs of the control path.
func controlKeys() []int16 {
	keys := []int16{19, 20, 21, 24, 32, 33, 37, 44}
	for _, a := range linkapi.APIs() {
		keys = append(keys, a.Key)
	}
	return keys
}

// internalID is the id of a topic of klink's, which the directory does not know yet.
var internalID = [16]byte{9}

// fuzzWorld has a mirror, a stopped mirror and one that is being created.
func fuzzWorld(t testing.TB) *controlWorld {
	w := newControlWorld(t)
	line := []*timeline.Partition{timeline.New(0, 100, 100)}
	synced := map[string]bool{"retention.ms": true}
	w.mirrors["orders"] = Mirror{Topic: "orders", TopicID: [16]byte{1}, Link: "east", ReadOnly: true, Timelines: line, SyncedConfigs: synced}
	w.mirrors["old"] = Mirror{Topic: "old", TopicID: [16]byte{2}, Link: "east", State: "STOPPED", Timelines: line}
	w.mirrors["coming"] = Mirror{Topic: "coming", Link: "east", ReadOnly: true}
	w.known[[16]byte{10}] = "plain"
	w.unlearned[internalID] = "_klink_state"
	return w
}

// frameOf makes a request frame with an arbitrary body.
func frameOf(key, version int16, body []byte) []byte {
	flexible, _ := protocol.Flexible(key, version)
	frame := binary.BigEndian.AppendUint16(make([]byte, 4), uint16(key))
	frame = binary.BigEndian.AppendUint16(frame, uint16(version))
	frame = append(frame, 0, 0, 0, 77, 0xff, 0xff)
	if flexible {
		frame = append(frame, 0)
	}
	frame = append(frame, body...)
	binary.BigEndian.PutUint32(frame, uint32(len(frame)-4))
	return frame
}

// mentioning makes requests of an API that name every topic of fuzzWorld, and so cover every path
// through its handler.
func mentioning(key, version int16) []kmsg.Request {
	topics := []string{"orders", "old", "coming", "plain", "_klink_state"}
	var reqs []kmsg.Request
	for _, body := range map[int16][]string{
		19: {`{"Topics": [{"Topic": "%s", "Configs": [{"Name": "retention.ms", "Value": "1"}]}, {"Topic": "new", "NumPartitions": -1, "ReplicationFactor": -1, "Configs": [{"Name": "mirror.link", "Value": "east"}]}]}`},
		20: {`{"TopicNames": ["%s", "x"], "Topics": [{"Topic": "%s"}, {"TopicID": [1]}, {"TopicID": [10]}]}`, `{"Topics": [{"TopicID": [9]}, {"Topic": "%s"}]}`},
		21: {`{"Topics": [{"Topic": "%s", "Partitions": [{"Partition": 0, "Offset": 120}]}, {"Topic": "x", "Partitions": [{"Offset": 1}]}]}`},
		24: {`{"Topics": [{"Topic": "%s", "Partitions": [0, 1]}, {"Topic": "x", "Partitions": [7]}]}`},
		32: {`{"Resources": [{"ResourceType": "TOPIC", "ResourceName": "%s"}]}`, `{"Resources": [{"ResourceType": "TOPIC", "ResourceName": "%s", "ConfigNames": ["mirror.link"]}]}`},
		33: {`{"Resources": [{"ResourceType": "TOPIC", "ResourceName": "%s", "Configs": [{"Name": "a", "Value": "b"}]}, {"ResourceType": "TOPIC", "ResourceName": "x"}]}`},
		37: {`{"Topics": [{"Topic": "%s", "Count": 4, "Assignment": [{"Replicas": [1]}]}, {"Topic": "x", "Count": 3}]}`},
		44: {
			`{"Resources": [{"ResourceType": "TOPIC", "ResourceName": "%s", "Configs": [{"Name": "mirror.state", "Value": "STOPPED"}, {"Name": "a", "Value": "b"}]}, {"ResourceType": "TOPIC", "ResourceName": "x"}]}`,
			`{"Resources": [{"ResourceType": "TOPIC", "ResourceName": "%s", "Configs": [{"Name": "retention.ms", "Value": "1"}]}]}`,
		},
		linkapi.KeyCreateLinks:      {`{"Links": [{"Name": "%s", "Configs": [{"Name": "a", "Value": null}]}]}`},
		linkapi.KeyDeleteLinks:      {`{"Names": ["%s"]}`},
		linkapi.KeyListLinks:        {`{}`},
		linkapi.KeyDescribeLinks:    {`{"Names": ["%s"]}`},
		linkapi.KeyAlterLinkConfigs: {`{"Links": [{"Name": "%s"}]}`},
		linkapi.KeyCreateMirrors:    {`{"Mirrors": [{"Topic": "%s", "Link": "east"}]}`},
		linkapi.KeyListMirrors:      {`{}`},
		linkapi.KeyListLinkTasks:    {`{"Link":"east"}`},
		linkapi.KeyMigrateGroups:    {`{"Groups": [{"Group": "g", "Link": "%s"}]}`},
		linkapi.KeyDescribeMirrors:  {`{"Topics": ["%s"]}`},
		linkapi.KeyAlterMirrors:     {`{"Mirrors": [{"Topic": "%s"}]}`},
		linkapi.KeySyncACLs:         {`{"Link": "%s"}`},
		linkapi.KeyCheckCluster:     {`{"Link": "%s"}`},
	}[key] {
		for _, topic := range topics {
			req := newRequestForTest(key)
			if err := json.Unmarshal([]byte(strings.ReplaceAll(body, "%s", topic)), req); err != nil {
				panic(err)
			}
			req.SetVersion(version)
			reqs = append(reqs, req)
		}
	}
	return reqs
}

// eachControlVersion calls f for every API of the control path in every version.
func eachControlVersion(f func(key, version int16)) {
	for _, key := range controlKeys() {
		api, _ := protocol.Supported(key)
		for version := api.Min; version <= api.Max; version++ {
			f(key, version)
		}
	}
}

// FuzzControlRequest: whatever a client sends, the session finishes the request, nothing harmful
// reaches the broker, and clients can read any answer.
func FuzzControlRequest(f *testing.F) {
	eachControlVersion(func(key, version int16) {
		f.Add(key, version, []byte(nil))
		for _, req := range mentioning(key, version) {
			body := req.AppendTo(nil)
			f.Add(key, version, body)
			f.Add(key, version, body[:len(body)/2])
		}
	})
	f.Fuzz(func(t *testing.T, key, version int16, body []byte) {
		if !slices.Contains(controlKeys(), key) {
			return
		}
		if _, ok := protocol.Flexible(key, version); !ok {
			return
		}
		out := fuzzWorld(t).proxy().exchange(frameOf(key, version, body))
		for _, asked := range out.asked {
			checkHarmless(t, asked)
		}
		if out.answer == nil {
			return
		}
		resp := newRequestForTest(key)
		resp.SetVersion(version)
		h := protocol.RequestHeader{Key: key, Version: version, Flexible: resp.IsFlexible()}
		answer := resp.ResponseKind()
		answer.SetVersion(version)
		if at := h.ResponseBody(out.answer); at < 0 || answer.ReadFrom(out.answer[at:]) != nil {
			t.Fatalf("an unreadable answer: %x", out.answer)
		}
	})
}

// checkHarmless fails if a request that went upstream touches one of klink's own topics, changes
// the read-only mirror of fuzzWorld, or has a config that belongs to klink.
func checkHarmless(t *testing.T, asked []byte) {
	h, err := protocol.ParseRequestHeader(asked)
	if err != nil || h.Body < 0 {
		t.Fatalf("an unreadable request went upstream: %v", err)
	}
	harm := func(topic string, mirrorsToo bool) {
		if strings.HasPrefix(topic, "_klink_") || mirrorsToo && topic == "orders" {
			t.Fatalf("%s of topic %s went upstream", kmsg.NameForKey(h.Key), topic)
		}
	}
	switch req := decodeForTest(t, h, asked).(type) {
	case *kmsg.CreateTopicsRequest:
		for _, topic := range req.Topics {
			harm(topic.Topic, false)
			for _, c := range topic.Configs {
				if strings.HasPrefix(c.Name, "mirror.") {
					t.Fatalf("config %s went upstream", c.Name)
				}
			}
		}
	case *kmsg.DeleteTopicsRequest:
		for _, name := range req.TopicNames {
			harm(name, false)
		}
		for _, topic := range req.Topics {
			if topic.Topic != nil {
				harm(*topic.Topic, false)
			} else if topic.TopicID == internalID {
				t.Fatal("DeleteTopics of klink's own topic by id went upstream")
			}
		}
	case *kmsg.DeleteRecordsRequest:
		for _, topic := range req.Topics {
			harm(topic.Topic, true)
		}
	case *kmsg.AddPartitionsToTxnRequest:
		for _, topic := range req.Topics {
			harm(topic.Topic, true)
		}
	case *kmsg.CreatePartitionsRequest:
		for _, topic := range req.Topics {
			harm(topic.Topic, true)
		}
	case *kmsg.AlterConfigsRequest:
		for _, r := range req.Resources {
			if r.ResourceType == kmsg.ConfigResourceTypeTopic {
				harm(r.ResourceName, true)
			}
		}
	case *kmsg.IncrementalAlterConfigsRequest:
		for _, r := range req.Resources {
			for _, c := range r.Configs {
				if r.ResourceType == kmsg.ConfigResourceTypeTopic {
					harm(r.ResourceName, c.Name == "retention.ms")
					if strings.HasPrefix(c.Name, "mirror.") {
						t.Fatalf("config %s went upstream", c.Name)
					}
				}
			}
		}
	case *kmsg.MetadataRequest, *kmsg.DescribeConfigsRequest:
	default:
		t.Fatalf("%T went upstream", req)
	}
}

// FuzzControlResponse: whatever a broker answers, the session finishes the request.
func FuzzControlResponse(f *testing.F) {
	eachControlVersion(func(key, version int16) {
		w := fuzzWorld(f)
		w.proxy()
		for i, req := range mentioning(key, version) {
			f.Add(key, version, uint8(i), false, []byte(nil))
			f.Add(key, version, uint8(i), true, []byte(nil))
			if key >= linkapi.MinKey {
				continue
			}
			h := protocol.RequestHeader{Key: key, Version: version, Flexible: req.IsFlexible()}
			response := w.serve(protocol.AppendRequest(nil, h, req))
			f.Add(key, version, uint8(i), false, response[4:])
			f.Add(key, version, uint8(i), false, response[4:len(response)*2/3])
		}
	})
	f.Fuzz(func(t *testing.T, key, version int16, which uint8, authority bool, response []byte) {
		if !slices.Contains(controlKeys(), key) {
			return
		}
		if _, ok := protocol.Flexible(key, version); !ok {
			return
		}
		reqs := mentioning(key, version)
		p := fuzzWorld(t).proxy()
		broker := p.broker
		p.broker = func(request []byte) []byte {
			// The broker answers garbage either to klink's question about the client's authority,
			// or to every other request.
			if h, _ := protocol.ParseRequestHeader(request); (h.Key == int16(kmsg.Metadata)) == authority {
				return append(binary.BigEndian.AppendUint32(nil, uint32(len(response))), response...)
			}
			return broker(request)
		}
		p.exchange(protocol.AppendRequest(nil, protocol.RequestHeader{}, reqs[int(which)%len(reqs)]))
	})
}

// A frame that is large is decoded off the event loop, with the same outcome.
func TestLargeControlRequestLeavesTheEventLoop(t *testing.T) {
	req := kmsg.NewPtrDeleteTopicsRequest()
	req.Version = 5
	for i := range 40_000 {
		req.TopicNames = append(req.TopicNames, fmt.Sprint("topic-", i))
	}
	req.TopicNames = append(req.TopicNames, "orders", "_klink_state")
	frame := protocol.AppendRequest(nil, protocol.RequestHeader{}, req)
	if len(frame) < largeControl {
		t.Fatalf("%d bytes are not large", len(frame))
	}
	w := fuzzWorld(t)
	w.proxy()
	s := provenSession(w.router)
	if d := s.Request(bytes.Clone(frame)); d.Action != Run || !d.Exclusive {
		t.Fatalf("action %d, exclusive %v", d.Action, d.Exclusive)
	}
	_, answer := w.send(req)
	topics := answer.(*kmsg.DeleteTopicsResponse).Topics
	if len(topics) != len(req.TopicNames) {
		t.Fatalf("%d results for %d topics", len(topics), len(req.TopicNames))
	}
	for i, topic := range topics {
		want := int16(0)
		if *topic.Topic == "_klink_state" {
			want = kerr.TopicAuthorizationFailed.Code
		}
		if *topic.Topic != req.TopicNames[i] || topic.ErrorCode != want {
			t.Fatalf("result %d: %s, error %d", i, *topic.Topic, topic.ErrorCode)
		}
	}
	if !slices.Contains(w.trace, "control: TopicsDeleted orders") {
		t.Fatal("the mirror was not ended")
	}
}
