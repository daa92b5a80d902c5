package router

import (
	"context"
	"errors"
	"maps"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"klink/protocol"
	"klink/protocol/timeline"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// hotWorld is everything around a session in the tests of the hot path: mirrors, topic ids,
// brokers, and a destination whose answers the test determines. Topics: mirror is read-only, with
// partition 0 shifted by 1000, 1 aligned, and 2 without a timeline yet; stopped is a stopped
// mirror, shifted by 500; ordinary and other are no mirrors; gone does not exist.
type hotWorld struct {
	t      testing.TB
	router *Router
	proxy  *fakeProxy
	// A look-up finds the entries of topics and brokers, or fails.
	topics  map[[16]byte]string
	brokers map[int32]Addr
	failing bool
	lookups int
	logs    map[at]*hotLog
	looksMu sync.Mutex
	looks   int // into logs
	// seeks are the results of SeekTime by the offset that a broker has found: offset and
	// timestamp.
	seeks     map[timeSeek][2]int64
	timeSeeks int
	// forbidden are topics to which the client has no rights. asked counts the topics whose rights
	// klink has asked for.
	forbidden  map[string]bool
	cannotTell bool // the broker reports no operations, but hides topics from clients
	asked      int
	now        atomic.Int64 // nanoseconds; the clock of the desk
}

// later advances the clock until remembered looks have expired.
func (w *hotWorld) later() { w.now.Add(int64(10 * time.Second)) }

// tellRights is the broker's answer to klink's question about the client's rights.
func (w *hotWorld) tellRights(h protocol.RequestHeader, frame []byte) []byte {
	w.t.Helper()
	req := decodeForTest(w.t, h, frame).(*kmsg.MetadataRequest)
	resp := kmsg.NewPtrMetadataResponse()
	resp.Version = h.Version
	resp.Brokers = []kmsg.MetadataResponseBroker{{NodeID: 1, Host: "broker", Port: 9092}}
	for _, t := range req.Topics {
		w.asked++
		r := kmsg.NewMetadataResponseTopic()
		r.Topic = t.Topic
		if w.forbidden[*t.Topic] {
			r.ErrorCode = kerr.TopicAuthorizationFailed.Code
		} else if req.IncludeTopicAuthorizedOperations && !w.cannotTell {
			r.AuthorizedOperations = 1<<kmsg.ACLOperationRead | 1<<kmsg.ACLOperationDelete
		}
		resp.Topics = append(resp.Topics, r)
	}
	return protocol.AppendResponse(nil, h, resp)
}

func hotID(name string) (id [16]byte) {
	copy(id[:], name)
	id[15] = 1
	return id
}

func hotSnapshot() *Snapshot {
	stopped := timeline.Open(0, 500, 0)
	stopped.End(0, 500, true)
	sn := &Snapshot{Complete: true, Mirrors: map[string]*Mirror{
		"mirror": {
			Topic: "mirror", TopicID: hotID("mirror"), ReadOnly: true,
			Timelines: []*timeline.Partition{timeline.New(0, 1000, 1000), timeline.New(0, 0, 0)},
		},
		"stopped": {Topic: "stopped", Timelines: []*timeline.Partition{stopped}},
	}}
	return sn
}

func newHotWorld(t testing.TB) *hotWorld {
	w := &hotWorld{
		t:       t,
		topics:  map[[16]byte]string{hotID("stopped"): "stopped", hotID("ordinary"): "ordinary", hotID("other"): "other", hotID("_klink_state"): "_klink_state", hotID("gone"): ""},
		brokers: map[int32]Addr{1: {Host: "klink", Port: 19093}, 2: {Host: "klink", Port: 19094}},
	}
	w.router = New(nil, w)
	w.router.desk.now = func() time.Time { return time.Unix(0, w.now.Load()) }
	w.router.Publish(hotSnapshot())
	w.router.Directory().SetBrokers(w.brokers)
	w.router.Directory().SetTopics(w.topics)
	w.proxy = &fakeProxy{t: t, session: provenSession(w.router)}
	return w
}

// LearnTopicIDs implements Facts.
func (w *hotWorld) LearnTopicIDs(_ context.Context, ids [][16]byte) error {
	w.lookups++
	if w.failing {
		return errors.New("no broker answers")
	}
	found := map[[16]byte]string{}
	for _, id := range ids {
		if name, ok := w.topics[id]; ok {
			found[id] = name
		}
	}
	w.router.Directory().AddTopics(found)
	return nil
}

// LearnOffset implements Facts. It looks into the logs of the test.
func (w *hotWorld) LearnOffset(_ context.Context, topic string, partition int32, line *timeline.Partition, physical int64) error {
	w.looksMu.Lock()
	defer w.looksMu.Unlock()
	w.looks++
	if w.failing {
		return errors.New("no broker answers")
	}
	log := w.logs[at{topic, partition}]
	if log == nil {
		w.t.Errorf("%s-%d is looked into at %d", topic, partition, physical)
		return errors.New("no log")
	}
	log.look(line, physical)
	return nil
}

// SeekTime implements Facts. It returns the entry of seeks for found.
func (w *hotWorld) SeekTime(_ context.Context, topic string, partition int32, _ *timeline.Partition, found, timestamp int64) (physical, recorded int64, err error) {
	w.looksMu.Lock()
	defer w.looksMu.Unlock()
	w.timeSeeks++
	if w.failing {
		return 0, 0, errors.New("no broker answers")
	}
	if s, ok := w.seeks[timeSeek{at{topic, partition}, found, timestamp}]; ok {
		return s[0], s[1], nil
	}
	return found, -1, nil
}

// timeSeek are the arguments of Facts.SeekTime.
type timeSeek struct {
	at
	found, timestamp int64
}

// LearnBrokers implements Facts.
func (w *hotWorld) LearnBrokers(context.Context) error {
	w.lookups++
	if w.failing {
		return errors.New("no broker answers")
	}
	w.router.Directory().SetBrokers(maps.Clone(w.brokers))
	return nil
}

// send sends a request. answer is the destination's answer to the request that reaches it, or nil
// if none should reach it. Both are encoded and decoded on the way.
func send[Q, R any](w *hotWorld, req Q, answer func(Q) R) (resp R, out exchanged) {
	w.t.Helper()
	request := any(req).(kmsg.Request)
	frame := protocol.AppendRequest(nil, protocol.RequestHeader{CorrelationID: 77, ClientID: []byte("tester")}, request)
	w.proxy.broker = func(asked []byte) []byte {
		w.t.Helper()
		h, err := protocol.ParseRequestHeader(asked)
		if err == nil && h.Key == 3 && request.Key() != 3 {
			return w.tellRights(h, asked)
		}
		if answer == nil {
			w.t.Fatalf("%s v%d was forwarded", kmsg.NameForKey(request.Key()), request.GetVersion())
		}
		if err != nil || h.Body < 0 || h.Key != request.Key() || h.Version != request.GetVersion() || h.CorrelationID != 77 || string(h.ClientID) != "tester" {
			w.t.Fatalf("forwarded with header %+v: %v", h, err)
		}
		got := any(answer(decodeForTest(w.t, h, asked).(Q))).(kmsg.Response)
		got.SetVersion(h.Version)
		return protocol.AppendResponse(nil, h, got)
	}
	out = w.proxy.exchange(frame)
	if out.answer == nil {
		return resp, out
	}
	h := protocol.RequestHeader{Key: request.Key(), Version: request.GetVersion(), Flexible: request.IsFlexible()}
	got := request.ResponseKind()
	got.SetVersion(h.Version)
	at := h.ResponseBody(out.answer)
	if at < 0 || int(int32(out.answer[0])<<24|int32(out.answer[1])<<16|int32(out.answer[2])<<8|int32(out.answer[3])) != len(out.answer)-4 {
		w.t.Fatalf("an answer that is no frame: %x", out.answer)
	}
	if err := got.ReadFrom(out.answer[at:]); err != nil {
		w.t.Fatalf("reading the answer: %v", err)
	}
	return got.(R), out
}

// provenSession is a session of a client that the broker is known to serve.
func provenSession(r *Router) *session {
	s := r.NewSession(Client{Broker: 1}).(*session)
	s.proven.Store(true)
	return s
}
