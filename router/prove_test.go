package router

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"

	"klink/protocol"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// strangers are requests that klink answers itself, or looks something up for, if it knows the
// client.
func strangers() map[string]kmsg.Request {
	partitions := kmsg.NewPtrCreatePartitionsRequest()
	partitions.Topics = []kmsg.CreatePartitionsRequestTopic{{Topic: "mirror", Count: 9}}
	txn := kmsg.NewPtrAddPartitionsToTxnRequest()
	txn.Version = 3
	txn.Topics = []kmsg.AddPartitionsToTxnRequestTopic{{Topic: "mirror", Partitions: []int32{0}}}
	markers := kmsg.NewPtrWriteTxnMarkersRequest()
	markers.Markers = []kmsg.WriteTxnMarkersRequestMarker{{Topics: []kmsg.WriteTxnMarkersRequestMarkerTopic{{Topic: "mirror", Partitions: []int32{0}}}}}
	share := kmsg.NewPtrShareFetchRequest()
	share.Topics = []kmsg.ShareFetchRequestTopic{{TopicID: hotID("mirror")}}
	remove := kmsg.NewPtrDeleteTopicsRequest()
	remove.Version = 6
	remove.Topics = []kmsg.DeleteTopicsRequestTopic{{TopicID: hotID("unheard of")}}
	large := kmsg.NewPtrDeleteTopicsRequest()
	large.Version = 5
	large.TopicNames = []string{"_klink_state"}
	for len(large.TopicNames) < largeControl/4 {
		large.TopicNames = append(large.TopicNames, "_klink_")
	}
	return map[string]kmsg.Request{
		"produce to a mirror":            produceTo(7, 1, "mirror"),
		"produce to a mirror, no acks":   produceTo(7, 0, "mirror"),
		"produce to a topic of klink's":  produceTo(7, 1, "_klink_state"),
		"produce by an unknown id":       produceTo(13, 1, "unheard of"),
		"fetch by an unknown id":         fetchFrom(13, 0, "unheard of"),
		"fetch in an unknown session":    fetchFrom(13, 1, "ordinary"),
		"share fetch of a mirror":        share,
		"create partitions of a mirror":  partitions,
		"add a mirror to a transaction":  txn,
		"write a marker into a mirror":   markers,
		"delete topics by an unknown id": remove,
		"delete topics, a large request": large,
	}
}

// Before a login a broker closes the connection on every request but three. klink itself answers
// such a client nothing, and asks the cluster nothing for it.
func TestNothingIsSaidBeforeTheBrokerAnswered(t *testing.T) {
	for name, req := range strangers() {
		t.Run(name, func(t *testing.T) {
			w := newHotWorld(t)
			w.proxy.session = w.router.NewSession(Client{Broker: 1})
			w.proxy.broker = func([]byte) []byte { return nil }
			out := w.proxy.exchange(protocol.AppendRequest(nil, protocol.RequestHeader{}, req))
			if !errors.Is(out.closed, errBrokerGone) || out.answer != nil || w.lookups > 0 || w.router.RejectedProduces() > 0 {
				t.Fatalf("answer %x, closed %v, %d look-ups", out.answer, out.closed, w.lookups)
			}
			if h, _ := protocol.ParseRequestHeader(out.asked[0]); h.Key != 3 || len(out.asked) != 1 {
				t.Errorf("the broker was asked %x", out.asked)
			}
		})
	}
}

// metadataBroker answers Metadata with itself, and everything else with success.
func metadataBroker(t *testing.T, asked *[]int16) func([]byte) []byte {
	return func(frame []byte) []byte {
		h, err := protocol.ParseRequestHeader(frame)
		if err != nil || h.Body < 0 {
			t.Fatalf("%x went upstream", frame)
		}
		*asked = append(*asked, h.Key)
		resp := kmsg.ResponseForKey(h.Key)
		resp.SetVersion(h.Version)
		if m, ok := resp.(*kmsg.MetadataResponse); ok {
			m.Brokers = []kmsg.MetadataResponseBroker{{NodeID: 1, Host: "kafka", Port: 9092}}
		}
		return protocol.AppendResponse(nil, h, resp)
	}
}

// noLogin is a broker that answers a client which has not logged in, as brokers do after
// SaslHandshake v1: with the error response of the request, in which every list is empty.
func noLogin(frame []byte) []byte {
	h, err := protocol.ParseRequestHeader(frame)
	if err != nil || h.Body < 0 {
		return nil
	}
	resp := kmsg.ResponseForKey(h.Key)
	resp.SetVersion(h.Version)
	return protocol.AppendResponse(nil, h, resp)
}

// A mere answer proves no login.
func TestAnErrorResponseProvesNothing(t *testing.T) {
	for name, req := range strangers() {
		t.Run(name, func(t *testing.T) {
			w := newHotWorld(t)
			w.proxy.session = w.router.NewSession(Client{Broker: 1})
			w.proxy.broker = noLogin
			for range 2 {
				out := w.proxy.exchange(protocol.AppendRequest(nil, protocol.RequestHeader{}, req))
				if !errors.Is(out.closed, errNotServed) || out.answer != nil || len(out.asked) != 1 {
					t.Fatalf("answer %x, closed %v, the broker was asked %x", out.answer, out.closed, out.asked)
				}
			}
			if w.proxy.session.Proven() || w.lookups > 0 || w.looks > 0 || w.router.RejectedProduces() > 0 {
				t.Errorf("proven %v, %d look-ups, %d looks into logs", w.proxy.session.Proven(), w.lookups, w.looks)
			}
		})
	}
}

// Every request of the API table, in every version, waits for the proof, except the three that make
// up a login.
func TestEveryRequestWaitsForTheProof(t *testing.T) {
	for _, api := range protocol.APIs() {
		for version := api.Min; version <= api.Max; version++ {
			w := newHotWorld(t)
			w.proxy.session = w.router.NewSession(Client{Broker: 1})
			var first []int16
			w.proxy.broker = func(frame []byte) []byte {
				h, _ := protocol.ParseRequestHeader(frame)
				first = append(first, h.Key)
				return noLogin(frame)
			}
			frame := binary.BigEndian.AppendUint16(make([]byte, 4), uint16(api.Key))
			frame = binary.BigEndian.AppendUint16(frame, uint16(version))
			frame = append(frame, 0, 0, 0, 9, 0xff, 0xff)
			if flexible, _ := protocol.Flexible(api.Key, version); flexible {
				frame = append(frame, 0)
			}
			// The body is garbage that every decoder rejects: none may see it.
			frame = append(frame, bytes.Repeat([]byte{0xff}, 64)...)
			binary.BigEndian.PutUint32(frame, uint32(len(frame)-4))
			out := w.proxy.exchange(frame)
			login := api.Key == 17 || api.Key == 18 || api.Key == 36
			switch {
			case login && (len(first) != 1 || first[0] != api.Key || out.closed != nil):
				t.Errorf("%s v%d: the broker was asked %v: %v", api.Name, version, first, out.closed)
			case !login && (len(first) != 1 || first[0] != 3 || !errors.Is(out.closed, errNotServed)):
				t.Errorf("%s v%d: the broker was asked %v: %v", api.Name, version, first, out.closed)
			case w.proxy.session.Proven():
				t.Errorf("%s v%d proves something", api.Name, version)
			}
		}
	}
}

// After SaslHandshake v0 a client sends bare tokens, which klink cannot tell from requests; so
// klink does not offer v0.
func TestBareTokensAreRefused(t *testing.T) {
	w := newHotWorld(t)
	w.proxy.session = w.router.NewSession(Client{Broker: 1})
	w.proxy.broker = func([]byte) []byte { t.Fatal("forwarded"); return nil }
	handshake := kmsg.NewPtrSASLHandshakeRequest()
	handshake.Mechanism = "PLAIN"
	token := append([]byte{0, 0, 0, 20}, "\x00admin\x00admin-secret..."[:20]...)
	gssapi := append([]byte{0, 0, 0, 12}, 0x60, 0x82, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
	for _, frame := range [][]byte{protocol.AppendRequest(nil, protocol.RequestHeader{}, handshake), token, gssapi} {
		if out := w.proxy.exchange(frame); !errors.Is(out.closed, errUnknownAPI) {
			t.Errorf("%x: %v", frame, out.closed)
		}
	}
}

// The proxy may start the proof while there is no request.
func TestProve(t *testing.T) {
	for _, served := range []bool{true, false} {
		w := newHotWorld(t)
		s := w.router.NewSession(Client{Broker: 1})
		var asked []int16
		broker := metadataBroker(t, &asked)
		if !served {
			broker = noLogin
		}
		d := s.Prove()
		if d.Action != Forward || !d.Exclusive {
			t.Fatalf("%+v", d)
		}
		d = d.Whole(broker(d.Frame))
		if want := map[bool]Action{true: Drop, false: Close}[served]; d.Action != want || s.Proven() != served {
			t.Errorf("served %v: action %d, proven %v", served, d.Action, s.Proven())
		}
	}
}

// A client that the broker serves gets the usual answers, after one more question to the broker for
// its first request.
func TestFirstRequestIsAnsweredAfterTheBrokerAnswered(t *testing.T) {
	for name, req := range strangers() {
		t.Run(name, func(t *testing.T) {
			frame := protocol.AppendRequest(nil, protocol.RequestHeader{CorrelationID: 5, ClientID: []byte("me")}, req)
			var asked []int16
			known := newHotWorld(t)
			known.proxy.broker = metadataBroker(t, &asked)
			want := known.proxy.exchange(frame)
			direct := len(asked)

			w := newHotWorld(t)
			w.proxy.broker = metadataBroker(t, &asked)
			w.proxy.session = w.router.NewSession(Client{Broker: 1})
			for i := range 2 {
				asked = nil
				got := w.proxy.exchange(frame)
				if !bytes.Equal(got.answer, want.answer) || got.dropped != want.dropped || (got.closed == nil) != (want.closed == nil) {
					t.Fatalf("request %d: %+v, want %+v", i, got, want)
				}
				probes := len(asked) - direct
				if i == 0 && probes < 1 || i == 1 && probes != 0 {
					t.Errorf("request %d: the broker was asked %v", i, asked)
				}
			}
			if want.closed != nil && w.router.RejectedProduces() != 2*known.router.RejectedProduces() {
				t.Errorf("%d refusals counted", w.router.RejectedProduces())
			}
		})
	}
}

// klink asks for the proof once, whatever the first request is. The requests of a login prove
// nothing.
func TestWhatProvesAClient(t *testing.T) {
	for _, c := range []struct {
		key  int16
		want bool
	}{{17, false}, {18, false}, {36, false}, {0, true}, {1, true}, {2, true}, {3, true}, {10, true}, {16, true}, {23, true}, {60, true}} {
		w := newHotWorld(t)
		w.proxy.session = w.router.NewSession(Client{Broker: 1})
		var asked []int16
		w.proxy.broker = metadataBroker(t, &asked)
		req := kmsg.RequestForKey(c.key)
		req.SetVersion(1)
		switch {
		case c.key == 0:
			req = produceTo(13, 1, "ordinary")
		case c.key == 60:
			req.SetVersion(0)
		}
		for i := range 3 {
			asked = nil
			want := []int16{c.key}
			if c.want && i == 0 {
				want = []int16{3, c.key}
			}
			out := w.proxy.exchange(protocol.AppendRequest(nil, protocol.RequestHeader{}, req))
			if out.answer == nil || w.proxy.session.Proven() != c.want || !slices.Equal(asked, want) {
				t.Errorf("key %d: proven %v after %v: %v", c.key, w.proxy.session.Proven(), asked, out.closed)
			}
		}
	}
}

// klink repeats a failed look-up for the next request with that id.
func TestLookUpAfterOneThatFailed(t *testing.T) {
	for _, proven := range []bool{true, false} {
		w := newHotWorld(t)
		if !proven {
			w.proxy.session = w.router.NewSession(Client{Broker: 1})
		}
		w.router.Directory().SetTopics(nil)
		w.router.directory = Directory{}
		var asked []int16
		produce := func() string {
			frame := protocol.AppendRequest(nil, protocol.RequestHeader{}, produceTo(13, 1, "ordinary"))
			w.proxy.broker = metadataBroker(t, &asked)
			out := w.proxy.exchange(frame)
			if out.closed != nil {
				t.Fatal(out.closed)
			}
			resp := kmsg.NewPtrProduceResponse()
			resp.Version = 13
			h := protocol.RequestHeader{Version: 13, Flexible: true}
			if err := resp.ReadFrom(out.answer[h.ResponseBody(out.answer):]); err != nil {
				t.Fatal(err)
			}
			return describeProduce(resp)
		}
		w.failing = true
		for i := range 3 {
			if got := produce(); !strings.HasPrefix(got, "ordinary/0 !6 no broker answers") || w.lookups != i+1 {
				t.Errorf("%s after %d look-ups", got, w.lookups)
			}
		}
		w.failing = false
		if got := produce(); got != "" || w.lookups != 4 { // this broker sends empty answers
			t.Errorf("%s after %d look-ups", got, w.lookups)
		}
	}
}
