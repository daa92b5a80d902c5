package protocol

import (
	"bytes"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// at returns the address of a broker that clients get. ok is false if the broker has none and must
// be left out.
func (w *world) at(id int32, host *string, port *int32) (ok bool) {
	a, ok := w.brokers[id]
	if ok {
		*host, *port = a.host, a.port
	}
	return ok
}

// rewrites checks a rewriting of addresses, against what expect makes of the decoded message.
// expect says whether a broker has no address.
func rewrites[R kmsg.Response](t *testing.T, key int16, rewrite func([]byte, RequestHeader, *world) ([]byte, bool, error), expect func(w *world, resp R) (unknown bool)) {
	versions(t, key, func(t *testing.T, version int16) {
		r := rand.New(rand.NewPCG(uint64(key), uint64(version)))
		w := newWorld()
		for range 60 {
			want, h, frame := randomResponse[R](t, r, key, version)
			cutShort(t, frame, func(b []byte) error { _, _, err := rewrite(b, h, w); return err })
			got, unknown, err := rewrite(frame, h, w)
			if err != nil {
				t.Fatal(err)
			}
			if wanted := expect(w, want); unknown != wanted {
				t.Fatalf("unknown %v, want %v", unknown, wanted)
			}
			sameResponse(t, got, want)
		}
	})
}

func TestMetadata(t *testing.T) {
	for _, hide := range []bool{false, true} {
		learned := map[[16]byte]string{}
		rewrites(t, 3, func(frame []byte, h RequestHeader, w *world) ([]byte, bool, error) {
			before := bytes.Clone(frame)
			clear(learned)
			out, unknown, err := RewriteMetadata(frame, h, w, hide, func(id [16]byte, name []byte) { learned[id] = string(name) })
			if !hide && !bytes.Equal(before, frame) {
				t.Fatal("the frame was changed")
			}
			return out, unknown, err
		}, func(w *world, resp *kmsg.MetadataResponse) bool {
			missing := map[int32]bool{}
			resp.Brokers = slices.DeleteFunc(resp.Brokers, func(b kmsg.MetadataResponseBroker) bool {
				_, ok := w.brokers[b.NodeID]
				missing[b.NodeID] = !ok
				return !ok
			})
			for i := range resp.Brokers {
				w.at(resp.Brokers[i].NodeID, &resp.Brokers[i].Host, &resp.Brokers[i].Port)
			}
			ids := map[[16]byte]string{}
			for i := range resp.Topics {
				topic := &resp.Topics[i]
				if topic.Topic != nil && *topic.Topic != "" && topic.ErrorCode == 0 && resp.Version >= 10 {
					ids[topic.TopicID] = *topic.Topic
				}
				for j := range topic.Partitions {
					if p := &topic.Partitions[j]; hide && missing[p.Leader] {
						p.Leader = -1
						if p.ErrorCode == 0 {
							p.ErrorCode = kerr.LeaderNotAvailable.Code
						}
					}
				}
			}
			if !maps.Equal(learned, ids) {
				t.Fatalf("learned %v, want %v", learned, ids)
			}
			return slices.Contains(slices.Collect(maps.Values(missing)), true)
		})
	}
}

func TestFindCoordinator(t *testing.T) {
	for _, hide := range []bool{false, true} {
		rewrites(t, 10, func(frame []byte, h RequestHeader, w *world) ([]byte, bool, error) {
			w.brokers[0] = fakeAddr{"klink-of-broker-0", 1}
			before := bytes.Clone(frame)
			out, unknown, err := RewriteFindCoordinator(frame, h, w, hide)
			if !hide && !bytes.Equal(before, frame) {
				t.Fatal("the frame was changed")
			}
			return out, unknown, err
		}, func(w *world, resp *kmsg.FindCoordinatorResponse) (unknown bool) {
			show := func(id *int32, host *string, port *int32, code *int16) {
				if !w.at(*id, host, port) {
					unknown = true
					if hide {
						*id, *host, *port, *code = -1, "", -1, kerr.CoordinatorNotAvailable.Code
					}
				}
			}
			if resp.Version <= 3 {
				show(&resp.NodeID, &resp.Host, &resp.Port, &resp.ErrorCode)
			}
			for i := range resp.Coordinators {
				c := &resp.Coordinators[i]
				show(&c.NodeID, &c.Host, &c.Port, &c.ErrorCode)
			}
			return unknown
		})
	}
}

// There may be no coordinator to have an address.
func TestFindNoCoordinator(t *testing.T) {
	for version := int16(0); version <= 6; version++ {
		resp := kmsg.NewPtrFindCoordinatorResponse()
		resp.Version = version
		resp.ErrorCode, resp.NodeID, resp.Port = kerr.CoordinatorNotAvailable.Code, -1, -1
		if version >= 4 {
			resp.Coordinators = []kmsg.FindCoordinatorResponseCoordinator{{Key: "g", NodeID: -1, Port: -1, ErrorCode: 15}}
		}
		h, frame := responseFrame(resp)
		got, unknown, err := RewriteFindCoordinator(bytes.Clone(frame), h, newWorld(), true)
		if err != nil || unknown || !bytes.Equal(got, frame) {
			t.Errorf("v%d: unknown %v, %v: %x", version, unknown, err, got)
		}
	}
}

func TestDescribeCluster(t *testing.T) {
	rewrites(t, 60, func(frame []byte, h RequestHeader, w *world) ([]byte, bool, error) {
		return RewriteDescribeCluster(frame, h, w)
	}, func(w *world, resp *kmsg.DescribeClusterResponse) (unknown bool) {
		resp.Brokers = slices.DeleteFunc(resp.Brokers, func(b kmsg.DescribeClusterResponseBroker) bool {
			_, ok := w.brokers[b.NodeID]
			unknown = unknown || !ok
			return !ok
		})
		for i := range resp.Brokers {
			w.at(resp.Brokers[i].NodeID, &resp.Brokers[i].Host, &resp.Brokers[i].Port)
		}
		return unknown
	})
}

func TestDescribeQuorum(t *testing.T) {
	rewrites(t, 55, func(frame []byte, h RequestHeader, w *world) ([]byte, bool, error) {
		if h.Version < 2 && int(int32At(frame)) != len(frame)-4 {
			return nil, false, ErrMalformed // nothing to rewrite, so nothing is read
		}
		out, err := RewriteDescribeQuorum(frame, h, w)
		return out, false, err
	}, func(w *world, resp *kmsg.DescribeQuorumResponse) bool {
		for i := range resp.Nodes {
			node := &resp.Nodes[i]
			for j := range node.Listeners {
				port := int32(node.Listeners[j].Port)
				w.at(node.NodeID, &node.Listeners[j].Host, &port)
				node.Listeners[j].Port = uint16(port)
			}
		}
		return false
	})
}

func TestShareAcknowledge(t *testing.T) {
	rewrites(t, 79, func(frame []byte, h RequestHeader, w *world) ([]byte, bool, error) {
		out, err := RewriteShareAcknowledge(frame, h, w)
		return out, false, err
	}, func(w *world, resp *kmsg.ShareAcknowledgeResponse) bool {
		resp.NodeEndpoints = slices.DeleteFunc(resp.NodeEndpoints, func(b kmsg.ShareAcknowledgeResponseNodeEndpoint) bool {
			_, ok := w.brokers[b.NodeID]
			return !ok
		})
		for i := range resp.NodeEndpoints {
			w.at(resp.NodeEndpoints[i].NodeID, &resp.NodeEndpoints[i].Host, &resp.NodeEndpoints[i].Port)
		}
		return false
	})
}

func FuzzAddresses(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 1))
	for _, key := range []int16{0, 3, 10, 18, 55, 60, 79} {
		api, _ := Supported(key)
		for v := api.Min; v <= api.Max; v++ {
			_, _, frame := randomResponse[kmsg.Response](f, r, key, v)
			f.Add(key, v, frame, true)
		}
	}
	f.Fuzz(func(t *testing.T, key, version int16, frame []byte, hide bool) {
		flexible, ok := Flexible(key, version)
		if !ok {
			return
		}
		h := RequestHeader{Key: key, Version: version, Flexible: flexible}
		w := newWorld()
		var out []byte
		var err error
		switch key {
		case 0:
			out, _, err = RewriteProduceEndpoints(frame, h, w)
		case 3:
			out, _, err = RewriteMetadata(frame, h, w, hide, func([16]byte, []byte) {})
		case 10:
			out, _, err = RewriteFindCoordinator(frame, h, w, hide)
		case 18:
			out, err = RewriteApiVersions(frame, h, true)
		case 55:
			out, err = RewriteDescribeQuorum(frame, h, w)
		case 60:
			out, _, err = RewriteDescribeCluster(frame, h, w)
		case 79:
			out, err = RewriteShareAcknowledge(frame, h, w)
		default:
			return
		}
		if changed := err == nil && !bytes.Equal(out, frame); changed && int(int32At(out)) != len(out)-4 {
			t.Fatalf("size prefix %d on %d bytes", int32At(out), len(out))
		}
	})
}
