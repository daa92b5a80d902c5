package router

import (
	"encoding/binary"
	"io"
	"net"
	"testing"

	"klink/protocol"
	"klink/protocol/linkapi"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// The client has the authority that a cluster with ACLs grants to the principal of its connection.
func TestAuthorityIsThePrincipalsOwn(t *testing.T) {
	cluster := func(operation kmsg.ACLOperation) kfake.ACL {
		return kfake.ACL{Resource: kmsg.ACLResourceTypeCluster, Name: "kafka-cluster", Pattern: kmsg.ACLResourcePatternTypeLiteral, Operation: operation, Allow: true}
	}
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.EnableSASL(), kfake.EnableACLs(),
		kfake.Superuser("PLAIN", "root", "p"),
		kfake.User("PLAIN", "alters", "p", cluster(kmsg.ACLOperationAlter)),
		kfake.User("PLAIN", "describes", "p", cluster(kmsg.ACLOperationDescribe)),
		kfake.User("PLAIN", "nobody", "p"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, test := range []struct {
		user          string
		create, lists bool
	}{
		{"root", true, true},
		{"alters", true, true}, // ALTER implies DESCRIBE
		{"describes", false, true},
		{"nobody", false, false},
	} {
		t.Run(test.user, func(t *testing.T) {
			w := newControlWorld(t)
			p := w.proxy()
			p.broker = plainLogin(t, c.ListenAddrs()[0], test.user)

			create := &linkapi.CreateLinksRequest{Links: []linkapi.CreateLink{{Name: "east"}}}
			created := askLink[*linkapi.CreateLinksResponse](t, p, create)
			code := int16(0)
			for _, r := range created.Results { // klink's control plane gives none here
				code = r.ErrorCode
			}
			wantCode(t, "CreateLinks", code, test.create)
			wantCode(t, "ListLinks", askLink[*linkapi.ListLinksResponse](t, p, &linkapi.ListLinksRequest{}).ErrorCode, test.lists)
		})
	}
}

func wantCode(t *testing.T, what string, code int16, granted bool) {
	t.Helper()
	want := int16(0)
	if !granted {
		want = kerr.ClusterAuthorizationFailed.Code
	}
	if code != want {
		t.Errorf("%s: error %d, want %d", what, code, want)
	}
}

// askLink sends one request through a session and reads the answer.
func askLink[R kmsg.Response](t *testing.T, p *fakeProxy, req kmsg.Request) R {
	t.Helper()
	h := protocol.RequestHeader{Key: req.Key(), Version: req.GetVersion(), Flexible: req.IsFlexible()}
	out := p.exchange(protocol.AppendRequest(nil, h, req))
	if out.closed != nil {
		t.Fatal(out.closed)
	}
	resp := req.ResponseKind()
	if err := resp.ReadFrom(out.answer[h.ResponseBody(out.answer):]); err != nil {
		t.Fatal(err)
	}
	return resp.(R)
}

// plainLogin connects to a broker, logs in with SASL/PLAIN, and returns the connection as a
// function from request frame to response frame.
func plainLogin(t *testing.T, address, user string) func([]byte) []byte {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	roundTrip := func(request []byte) []byte {
		if _, err := conn.Write(request); err != nil {
			return nil
		}
		var size [4]byte
		if _, err := io.ReadFull(conn, size[:]); err != nil {
			return nil
		}
		response := make([]byte, 4+binary.BigEndian.Uint32(size[:]))
		copy(response, size[:])
		if _, err := io.ReadFull(conn, response[4:]); err != nil {
			return nil
		}
		return response
	}
	handshake := kmsg.NewPtrSASLHandshakeRequest()
	handshake.Version, handshake.Mechanism = 1, "PLAIN"
	login := kmsg.NewPtrSASLAuthenticateRequest()
	login.SASLAuthBytes = []byte("\x00" + user + "\x00p")
	for _, req := range []kmsg.Request{handshake, login} {
		response := roundTrip(protocol.AppendRequest(nil, protocol.RequestHeader{}, req))
		if len(response) < 10 || binary.BigEndian.Uint16(response[8:]) != 0 {
			t.Fatalf("%T as %s: % x", req, user, response)
		}
	}
	return roundTrip
}
