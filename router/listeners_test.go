package router

import (
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Every address in a response is that of the listener to which the client has connected, whichever
// API tells it. A client that got an address of another listener might not reach it, or would reach
// it without TLS.
func TestAddressesAreOfTheClientsListener(t *testing.T) {
	w := newHotWorld(t)
	w.router.Directory().SetBrokers(
		map[int32]Addr{1: {Host: "inside", Port: 101}, 2: {Host: "inside", Port: 102}},
		map[int32]Addr{1: {Host: "outside", Port: 201}, 2: {Host: "outside", Port: 202}},
	)
	const kafka, port = "kafka-2.example", 9092 // a Fetch response cannot get longer
	node := func(host string, port int32) string { return fmt.Sprintf("%s:%d", host, port) }
	asks := map[string]func(t *testing.T) string{
		"Metadata": func(*testing.T) string {
			req := kmsg.NewPtrMetadataRequest()
			req.Version = 13
			resp, _ := send(w, req, metadataOf(1, 2))
			return node(resp.Brokers[1].Host, resp.Brokers[1].Port)
		},
		"FindCoordinator": func(*testing.T) string {
			req := kmsg.NewPtrFindCoordinatorRequest()
			req.Version = 6
			resp, _ := send(w, req, func(*kmsg.FindCoordinatorRequest) *kmsg.FindCoordinatorResponse {
				resp := kmsg.NewPtrFindCoordinatorResponse()
				resp.Coordinators = []kmsg.FindCoordinatorResponseCoordinator{{Key: "g", NodeID: 2, Host: kafka, Port: port}}
				return resp
			})
			return node(resp.Coordinators[0].Host, resp.Coordinators[0].Port)
		},
		"DescribeCluster": func(*testing.T) string {
			req := kmsg.NewPtrDescribeClusterRequest()
			resp, _ := send(w, req, func(*kmsg.DescribeClusterRequest) *kmsg.DescribeClusterResponse {
				resp := kmsg.NewPtrDescribeClusterResponse()
				resp.Brokers = []kmsg.DescribeClusterResponseBroker{{NodeID: 2, Host: kafka, Port: port}}
				return resp
			})
			return node(resp.Brokers[0].Host, resp.Brokers[0].Port)
		},
		"DescribeQuorum": func(*testing.T) string {
			req := kmsg.NewPtrDescribeQuorumRequest()
			req.Version = 2
			resp, _ := send(w, req, func(*kmsg.DescribeQuorumRequest) *kmsg.DescribeQuorumResponse {
				resp := kmsg.NewPtrDescribeQuorumResponse()
				listener := []kmsg.DescribeQuorumResponseNodeListener{{Name: "CONTROLLER", Host: kafka, Port: port}}
				resp.Nodes = []kmsg.DescribeQuorumResponseNode{{NodeID: 2, Listeners: listener}}
				return resp
			})
			return node(resp.Nodes[0].Listeners[0].Host, int32(resp.Nodes[0].Listeners[0].Port))
		},
		"Produce": func(*testing.T) string {
			resp, _ := send(w, produceTo(11, 1, "ordinary"), func(req *kmsg.ProduceRequest) *kmsg.ProduceResponse {
				var got []string
				resp := accept(&got)(req)
				resp.Brokers = []kmsg.ProduceResponseBroker{{NodeID: 2, Host: kafka, Port: port}}
				return resp
			})
			return node(resp.Brokers[0].Host, resp.Brokers[0].Port)
		},
		"Fetch": func(*testing.T) string {
			resp, _ := send(w, fetchFrom(17, 0, "ordinary"), func(*kmsg.FetchRequest) *kmsg.FetchResponse {
				resp := kmsg.NewPtrFetchResponse()
				resp.Brokers = []kmsg.FetchResponseBroker{{NodeID: 2, Host: kafka, Port: port}}
				return resp
			})
			return node(resp.Brokers[0].Host, resp.Brokers[0].Port)
		},
		"ShareFetch": func(*testing.T) string {
			req := kmsg.NewPtrShareFetchRequest()
			req.Topics = []kmsg.ShareFetchRequestTopic{{TopicID: hotID("ordinary")}}
			req.Version = 1
			resp, _ := send(w, req, func(*kmsg.ShareFetchRequest) *kmsg.ShareFetchResponse {
				resp := kmsg.NewPtrShareFetchResponse()
				resp.NodeEndpoints = []kmsg.ShareFetchResponseNodeEndpoint{{NodeID: 2, Host: kafka, Port: port}}
				return resp
			})
			return node(resp.NodeEndpoints[0].Host, resp.NodeEndpoints[0].Port)
		},
		"ShareAcknowledge": func(*testing.T) string {
			req := kmsg.NewPtrShareAcknowledgeRequest()
			req.Version = 1
			resp, _ := send(w, req, func(*kmsg.ShareAcknowledgeRequest) *kmsg.ShareAcknowledgeResponse {
				resp := kmsg.NewPtrShareAcknowledgeResponse()
				resp.NodeEndpoints = []kmsg.ShareAcknowledgeResponseNodeEndpoint{{NodeID: 2, Host: kafka, Port: port}}
				return resp
			})
			return node(resp.NodeEndpoints[0].Host, resp.NodeEndpoints[0].Port)
		},
	}
	for name, ask := range asks {
		t.Run(name, func(t *testing.T) {
			for listener, want := range []string{"inside:102", "outside:202"} {
				s := w.router.NewSession(Client{Broker: 1, Listener: listener}).(*session)
				s.proven.Store(true)
				w.proxy.session = s
				if got := ask(t); got != want {
					t.Errorf("listener %d: %s, want %s", listener, got, want)
				}
			}
		})
	}
	if _, ok := w.router.Directory().Broker(2, 1); ok {
		t.Error("a listener without addresses has one")
	}
}
