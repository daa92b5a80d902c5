package router

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
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

// controlWorld is everything around a session in the tests of the control path: mirrors, topic ids,
// a control plane, and a broker whose behaviour the test determines. Every request starts with a
// fresh copy.
type controlWorld struct {
	t          testing.TB
	mirrors    map[string]Mirror
	known      map[[16]byte]string // in the directory
	unlearned  map[[16]byte]string // found by a look-up
	operations int32               // that the broker grants on the cluster
	control    map[string]*protocol.Error
	broker     map[string]*kerr.Error
	deletes    map[string][16]byte // ids that the broker reports as deleted, if not the mirrors'
	meanwhile  map[string]Mirror   // mirrors that exist once the broker has answered
	linkAdmin  LinkAdmin
	incomplete bool // the first complete snapshot comes while the request waits

	router *Router
	trace  []string
}

func newControlWorld(t testing.TB) *controlWorld {
	return &controlWorld{
		t:       t,
		mirrors: make(map[string]Mirror), known: make(map[[16]byte]string), unlearned: make(map[[16]byte]string),
		operations: 1<<kmsg.ACLOperationAlter | 1<<kmsg.ACLOperationDescribe,
		deletes:    make(map[string][16]byte), meanwhile: make(map[string]Mirror),
		control: make(map[string]*protocol.Error), broker: make(map[string]*kerr.Error),
	}
}

func (w *controlWorld) log(format string, args ...any) {
	w.trace = append(w.trace, fmt.Sprintf(format, args...))
}

func (w *controlWorld) publish(mirrors map[string]Mirror) {
	s := &Snapshot{Complete: true, Mirrors: make(map[string]*Mirror)}
	for name, m := range mirrors {
		s.Mirrors[name] = &m
	}
	w.router.Publish(s)
}

// proxy makes a session in a fresh copy of the world.
func (w *controlWorld) proxy() *fakeProxy {
	w.trace = nil
	w.router = New(fakeControl{w}, fakeFacts{w})
	w.router.SetLinkAdmin(w.linkAdmin)
	w.router.Directory().SetTopics(w.known)
	p := &fakeProxy{t: w.t, session: provenSession(w.router), broker: w.serve}
	if w.incomplete {
		p.wait = func() {
			w.log("waits for the mirrors")
			w.publish(w.mirrors)
			p.wait = nil
		}
	} else {
		w.publish(w.mirrors)
	}
	return p
}

// send sends a request and returns what happened, in words, and the answer.
func (w *controlWorld) send(req kmsg.Request) (trace string, answer kmsg.Response) {
	h := protocol.RequestHeader{CorrelationID: 77, ClientID: []byte("tester")}
	request := protocol.AppendRequest(nil, h, req)
	p := w.proxy()
	broker := p.broker
	p.broker = func(asked []byte) []byte {
		got, err := protocol.ParseRequestHeader(asked)
		if err != nil || got.Body < 0 {
			w.t.Fatalf("an unreadable request went upstream: %v", err)
		}
		switch upstream := decodeForTest(w.t, got, asked); {
		case bytes.Equal(asked, request):
			w.log("-> %s untouched", kmsg.NameForKey(got.Key))
		case string(got.ClientID) != "tester" || got.CorrelationID != 77:
			w.t.Fatalf("%s went upstream as client %q with correlation id %d", kmsg.NameForKey(got.Key), got.ClientID, got.CorrelationID)
		case upstream.Key() == int16(kmsg.Metadata):
			w.log("-> Metadata v%d %s", upstream.GetVersion(), show(upstream))
		default:
			if got.Version != req.GetVersion() {
				w.t.Fatalf("%s v%d went upstream for v%d", kmsg.NameForKey(got.Key), got.Version, req.GetVersion())
			}
			w.log("-> %s %s", kmsg.NameForKey(got.Key), show(upstream))
		}
		defer func() {
			if len(w.meanwhile) > 0 {
				w.publish(w.meanwhile)
			}
		}()
		return broker(asked)
	}
	switch out := p.exchange(request); {
	case out.closed != nil:
		w.log("closed: %v", out.closed)
	default:
		h.Key, h.Version, h.Flexible = req.Key(), req.GetVersion(), req.IsFlexible()
		if binary.BigEndian.Uint32(out.answer[4:]) != 77 {
			w.t.Fatalf("an answer to another request: % x", out.answer[4:8])
		}
		answer = req.ResponseKind()
		answer.SetVersion(req.GetVersion())
		if err := answer.ReadFrom(out.answer[h.ResponseBody(out.answer):]); err != nil {
			w.t.Fatalf("an unreadable answer to %T v%d: %v", req, req.GetVersion(), err)
		}
		if again := protocol.AppendResponse(nil, h, answer); !bytes.Equal(again, out.answer) {
			w.t.Fatalf("an answer with more than was to be said: % x", out.answer)
		}
		w.log("<- %s", show(answer))
	}
	return strings.Join(w.trace, "\n"), answer
}

func decodeForTest(t testing.TB, h protocol.RequestHeader, frame []byte) kmsg.Request {
	t.Helper()
	req := newRequestForTest(h.Key)
	req.SetVersion(h.Version)
	if err := req.ReadFrom(frame[h.Body:]); err != nil {
		t.Fatalf("an unreadable %s v%d: %v", kmsg.NameForKey(h.Key), h.Version, err)
	}
	return req
}

func newRequestForTest(key int16) kmsg.Request {
	if req, ok := linkapi.NewRequest(key); ok {
		return req
	}
	return kmsg.RequestForKey(key)
}

// fakeControl is a control plane that records its calls, and answers as the test says.
type fakeControl struct{ *controlWorld }

func (c fakeControl) HandleLink(_ context.Context, req kmsg.Request) kmsg.Response {
	c.log("control: %s %s", linkapi.Name(req.Key()), show(req))
	return req.ResponseKind()
}

func (c fakeControl) CreateMirror(_ context.Context, spec MirrorSpec) *protocol.Error {
	c.log("control: CreateMirror %s", show(spec))
	if err := c.control[spec.Topic]; err != nil {
		return err
	}
	if !spec.ValidateOnly {
		mirrors := map[string]Mirror{spec.Topic: {
			Topic: spec.Topic, TopicID: [16]byte{0xcc}, Link: spec.Link, ReadOnly: true,
			Timelines:     []*timeline.Partition{timeline.New(0, 0, 0), timeline.New(0, 0, 0)},
			SyncedConfigs: map[string]bool{"retention.ms": true},
		}}
		for name, m := range c.mirrors {
			mirrors[name] = m
		}
		c.publish(mirrors)
	}
	return nil
}

func (c fakeControl) SetMirrorState(_ context.Context, topic, state string, validateOnly bool) *protocol.Error {
	c.log("control: SetMirrorState %s %s validateOnly=%v", topic, state, validateOnly)
	return c.control[topic]
}

func (c fakeControl) TopicsDeleted(_ context.Context, mirrors []DeletedMirror) error {
	var names []string
	for _, m := range mirrors {
		name := m.Topic
		if m.ID != "" {
			name += "#" + m.ID
		}
		names = append(names, name)
	}
	c.log("control: TopicsDeleted %s", strings.Join(names, " "))
	for _, m := range mirrors {
		if err := c.control[m.Topic]; err != nil {
			return err
		}
	}
	return nil
}

type fakeFacts struct{ *controlWorld }

func (f fakeFacts) LearnTopicIDs(_ context.Context, ids [][16]byte) error {
	topics := make(map[[16]byte]string)
	for id, name := range f.known {
		topics[id] = name
	}
	for _, id := range ids {
		f.log("looks up topic id %s", showID(id))
		name, ok := f.unlearned[id]
		if !ok {
			return errors.New("no broker answers")
		}
		if name != "forgotten" {
			topics[id] = name
		}
	}
	f.router.Directory().SetTopics(topics)
	return nil
}

func (f fakeFacts) SeekTime(_ context.Context, _ string, _ int32, _ *timeline.Partition, found, _ int64) (physical, at int64, err error) {
	return found, -1, nil
}

func (f fakeFacts) LearnBrokers(context.Context) error { return nil }

func (f fakeFacts) LearnOffset(context.Context, string, int32, *timeline.Partition, int64) error {
	return errors.New("no broker answers")
}

// command carries out a command that shapes the world; handled is false for others.
func (w *controlWorld) command(td *datadriven.TestData) (handled bool) {
	scan := func(key string, dest any) { td.MaybeScanArgs(w.t, key, dest) }
	id := func() (id [16]byte) {
		var n int
		scan("id", &n)
		id[0] = byte(n)
		return id
	}
	switch td.Cmd {
	case "mirror", "mirror-meanwhile":
		// mirror link=L [topic=T] [id=N] [mirror=I] [state=S] [readonly] [shift=N] [floor=N]
		// [synced=(K, K)]
		name := td.CmdArgs[0].Key
		m := Mirror{Topic: name, SourceTopic: name, TopicID: id(), ReadOnly: td.HasArg("readonly"), SyncedConfigs: make(map[string]bool)}
		scan("link", &m.Link)
		scan("mirror", &m.ID)
		scan("state", &m.State)
		shift, floor, synced := int64(0), int64(0), ""
		scan("shift", &shift)
		scan("floor", &floor)
		for _, p := range []int64{0, 1} { // partition 1 is shifted by one more
			m.Timelines = append(m.Timelines, timeline.New(0, shift+p, floor))
		}
		for i := 0; ; i++ {
			a, ok := td.Arg("synced")
			if !ok || i >= len(a.Vals) {
				break
			}
			a.Scan(w.t, i, &synced)
			m.SyncedConfigs[synced] = true
		}
		if td.Cmd == "mirror-meanwhile" {
			w.meanwhile[name] = m
		} else {
			w.mirrors[name] = m
		}
	case "broker-deletes": // broker-deletes T id=N
		w.deletes[td.CmdArgs[0].Key] = id()
	case "known": // known id=N topic=T: the directory has it; no topic = known not to exist
		name := ""
		scan("topic", &name)
		w.known[id()] = name
	case "unlearned": // unlearned id=N topic=T: a look-up finds it
		name := ""
		scan("topic", &name)
		w.unlearned[id()] = name
	case "grant": // grant ALTER DESCRIBE ..., or cannot-tell
		w.operations = 0
		if td.HasArg("cannot-tell") {
			w.operations = math.MinInt32
			return true
		}
		for _, a := range td.CmdArgs {
			operation, err := kmsg.ParseACLOperation(a.Key)
			if err != nil {
				td.Fatalf(w.t, "%v", err)
			}
			w.operations |= 1 << operation
		}
	case "control-error", "broker-error": // broker-error orders code=INVALID_CONFIG
		code := ""
		scan("code", &code)
		err := errorForTest(code)
		if td.Cmd == "broker-error" {
			w.broker[td.CmdArgs[0].Key] = err
		} else {
			w.control[td.CmdArgs[0].Key] = protocol.Errorf(err, "as the test says")
		}
	case "incomplete":
		w.incomplete = true
	case "reset":
		*w = *newControlWorld(w.t)
	default:
		return false
	}
	return true
}

func errorForTest(name string) *kerr.Error {
	for code := int16(1); code < 200; code++ {
		if err := kerr.TypedErrorForCode(code); err != nil && err.Message == name {
			return err
		}
	}
	panic("no error code " + name)
}

// request carries out "request API versions=0-7" with the request in JSON as input. Versions that
// behave alike are shown together.
func (w *controlWorld) request(td *datadriven.TestData) string {
	key := keyForTest(td.CmdArgs[0].Key)
	var from, to int
	td.ScanArgs(w.t, "versions", &from, &to)
	var out strings.Builder
	last, since := "", from
	flush := func(until int) {
		if since == until {
			fmt.Fprintf(&out, "v%d\n%s\n", since, indent(last))
		} else {
			fmt.Fprintf(&out, "v%d to v%d\n%s\n", since, until, indent(last))
		}
	}
	for v := from; v <= to; v++ {
		req := newRequestForTest(key)
		if d, ok := req.(interface{ Default() }); ok {
			d.Default()
		}
		if err := json.Unmarshal([]byte(td.Input), req); err != nil {
			td.Fatalf(w.t, "%v", err)
		}
		req.SetVersion(int16(v))
		trace, _ := w.send(req)
		if v > from && trace != last {
			flush(v - 1)
			since = v
		}
		last = trace
	}
	flush(to)
	return out.String()
}

func indent(s string) string { return "  " + strings.ReplaceAll(s, "\n", "\n  ") }

func keyForTest(name string) int16 {
	for _, a := range protocol.APIs() {
		if a.Name == name {
			return a.Key
		}
	}
	panic("no API " + name)
}

// show prints a message with the fields that are not zero.
func show(v any) string {
	var b strings.Builder
	showValue(&b, reflect.ValueOf(v))
	return b.String()
}

func showID(id [16]byte) string { return fmt.Sprintf("id%d", id[0]) }

func showValue(b *strings.Builder, v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			b.WriteString("null")
			return
		}
		showValue(b, v.Elem())
	case reflect.Struct:
		b.WriteByte('{')
		first := true
		for i := range v.NumField() {
			name := v.Type().Field(i).Name
			if v.Field(i).IsZero() || name == "Version" || !v.Type().Field(i).IsExported() {
				continue
			}
			if !first {
				b.WriteByte(' ')
			}
			first = false
			b.WriteString(name + ":")
			showValue(b, v.Field(i))
		}
		b.WriteByte('}')
	case reflect.Slice:
		b.WriteByte('[')
		for i := range v.Len() {
			if i > 0 {
				b.WriteByte(' ')
			}
			showValue(b, v.Index(i))
		}
		b.WriteByte(']')
	case reflect.Map:
		b.WriteByte('{')
		keys := v.MapKeys()
		slices.SortFunc(keys, func(x, y reflect.Value) int { return strings.Compare(x.String(), y.String()) })
		for i, k := range keys {
			if i > 0 {
				b.WriteByte(' ')
			}
			b.WriteString(k.String() + ":")
			showValue(b, v.MapIndex(k))
		}
		b.WriteByte('}')
	case reflect.Array:
		b.WriteString(showID(v.Interface().([16]byte)))
	case reflect.String:
		fmt.Fprintf(b, "%q", v.String())
	default:
		fmt.Fprint(b, v.Interface())
	}
}
