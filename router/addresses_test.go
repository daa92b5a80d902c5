package router

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

func metadataOf(brokers ...int32) func(*kmsg.MetadataRequest) *kmsg.MetadataResponse {
	return func(*kmsg.MetadataRequest) *kmsg.MetadataResponse {
		resp := kmsg.NewPtrMetadataResponse()
		topic := kmsg.NewMetadataResponseTopic()
		name := "new"
		topic.Topic, topic.TopicID = &name, hotID("new")
		for i, id := range brokers {
			resp.Brokers = append(resp.Brokers, kmsg.MetadataResponseBroker{NodeID: id, Host: fmt.Sprint("kafka-", id), Port: 9092})
			topic.Partitions = append(topic.Partitions, kmsg.MetadataResponseTopicPartition{Partition: int32(i), Leader: id})
		}
		resp.Topics = append(resp.Topics, topic)
		return resp
	}
}

func describeMetadata(resp *kmsg.MetadataResponse) (s string) {
	for _, b := range resp.Brokers {
		s += fmt.Sprintf("%d=%s:%d ", b.NodeID, b.Host, b.Port)
	}
	for _, p := range resp.Topics[0].Partitions {
		s += fmt.Sprintf("/%d on %d !%d", p.Partition, p.Leader, p.ErrorCode)
	}
	return s
}

// Clients get klink's addresses. klink looks up an unknown broker; if that fails, clients are told
// to ask again.
func TestMetadata(t *testing.T) {
	for version := int16(0); version <= 13; version++ {
		req := kmsg.NewPtrMetadataRequest()
		req.Version = version
		for _, c := range []struct {
			name    string
			set     func(w *hotWorld)
			want    string
			lookups int
		}{
			{"known", func(*hotWorld) {}, "1=klink:19093 2=klink:19094 /0 on 1 !0/1 on 2 !0", 0},
			{"new", func(w *hotWorld) { w.router.Directory().SetBrokers(nil) }, "1=klink:19093 2=klink:19094 /0 on 1 !0/1 on 2 !0", 1},
			{"unknown", func(w *hotWorld) {
				w.brokers = map[int32]Addr{2: {Host: "klink", Port: 1}}
				w.router.Directory().SetBrokers(w.brokers)
			}, "2=klink:1 /0 on -1 !5/1 on 2 !0", 1},
			{"look-up fails", func(w *hotWorld) {
				w.failing = true
				w.router.Directory().SetBrokers(nil)
			}, "/0 on -1 !5/1 on -1 !5", 1},
		} {
			w := newHotWorld(t)
			c.set(w)
			resp, out := send(w, req, metadataOf(1, 2))
			if out.closed != nil || describeMetadata(resp) != c.want || w.lookups != c.lookups {
				t.Errorf("v%d, %s: got %s after %d look-ups: %v", version, c.name, describeMetadata(resp), w.lookups, out.closed)
			}
			if name, ok := w.router.Directory().Topic(hotID("new")); ok != (version >= 10) || ok && name != "new" {
				t.Errorf("v%d, %s: topic id is %q, %v", version, c.name, name, ok)
			}
		}
	}
}

func TestFindCoordinator(t *testing.T) {
	for version := int16(0); version <= 6; version++ {
		req := kmsg.NewPtrFindCoordinatorRequest()
		req.Version = version
		for node, want := range map[int32]string{1: "1=klink:19093 !0", 9: "-1=:-1 !15", -1: "-1=:-1 !15"} {
			w := newHotWorld(t)
			resp, out := send(w, req, func(*kmsg.FindCoordinatorRequest) *kmsg.FindCoordinatorResponse {
				resp := kmsg.NewPtrFindCoordinatorResponse()
				resp.NodeID, resp.Host, resp.Port = node, "kafka", 9092
				if node < 0 {
					resp.Host, resp.Port, resp.ErrorCode = "", -1, 15
				}
				resp.Coordinators = []kmsg.FindCoordinatorResponseCoordinator{{Key: "g", NodeID: resp.NodeID, Host: resp.Host, Port: resp.Port, ErrorCode: resp.ErrorCode}}
				return resp
			})
			if out.closed != nil {
				t.Fatal(out.closed)
			}
			got := fmt.Sprintf("%d=%s:%d !%d", resp.NodeID, resp.Host, resp.Port, resp.ErrorCode)
			if version >= 4 {
				c := resp.Coordinators[0]
				got = fmt.Sprintf("%d=%s:%d !%d", c.NodeID, c.Host, c.Port, c.ErrorCode)
			}
			if got != want {
				t.Errorf("v%d, broker %d: %s, want %s", version, node, got, want)
			}
		}
	}
}

func TestDescribeClusterAndQuorum(t *testing.T) {
	w := newHotWorld(t)
	for version := int16(0); version <= 2; version++ {
		req := kmsg.NewPtrDescribeClusterRequest()
		req.Version = version
		resp, _ := send(w, req, func(*kmsg.DescribeClusterRequest) *kmsg.DescribeClusterResponse {
			resp := kmsg.NewPtrDescribeClusterResponse()
			resp.Brokers = []kmsg.DescribeClusterResponseBroker{{NodeID: 1, Host: "kafka", Port: 9092}, {NodeID: 8, Host: "kafka", Port: 9092}}
			return resp
		})
		if b := resp.Brokers; len(b) != 1 || b[0].Host != "klink" || b[0].Port != 19093 {
			t.Errorf("DescribeCluster v%d: %+v", version, b)
		}
		// klink has no listeners for controllers.
		controllers, _ := send(w, req, func(*kmsg.DescribeClusterRequest) *kmsg.DescribeClusterResponse {
			resp := kmsg.NewPtrDescribeClusterResponse()
			resp.EndpointType = 2
			resp.ErrorCode = 115
			return resp
		})
		if controllers.ErrorCode != 115 {
			t.Errorf("DescribeCluster v%d: %+v", version, controllers)
		}
		quorum := kmsg.NewPtrDescribeQuorumRequest()
		quorum.Version = version
		q, _ := send(w, quorum, func(*kmsg.DescribeQuorumRequest) *kmsg.DescribeQuorumResponse {
			resp := kmsg.NewPtrDescribeQuorumResponse()
			listener := []kmsg.DescribeQuorumResponseNodeListener{{Name: "CONTROLLER", Host: "kafka", Port: 9093}}
			resp.Nodes = []kmsg.DescribeQuorumResponseNode{{NodeID: 2, Listeners: listener}, {NodeID: 100, Listeners: listener}}
			return resp
		})
		if version < 2 {
			continue
		}
		if n := q.Nodes; n[0].Listeners[0].Port != 19094 || n[0].Listeners[0].Host != "klink" || n[1].Listeners[0].Port != 9093 {
			t.Errorf("DescribeQuorum: %+v", n)
		}
	}
}

// The number of remembered topic ids stays bounded however many pass, and klink still recognises
// mirrors by the snapshot.
func TestDirectoryIsBounded(t *testing.T) {
	w := newHotWorld(t)
	d := w.router.Directory()
	for round := range 40 {
		topics := map[[16]byte]string{}
		for i := range 10_000 {
			topics[[16]byte{byte(i), byte(i >> 8), byte(round), 1}] = "t"
		}
		d.AddTopics(topics)
	}
	n := 0
	for i := range d.shards {
		if s := d.shards[i].Load(); s != nil {
			n += len(s.base) + len(s.added)
		}
	}
	if n > maxTopicIDs {
		t.Errorf("%d ids are kept", n)
	}
	if name, ok := d.Topic([16]byte{0, 0, 39, 1}); !ok || name != "t" {
		t.Errorf("the last id is not known: %q, %v", name, ok)
	}
	if _, ok := d.Topic([16]byte{0, 0, 0, 1}); ok {
		t.Error("the first id is still known, so the bound was not reached")
	}
}

// Each id that does not exist costs little, however many topics there are, and drives out no name.
// More topics than the directory keeps by itself stay known while clients add others.
func TestUnknownIDsCostLittle(t *testing.T) {
	id := func(i int, kind byte) [16]byte { return [16]byte{byte(i), byte(i >> 8), byte(i >> 16), kind} }
	for _, n := range []int{100_000, 2 * maxTopicIDs} {
		var d Directory
		topics := map[[16]byte]string{}
		for i := range n {
			topics[id(i, 0)] = "t"
		}
		d.SetTopics(topics)
		all := allocatedBytes(func() { d.SetTopics(topics) }) // once the cost of each unknown id
		const unknown = 20_000
		some := allocatedBytes(func() {
			for i := range unknown {
				d.AddTopics(map[[16]byte]string{id(i, 1): ""})
			}
		})
		if each := some / unknown; each > all/100 {
			t.Errorf("of %d topics: an unknown id costs %d bytes, all of them %d", n, each, all)
		}
		for i := range 20_000 {
			d.AddTopics(map[[16]byte]string{id(i, 2): "new"})
		}
		for i := range n {
			if name, ok := d.Topic(id(i, 0)); !ok || name != "t" {
				t.Fatalf("topic %d of %d is forgotten", i, n)
			}
		}
		if name, ok := d.Topic(id(unknown-1, 1)); !ok || name != "" {
			t.Error("the last unknown id is not known to be one")
		}
		gone := 0
		for i := range d.shards {
			gone += len(d.shards[i].Load().gone)
		}
		if gone > maxGone*topicShards {
			t.Errorf("%d unknown ids are remembered", gone)
		}
		d.ForgetGone([][16]byte{id(unknown-1, 1), id(5, 0)})
		if _, ok := d.Topic(id(unknown-1, 1)); ok {
			t.Error("it is still known to be none")
		}
		if _, ok := d.Topic(id(5, 0)); !ok {
			t.Error("a name is forgotten")
		}
	}
}

func allocatedBytes(do func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	do()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// SetTopics does not remove names that were learned from Metadata responses. It does remove ids
// that were known not to exist, because they may exist now.
func TestDirectoryKeepsNames(t *testing.T) {
	var d Directory
	d.AddTopics(map[[16]byte]string{{1, 1}: "passed", {1, 2}: "", {2, 1}: "other", {1, 4}: ""})
	d.SetTopics(map[[16]byte]string{{1, 3}: "said", {1, 1}: "", {1, 4}: ""})
	for id, want := range map[[16]byte]string{{1, 1}: "passed true", {1, 2}: " false", {1, 3}: "said true", {1, 4}: " true", {2, 1}: "other true"} {
		name, ok := d.Topic(id)
		if got := fmt.Sprint(name, " ", ok); got != want {
			t.Errorf("%v: %q, want %q", id[:2], got, want)
		}
	}
}
