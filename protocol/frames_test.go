package protocol

import (
	"bytes"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"klink/protocol/timeline"
)

// requestFrame encodes a request as a client does, and reads its header back.
func requestFrame(t testing.TB, req kmsg.Request) (RequestHeader, []byte) {
	t.Helper()
	frame := kmsg.NewRequestFormatter(kmsg.FormatterClientID("tester")).AppendRequest(nil, req, 77)
	h, err := ParseRequestHeader(frame)
	if err != nil || h.Body < 0 {
		t.Fatalf("header of %s v%d: %v", kmsg.NameForKey(req.Key()), req.GetVersion(), err)
	}
	return h, frame
}

// responseFrame encodes a response to a request of its key and version.
func responseFrame(resp kmsg.Response) (RequestHeader, []byte) {
	h := RequestHeader{Key: resp.Key(), Version: resp.GetVersion(), CorrelationID: 77, Flexible: resp.IsFlexible()}
	return h, AppendResponse(nil, h, resp)
}

// readResponse decodes a whole response frame, which must have nothing behind it.
func readResponse[R kmsg.Response](t testing.TB, h RequestHeader, frame []byte) R {
	t.Helper()
	resp := kmsg.ResponseForKey(h.Key)
	resp.SetVersion(h.Version)
	if n := int(int32At(frame)); n != len(frame)-4 {
		t.Fatalf("size prefix %d on a frame of %d bytes", n, len(frame))
	}
	if err := resp.ReadFrom(frame[h.ResponseBody(frame):]); err != nil {
		t.Fatalf("reading %s v%d: %v", kmsg.NameForKey(h.Key), h.Version, err)
	}
	if _, again := responseFrame(resp); !bytes.Equal(again[8:], frame[8:]) {
		t.Fatalf("%s v%d is not encoded as kmsg does:\n got %x\nwant %x", kmsg.NameForKey(h.Key), h.Version, frame, again)
	}
	return resp.(R)
}

// int32At reads the int32 at the beginning of b.
func int32At(b []byte) int32 { r := Reader{Buf: b}; return r.Int32() }

// versions runs f for each version of an API in the table.
func versions(t *testing.T, key int16, f func(t *testing.T, version int16)) {
	api, ok := Supported(key)
	if !ok {
		t.Fatalf("key %d is not in the table", key)
	}
	for v := api.Min; v <= api.Max; v++ {
		t.Run(kmsg.NameForKey(key)+"/v"+string(rune('0'+v/10))+string(rune('0'+v%10)), func(t *testing.T) { f(t, v) })
	}
}

// world is a Resolver: mirrors by name, ids by name, addresses by broker.
type world struct {
	mirrors map[string]fakeMirror
	ids     map[[16]byte]string // "" = known not to exist
	brokers map[int32]fakeAddr
}

type fakeAddr struct {
	host string
	port int32
}

// fakeMirror has a view for each of its partitions.
type fakeMirror []View

func (m fakeMirror) View(partition int32) View {
	if partition < 0 || int(partition) >= len(m) {
		return View{}
	}
	return m[partition]
}

func (w *world) Topic(name []byte, id [16]byte) (Mirror, bool) {
	topic, known := string(name), true
	if name == nil {
		topic, known = w.ids[id]
	}
	if m, ok := w.mirrors[topic]; ok {
		return m, true
	}
	return nil, known
}

func (w *world) Address(broker int32) (string, int32, bool) {
	a, ok := w.brokers[broker]
	return a.host, a.port, ok
}

func idOf(name string) (id [16]byte) {
	copy(id[:], name)
	id[15] = 1
	return id
}

// The world of most tests: topic mirror is read-only with partitions shifted by 1000 and 0 and one
// that is hidden, stopped is a stopped mirror shifted by 500, ordinary is neither.
const (
	mirrorShift  = 1000
	mirrorFloor  = 1003
	stoppedShift = 500
)

func newWorld() *world {
	stoppedLine := timeline.Open(0, stoppedShift, stoppedShift)
	stoppedLine.End(0, stoppedShift, true)
	w := &world{
		mirrors: map[string]fakeMirror{
			"mirror":  {{Timeline: timeline.New(0, mirrorShift, mirrorFloor), Stamped: true}, {Timeline: timeline.New(0, 0, 0), Stamped: true}, {Hidden: true}},
			"stopped": {{Timeline: stoppedLine}},
		},
		ids:     map[[16]byte]string{idOf("gone"): ""},
		brokers: map[int32]fakeAddr{1: {"klink-1", 19093}, 2: {"klink-2", 19094}},
	}
	for _, name := range []string{"mirror", "stopped", "ordinary"} {
		w.ids[idOf(name)] = name
	}
	return w
}

// shown is what clients see of an offset.
func (w *world) shown(topic string, partition int32, physical int64) int64 {
	v := w.mirrors[topic].View(partition)
	switch {
	case v.Hidden:
		return -1
	case v.Timeline != nil:
		return v.Timeline.ToLogical(physical)
	}
	return physical
}

func ptr[T any](v T) *T { return &v }
