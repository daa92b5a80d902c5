package e2e

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"klink/internal/kafkatest"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestStrangersLearnNothing sends what klink would answer by itself, on connections that are not
// logged in at brokers with SASL: after SaslHandshake a broker answers every request, with an
// error, so that an answer is no proof of a login. A stranger gets no byte, and klink does nothing
// for it. Who has logged in is answered.
func TestStrangersLearnNothing(t *testing.T) {
	t.Parallel()
	source := kafkatest.Start(t)
	if _, err := kadm.NewClient(source.Client(t)).CreateTopic(t.Context(), 1, 1, nil, "secret"); err != nil {
		t.Fatal(err)
	}
	for _, v := range []kafkatest.Version{kafkatest.V431, kafkatest.V282, kafkatest.V241} {
		t.Run(string(v), func(t *testing.T) {
			opts := []kafkatest.Option{kafkatest.SASLPlaintext()}
			if v == kafkatest.V431 {
				opts = append(opts, kafkatest.Scram("SCRAM-SHA-256", "eve", "eve-secret"))
			}
			destination := kafkatest.StartRelease(t, v, opts...)
			k := StartKlink(t, destination, "--allow-plaintext-secrets")
			k.commandConfig = destination.PropertiesFile(t, kafkatest.SuperUser, kafkatest.SuperUserPassword)
			accountAt(t, k.Bootstrap(), destination)
			createLink(t, k, "east", source)
			k.MustCLI(t, "topic", "create", "secret", "--link", "east")

			stepwise := map[string]func(*raw){
				"no login":       func(*raw) {},
				"handshake only": func(r *raw) { handshake(r, "PLAIN") },
			}
			if v == kafkatest.V431 {
				stepwise["half a SCRAM login"] = func(r *raw) {
					handshake(r, "SCRAM-SHA-256")
					step := kmsg.NewPtrSASLAuthenticateRequest()
					step.SASLAuthBytes = []byte("n,,n=eve,r=fyko+d2lbbFgONRv9qkxdawL")
					if resp := ask[*kmsg.SASLAuthenticateResponse](r, step, 2); resp.ErrorCode != 0 || len(resp.SASLAuthBytes) == 0 {
						t.Fatalf("the first step of SCRAM: %d %s", resp.ErrorCode, resp.SASLAuthBytes)
					}
				}
			}
			for step, begin := range stepwise {
				brokerProvesNothing(t, destination.Bootstrap(), begin)
				for name, s := range strangerRequests() {
					r := dialRaw(t, k.BrokerAddr(t, 0))
					begin(r)
					r.send(s.req, s.version)
					if got := r.rest(); len(got) > 0 {
						t.Errorf("%s, %s: klink answers %d bytes: %.200q", step, name, len(got), got)
					}
				}
			}
			if m := k.Metrics(t); !strings.Contains(m, "klink_proxy_produce_rejected_total 0") {
				t.Error("klink has decided on a stranger's produce request")
			}

			r := dialRaw(t, k.BrokerAddr(t, 0))
			handshake(r, "PLAIN")
			login := kmsg.NewPtrSASLAuthenticateRequest()
			login.SASLAuthBytes = []byte("\x00" + kafkatest.SuperUser + "\x00" + kafkatest.SuperUserPassword)
			if resp := ask[*kmsg.SASLAuthenticateResponse](r, login, 1); resp.ErrorCode != 0 {
				t.Fatalf("login: %d", resp.ErrorCode)
			}
			if resp := ask[*kmsg.ProduceResponse](r, produceSecret(), 7); resp.Topics[0].Partitions[0].ErrorCode != 42 {
				t.Errorf("who has logged in is told %+v", resp.Topics)
			}
		})
	}
}

// brokerProvesNothing is what klink builds on: a broker that has not been logged in at tells nobody
// who it is.
func brokerProvesNothing(t *testing.T, addr string, begin func(*raw)) {
	t.Helper()
	r := dialRaw(t, addr)
	begin(r)
	req := kmsg.NewPtrMetadataRequest()
	req.Topics = []kmsg.MetadataRequestTopic{}
	r.send(req, 8)
	got := r.rest()
	if len(got) == 0 {
		return
	}
	resp := kmsg.NewPtrMetadataResponse()
	resp.Version = 8
	if err := resp.ReadFrom(got[8:]); err != nil || len(resp.Brokers) > 0 {
		t.Fatalf("the broker answers a stranger: %+v, %v", resp, err)
	}
	t.Logf("the broker answers a stranger %d bytes and closes", len(got))
}

// rest reads until the other end closes the connection, which it must.
func (r *raw) rest() []byte {
	r.t.Helper()
	_ = r.conn.SetDeadline(time.Now().Add(rawTimeout))
	got, err := io.ReadAll(r.conn)
	var op *net.OpError
	if err != nil && (!errors.As(err, &op) || op.Timeout()) {
		r.t.Fatalf("the connection is not closed: %v", err)
	}
	if len(got) >= 4 && len(got)-4 != int(binary.BigEndian.Uint32(got)) {
		r.t.Fatalf("%d bytes are not one frame", len(got))
	}
	return got
}

func handshake(r *raw, mechanism string) {
	r.t.Helper()
	req := kmsg.NewPtrSASLHandshakeRequest()
	req.Mechanism = mechanism
	if resp := ask[*kmsg.SASLHandshakeResponse](r, req, 1); resp.ErrorCode != 0 {
		r.t.Fatalf("SaslHandshake: %d, %v", resp.ErrorCode, resp.SupportedMechanisms)
	}
}

func produceSecret() *kmsg.ProduceRequest {
	p := kmsg.NewPtrProduceRequest()
	p.Acks, p.TimeoutMillis = 1, 1000
	p.Topics = []kmsg.ProduceRequestTopic{{Topic: "secret", Partitions: []kmsg.ProduceRequestTopicPartition{{Records: []byte("no batch")}}}}
	return p
}

type strangers struct {
	req     kmsg.Request
	version int16
}

// strangerRequests are requests of which klink says something by itself, or looks something up for.
func strangerRequests() map[string]strangers {
	unknown := produceSecret()
	unknown.Topics[0].TopicID = [16]byte{1, 2, 3}
	fetch := kmsg.NewPtrFetchRequest()
	fetch.SessionEpoch = -1
	fetch.Topics = []kmsg.FetchRequestTopic{{TopicID: [16]byte{1, 2, 3}, Partitions: []kmsg.FetchRequestTopicPartition{{}}}}
	remove := kmsg.NewPtrDeleteTopicsRequest()
	remove.TopicNames = []string{"_klink_state"}
	partitions := kmsg.NewPtrCreatePartitionsRequest()
	partitions.Topics = []kmsg.CreatePartitionsRequestTopic{{Topic: "secret", Count: 9}}
	txn := kmsg.NewPtrAddPartitionsToTxnRequest()
	txn.Topics = []kmsg.AddPartitionsToTxnRequestTopic{{Topic: "secret", Partitions: []int32{0}}}
	return map[string]strangers{
		"produce to a mirror":           {produceSecret(), 7},
		"produce by an unknown id":      {unknown, 13},
		"fetch by an unknown id":        {fetch, 13},
		"delete a topic of klink's":     {remove, 3},
		"create partitions of a mirror": {partitions, 1},
		"add a mirror to a transaction": {txn, 0},
	}
}
