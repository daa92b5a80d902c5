package gate

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"klink/internal/saslserver"
	"klink/protocol"
)

var allByPassword = []string{saslserver.Plain, saslserver.ScramSHA256, saslserver.ScramSHA512}

// byPassword are logins of a user in every way.
func byPassword(user, password string) map[string]sasl.Mechanism {
	return map[string]sasl.Mechanism{
		"PLAIN":         plain.Auth{User: user, Pass: password}.AsMechanism(),
		"SCRAM-SHA-256": scram.Auth{User: user, Pass: password}.AsSha256Mechanism(),
		"SCRAM-SHA-512": scram.Auth{User: user, Pass: password}.AsSha512Mechanism(),
	}
}

// Who logs in at klink is at the broker whom the map names.
func TestLoginsAreMapped(t *testing.T) {
	w := newWorld(t, settings{mechanisms: allByPassword}, entry("User:alice", destinationUser, destinationPassword), entry("User:nobody", ownUser, ownPassword))
	for name, m := range byPassword("alice", "alice-secret") {
		cl := w.client(nil, m)
		require.NoError(t, w.produce(cl, "orders"), name)
		require.ErrorIs(t, w.produce(cl, "secret"), kerr.TopicAuthorizationFailed, name)
	}
	// A wrong password and an unknown user look the same, also one who is in the map.
	for _, login := range [][2]string{{"alice", "wrong-secret"}, {"mallory", "any-secret"}, {"nobody", "any-secret"}, {ownUser, ownPassword}} {
		for name, m := range byPassword(login[0], login[1]) {
			err := w.reach(w.client(nil, m))
			require.ErrorIs(t, err, kerr.SaslAuthenticationFailed, name)
			require.ErrorContains(t, err, "invalid credentials with SASL mechanism "+name)
		}
	}
	// bob can log in, and the map does not know him.
	for name, m := range byPassword("bob", "bob-secret") {
		err := w.reach(w.client(nil, m))
		require.ErrorIs(t, err, kerr.SaslAuthenticationFailed, name)
		require.ErrorContains(t, err, "klink has no credentials at the destination for User:bob")
	}
}

// What the broker refuses is refused by klink, and neither answer nor log has the password.
func TestRefusedByTheBroker(t *testing.T) {
	w := newWorld(t, settings{mechanisms: allByPassword}, entry("User:alice", refusedUser, "other-secret"))
	for name, m := range byPassword("alice", "alice-secret") {
		err := w.reach(w.client(nil, m))
		require.ErrorIs(t, err, kerr.SaslAuthenticationFailed, name)
		require.ErrorContains(t, err, "the destination refused the credentials that klink has for User:alice")
		require.NotContains(t, err.Error(), "other-secret")
		require.NotContains(t, err.Error(), refusedUser)
	}
}

// A map that is emptied, and users that go, get nobody in, and end connections.
func TestAnEmptyMapIsForNobody(t *testing.T) {
	w := newWorld(t, settings{mechanisms: allByPassword}, entry("User:alice", destinationUser, destinationPassword))
	login := byPassword("alice", "alice-secret")["SCRAM-SHA-256"]
	cl := w.client(nil, login)
	require.NoError(t, w.produce(cl, "orders"))
	w.writeMap()
	require.Eventually(t, func() bool { return w.proxy.Stats().Connections.Load() == 0 }, 30*time.Second, 10*time.Millisecond)
	require.ErrorContains(t, w.reach(w.client(nil, login)), "klink has no credentials at the destination for User:alice")
	w.writeMap(entry("User:alice", destinationUser, destinationPassword))
	require.Eventually(t, func() bool { return w.reach(w.client(nil, login)) == nil }, 30*time.Second, 10*time.Millisecond)
	require.NoError(t, os.WriteFile(w.users, []byte(`{"secret":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=","users":{}}`), 0o600))
	require.ErrorIs(t, w.reach(w.client(nil, login)), kerr.SaslAuthenticationFailed)
}

// While a broker lets logins end, klink logs in again between the requests of the client, who sees
// nothing of it.
func TestLoginsAtTheBrokerAreRenewed(t *testing.T) {
	w := newWorld(t, settings{mechanisms: allByPassword, brokers: []kfake.Opt{kfake.BrokerConfigs(map[string]string{"connections.max.reauth.ms": "1200"})}},
		entry("User:alice", destinationUser, destinationPassword))
	cl := w.client(nil, byPassword("alice", "alice-secret")["SCRAM-SHA-512"])
	require.NoError(t, w.produce(cl, "orders"))
	connections, logins := w.proxy.Stats().Accepted.Load(), w.logins.Load()
	require.Eventually(t, func() bool {
		require.NoError(t, w.produce(cl, "orders"))
		return w.logins.Load() >= logins+4 // two messages each
	}, time.Minute, 20*time.Millisecond)
	require.Equal(t, connections, w.proxy.Stats().Accepted.Load(), "the client had to connect again")
}

// raw is a connection that sends whatever it likes.
type raw struct {
	t    *testing.T
	conn net.Conn
	next int32
}

func (w *world) raw() *raw {
	w.t.Helper()
	conn, err := net.Dial("tcp", w.proxy.Addr().String())
	require.NoError(w.t, err)
	w.t.Cleanup(func() { conn.Close() })
	require.NoError(w.t, conn.SetDeadline(time.Now().Add(time.Minute)))
	return &raw{t: w.t, conn: conn}
}

// ask sends a request and returns the response; nil if the connection was closed.
func (r *raw) ask(req kmsg.Request) kmsg.Response {
	r.t.Helper()
	r.next++
	_, err := r.conn.Write(protocol.AppendRequest(nil, protocol.RequestHeader{CorrelationID: r.next}, req))
	if err != nil {
		return nil
	}
	var header [8]byte
	if _, err := io.ReadFull(r.conn, header[:]); err != nil {
		return nil
	}
	body := make([]byte, binary.BigEndian.Uint32(header[:])-4)
	if _, err := io.ReadFull(r.conn, body); err != nil {
		return nil
	}
	resp := req.ResponseKind()
	require.NoError(r.t, resp.ReadFrom(body))
	return resp
}

// ended reports whether klink has closed the connection.
func (r *raw) ended() bool {
	_, err := r.conn.Read(make([]byte, 1))
	return errors.Is(err, io.EOF) || err != nil && strings.Contains(err.Error(), "reset")
}

func (r *raw) handshake(mechanism string) *kmsg.SASLHandshakeResponse {
	r.t.Helper()
	req := kmsg.NewPtrSASLHandshakeRequest()
	req.Version, req.Mechanism = 1, mechanism
	resp, _ := r.ask(req).(*kmsg.SASLHandshakeResponse)
	return resp
}

func (r *raw) authenticate(message string) *kmsg.SASLAuthenticateResponse {
	r.t.Helper()
	req := kmsg.NewPtrSASLAuthenticateRequest()
	req.Version, req.SASLAuthBytes = 1, []byte(message)
	resp, _ := r.ask(req).(*kmsg.SASLAuthenticateResponse)
	return resp
}

func metadata() kmsg.Request {
	req := kmsg.NewPtrMetadataRequest()
	req.Version = 8
	return req
}

func produceRequest() kmsg.Request {
	req := kmsg.NewPtrProduceRequest()
	req.Version, req.Acks = 7, 1
	return req
}

// What a stranger can do wrong on the way in, and what klink does then.
func TestHostileLogins(t *testing.T) {
	w := newWorld(t, settings{mechanisms: allByPassword}, entry("User:alice", destinationUser, destinationPassword), entry(anonymous, destinationUser, destinationPassword))
	const right = "\x00alice\x00alice-secret"
	failed, order := kerr.SaslAuthenticationFailed.Code, kerr.IllegalSaslState.Code

	for _, req := range []kmsg.Request{metadata(), produceRequest()} {
		r := w.raw()
		require.Nil(t, r.ask(req), "a request before the login was answered")
		r = w.raw()
		require.Zero(t, r.handshake("PLAIN").ErrorCode)
		require.Nil(t, r.ask(req), "a request during the login was answered")
	}
	for name, attack := range map[string]func(r *raw){
		"authenticate before handshake": func(r *raw) { require.Equal(t, order, r.authenticate(right).ErrorCode) },
		"handshake in the middle": func(r *raw) {
			r.handshake("PLAIN")
			require.Equal(t, order, r.handshake("PLAIN").ErrorCode)
		},
		"another authorization id": func(r *raw) {
			r.handshake("PLAIN")
			require.Equal(t, failed, r.authenticate("bob"+right).ErrorCode)
		},
		"another authorization id by SCRAM": func(r *raw) {
			r.handshake("SCRAM-SHA-256")
			require.Equal(t, failed, r.authenticate("n,a=bob,n=alice,r=0123456789").ErrorCode)
		},
		"channel binding": func(r *raw) {
			r.handshake("SCRAM-SHA-256")
			require.Equal(t, failed, r.authenticate("p=tls-unique,,n=alice,r=0123456789").ErrorCode)
		},
		"delegation token": func(r *raw) {
			r.handshake("SCRAM-SHA-256")
			require.Equal(t, failed, r.authenticate("n,,n=alice,r=0123456789,tokenauth=true").ErrorCode)
		},
		"no proof": func(r *raw) {
			r.handshake("SCRAM-SHA-256")
			first := string(r.authenticate("n,,n=alice,r=0123456789").SASLAuthBytes)
			nonce, _, _ := strings.Cut(first, ",")
			require.Equal(t, failed, r.authenticate("c=biws,"+nonce+",p=").ErrorCode)
		},
		"another nonce": func(r *raw) {
			r.handshake("SCRAM-SHA-256")
			r.authenticate("n,,n=alice,r=0123456789")
			require.Equal(t, failed, r.authenticate("c=biws,r=0123456789,p="+strings.Repeat("A", 43)+"=").ErrorCode)
		},
		"empty name": func(r *raw) { r.handshake("PLAIN"); require.Equal(t, failed, r.authenticate("\x00\x00").ErrorCode) },
		"empty password": func(r *raw) {
			r.handshake("PLAIN")
			require.Equal(t, failed, r.authenticate("\x00alice\x00").ErrorCode)
		},
		"one part more": func(r *raw) {
			r.handshake("PLAIN")
			require.Equal(t, failed, r.authenticate(right+"\x00x").ErrorCode)
		},
		"a mechanism that is not enabled": func(r *raw) {
			for range maxHandshakes {
				resp := r.handshake("GSSAPI")
				require.Equal(t, kerr.UnsupportedSaslMechanism.Code, resp.ErrorCode)
				require.Equal(t, allByPassword, resp.SupportedMechanisms)
			}
		},
		"anonymous": func(r *raw) {
			r.handshake("PLAIN")
			require.Equal(t, failed, r.authenticate("\x00ANONYMOUS\x00ANONYMOUS").ErrorCode)
		},
		"too large": func(r *raw) {
			_, err := r.conn.Write(binary.BigEndian.AppendUint32(nil, maxRequest+1))
			require.NoError(t, err)
		},
		"negative": func(r *raw) {
			_, err := r.conn.Write([]byte{0xff, 0xff, 0xff, 0xff})
			require.NoError(t, err)
		},
		"unknown API": func(r *raw) {
			_, err := r.conn.Write([]byte{0, 0, 0, 10, 0x7f, 0xff, 0, 0, 0, 0, 0, 1, 0xff, 0xff})
			require.NoError(t, err)
		},
		"endless ApiVersions": func(r *raw) {
			for range maxRequests {
				require.NotNil(t, r.ask(kmsg.NewPtrApiVersionsRequest()))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := w.raw()
			attack(r)
			require.True(t, r.ended(), "the connection stays open")
		})
	}
	require.Zero(t, w.proxy.Stats().RequestMemory.Load())
}

// Who has logged in may log in again, as the same one and in the same way; whoever tries to become
// somebody else is out. None of it reaches the broker.
func TestLoginsAgain(t *testing.T) {
	w := newWorld(t, settings{mechanisms: allByPassword}, entry("User:alice", destinationUser, destinationPassword), entry("User:bob", destinationUser, destinationPassword))
	in := func() *raw {
		r := w.raw()
		require.Zero(t, r.handshake("PLAIN").ErrorCode)
		require.Zero(t, r.authenticate("\x00alice\x00alice-secret").ErrorCode)
		require.NotNil(t, r.ask(metadata()))
		return r
	}
	r := in()
	logins := w.logins.Load()
	for range 3 {
		require.Zero(t, r.handshake("PLAIN").ErrorCode)
		require.Zero(t, r.authenticate("\x00alice\x00alice-secret").ErrorCode)
		require.NotNil(t, r.ask(metadata()))
	}
	for name, attack := range map[string]func(r *raw) int16{
		"another principal": func(r *raw) int16 {
			require.Zero(t, r.handshake("PLAIN").ErrorCode)
			resp := r.authenticate("\x00bob\x00bob-secret")
			require.Contains(t, *resp.ErrorMessage, "Cannot change principals")
			return resp.ErrorCode
		},
		"a wrong password": func(r *raw) int16 {
			require.Zero(t, r.handshake("PLAIN").ErrorCode)
			return r.authenticate("\x00alice\x00wrong").ErrorCode
		},
		"another mechanism": func(r *raw) int16 { return r.handshake("SCRAM-SHA-256").ErrorCode },
		"authenticate twice": func(r *raw) int16 {
			return r.authenticate("\x00alice\x00alice-secret").ErrorCode
		},
	} {
		r := in()
		require.NotZero(t, attack(r), name)
		require.Nil(t, r.ask(metadata()), "%s: a request was answered", name)
	}
	// Each of the five connections logged in once, with two messages.
	require.Equal(t, logins+2*4, w.logins.Load())
}

// Without --authentication terminate nobody logs in with SASL: klink has done so.
func TestCertificatesWithLogins(t *testing.T) {
	w := newWorld(t, settings{tls: true, required: true}, entry("User:CN=alice", destinationUser, destinationPassword))
	r := w.raw()
	r.conn = tls.Client(r.conn, w.named("alice", ""))
	require.NotNil(t, r.ask(metadata()))
	logins := w.logins.Load()
	require.Equal(t, kerr.IllegalSaslState.Code, r.handshake("PLAIN").ErrorCode)
	require.Equal(t, kerr.IllegalSaslState.Code, r.authenticate("\x00klink\x00klink-own-secret").ErrorCode)
	require.NotNil(t, r.ask(metadata()))
	require.Equal(t, logins, w.logins.Load())
}
