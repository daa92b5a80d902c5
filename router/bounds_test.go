package router

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"reflect"
	"runtime"
	"runtime/metrics"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"klink/protocol"
	"klink/protocol/linkapi"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// This file sends malformed messages that claim to be much larger than they are, for every API of
// the table in every version: requests to the handlers, and responses to what handles those. It
// derives the cases from the table: a new API, handler or response is tested without a change here,
// or the test reports that it could not.

const (
	// maxPerByte is how many bytes of memory a byte of a message may cost.
	maxPerByte = 64
	// boundsSlack is the cost that does not depend on the message.
	boundsSlack = 512 << 10
	// places is roughly how many positions of a message are tried.
	places = 40
	// maxCPU is far above the time for the longest message here, and far below that for 2^31 rounds
	// of a loop.
	maxCPU = time.Second
)

// passUntouched are the APIs with a handler whose responses klink does not read.
var passUntouched = []int16{
	int16(kmsg.AddPartitionsToTxn), int16(kmsg.WriteTxnMarkers), int16(kmsg.ShareGroupHeartbeat), int16(kmsg.AlterShareGroupOffsets), int16(kmsg.StreamsGroupHeartbeat),
}

// bombs replace the rest of a message after some position. Some claim 2^31 elements or tags, or
// more, with nothing behind; others claim as many elements as there are bytes.
func bombs() [][]byte {
	const n = 32 << 10
	fill := func(head []byte, b byte) []byte {
		return append(slices.Clone(head), slices.Repeat([]byte{b}, n)...)
	}
	compact := binary.AppendUvarint(nil, n+1)
	fixed := binary.BigEndian.AppendUint32(nil, n)
	return [][]byte{
		{0xff, 0xff, 0xff, 0xff, 0x0f},                       // 2^32-1 tags, or 2^32-2 elements
		{0xff, 0xff, 0xff, 0xff, 0x07},                       // 2^31-1
		{0x7f, 0xff, 0xff, 0xff},                             // 2^31-1, before flexible versions
		{0x01, 0xff, 0xff, 0xff, 0xff, 0x0f},                 // behind a field of one byte
		{0x01, 0x00, 0xff, 0xff, 0xff, 0xff, 0x0f},           // behind an empty array or no tags
		fill(compact, 0), fill(compact, 1), fill(compact, 2), // nested: arrays within arrays
		fill(fixed, 0), fill(fixed, 1),
	}
}

// boundsWorld has mirrors and brokers, and a control plane that does nothing.
type boundsWorld struct {
	*hotWorld
	session *session
}

func newBoundsWorld(t testing.TB) *boundsWorld {
	w := &boundsWorld{hotWorld: newHotWorld(t)}
	w.logs = map[at]*hotLog{}
	w.router.control = idleControl{}
	w.session = provenSession(w.router)
	return w
}

// idleControl is a control plane that reports success and does nothing.
type idleControl struct{}

func (idleControl) HandleLink(_ context.Context, req kmsg.Request) kmsg.Response {
	return req.ResponseKind()
}
func (idleControl) CreateMirror(context.Context, MirrorSpec) *protocol.Error { return nil }
func (idleControl) SetMirrorState(context.Context, string, string, bool) *protocol.Error {
	return nil
}
func (idleControl) TopicsDeleted(context.Context, []DeletedMirror) error { return nil }

// asked is a request to the broker whose response klink reads.
type asked struct {
	key, version int16
	feed         func(frame []byte) Decision
}

// run carries out the decision on a request. Its broker answers Metadata with itself and everything
// else with an empty response. run calls found for each request whose response klink reads; found
// may answer it, and end the exchange.
func (w *boundsWorld) run(request []byte, found func(asked) bool) (closed error) {
	d := w.session.Request(slices.Clone(request))
	for range 50 {
		switch d.Action {
		case Run:
			d = d.Run(context.Background())
		case Retry:
			d = w.session.Request(slices.Clone(request))
		case Forward:
			if d.Whole == nil && d.Stream == nil {
				return nil
			}
			h, err := protocol.ParseRequestHeader(d.Frame)
			if err != nil || h.Body < 0 {
				w.t.Fatalf("%x is forwarded: %v", d.Frame, err)
			}
			a := asked{key: h.Key, version: h.Version, feed: d.Whole}
			if stream := d.Stream; stream != nil {
				a.feed = func(frame []byte) Decision {
					if _, _, err := stream.Next(frame); err != nil {
						return closing(err)
					}
					return Decision{Action: Drop}
				}
			}
			if found != nil && found(a) {
				return nil
			}
			resp := kmsg.ResponseForKey(h.Key)
			resp.SetVersion(h.Version)
			if m, ok := resp.(*kmsg.MetadataResponse); ok {
				m.AuthorizedOperations = 0x7fffffff
				m.Brokers = []kmsg.MetadataResponseBroker{{NodeID: 1, Host: "kafka", Port: 9092}}
			}
			d = a.feed(protocol.AppendResponse(nil, h, resp))
		default:
			return d.Err
		}
	}
	return nil
}

// costs returns the cost of f: bytes allocated, in whole spans, and CPU time of this thread, which
// other load on the machine does not change.
func costs(f func()) (allocated int64, cpu time.Duration) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	before, began := sample[0].Value.Uint64(), threadCPU()
	f()
	cpu = threadCPU() - began
	metrics.Read(sample)
	return int64(sample[0].Value.Uint64() - before), cpu
}

func threadCPU() time.Duration {
	const rusageThread = 1
	var u syscall.Rusage
	if err := syscall.Getrusage(rusageThread, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// bounded fails the test if f costs more than a message of this size may.
func bounded(t *testing.T, size int, message []byte, f func()) {
	t.Helper()
	// A loop over billions of elements would run for minutes; in that case name the message.
	hung := time.AfterFunc(2*time.Minute, func() { panic(fmt.Sprintf("a message of %d bytes takes minutes: %.100x", size, message)) })
	defer hung.Stop()
	allocated, cpu := costs(f)
	if limit := int64(maxPerByte*size + boundsSlack); allocated > limit {
		t.Fatalf("a message of %d bytes costs %d bytes: %.100x", size, allocated, message)
	}
	if cpu > maxCPU {
		t.Fatalf("a message of %d bytes costs %v of CPU: %.100x", size, cpu, message)
	}
}

// mutations returns copies of a message with a bomb at each position from a given one on; for a
// long message, at some positions.
func mutations(r *rand.Rand, message []byte, from int, each func([]byte)) {
	for at := from; at <= len(message); at++ {
		if len(message)-from > places && r.IntN(len(message)-from) > places {
			continue
		}
		for _, bomb := range bombs() {
			m := append(slices.Clone(message[:at]), bomb...)
			binary.BigEndian.PutUint32(m, uint32(len(m)-4))
			each(m)
		}
	}
}

// guess fills a message with values that mean something to klink.
func guess(r *rand.Rand, v reflect.Value) {
	if tags, ok := v.Addr().Interface().(*kmsg.Tags); ok {
		*tags = kmsg.Tags{}
		return
	}
	names := []string{"mirror", "stopped", "ordinary", "_klink_state", "mirror.link", "retention.ms"}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			switch f := v.Field(i); v.Type().Field(i).Name {
			case "ReplicaID", "ReplicaState":
			case "Topic", "ResourceName":
				if f.Kind() == reflect.String {
					f.SetString(names[r.IntN(4)])
					continue
				}
				guess(r, f)
			default:
				guess(r, f)
			}
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1+r.IntN(2), 3))
		for i := range v.Len() {
			if d, ok := v.Index(i).Addr().Interface().(interface{ Default() }); ok {
				d.Default()
			}
			guess(r, v.Index(i))
		}
	case reflect.Array:
		if id, ok := v.Addr().Interface().(*[16]byte); ok && r.IntN(3) > 0 {
			*id = hotID(names[r.IntN(4)])
		}
	case reflect.Pointer:
		if v.SetZero(); r.IntN(4) > 0 {
			v.Set(reflect.New(v.Type().Elem()))
			guess(r, v.Elem())
		}
	case reflect.String:
		v.SetString(names[r.IntN(len(names))])
	case reflect.Bool:
		v.SetBool(r.IntN(2) > 0)
	case reflect.Uint8:
		v.SetUint(uint64(r.IntN(3)))
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(int64(r.IntN(4) - 1))
	}
}

// requestOf makes a request frame of an API.
func requestOf(r *rand.Rand, api protocol.API, version int16) []byte {
	req := kmsg.RequestForKey(api.Key)
	if link, ok := linkapi.NewRequest(api.Key); ok {
		req = link
	}
	guess(r, reflect.ValueOf(req).Elem())
	req.SetVersion(version)
	return protocol.AppendRequest(nil, protocol.RequestHeader{CorrelationID: 7, ClientID: []byte("x")}, req)
}

// Every request is decoded within bounds.
func TestRequestsAreDecodedWithinBounds(t *testing.T) {
	w := newBoundsWorld(t)
	for _, api := range protocol.APIs() {
		for version := api.Min; version <= api.Max; version++ {
			r := rand.New(rand.NewPCG(uint64(api.Key), uint64(version)))
			understood := false
			for range 2 {
				frame := requestOf(r, api, version)
				if err := w.run(frame, nil); err == nil || !strings.Contains(err.Error(), protocol.ErrMalformed.Error()) {
					understood = true
				}
				// Start after the correlation id, because the header has tags too.
				mutations(r, frame, 12, func(m []byte) {
					bounded(t, len(m), m, func() { _ = w.run(m, nil) })
				})
				w.session = provenSession(w.router)
			}
			if !understood {
				t.Errorf("%s v%d: no request of this test is understood, so nothing behind its beginning is tried", api.Name, version)
			}
		}
	}
}

// Every response that klink reads is decoded within bounds.
func TestResponsesAreDecodedWithinBounds(t *testing.T) {
	w := newBoundsWorld(t)
	tried := map[int16]bool{}
	for _, api := range protocol.APIs() {
		for version := api.Min; version <= api.Max; version++ {
			r := rand.New(rand.NewPCG(uint64(api.Key), uint64(version)))
			// A request, and the number of klink's question to the broker that is of this API and
			// version.
			var request []byte
			var nth, count int
			for i := 0; i < 300 && request == nil; i++ {
				frame := requestOf(r, api, version)
				count = 0
				_ = w.run(frame, func(a asked) bool {
					count++
					if a.key == api.Key && a.version == version {
						request, nth = frame, count
						return true
					}
					return false
				})
				w.session = provenSession(w.router)
			}
			if request == nil {
				continue
			}
			tried[api.Key] = true
			for range 2 {
				resp := kmsg.ResponseForKey(api.Key)
				guess(r, reflect.ValueOf(resp).Elem())
				resp.SetVersion(version)
				flexible, _ := protocol.Flexible(api.Key, version)
				h := protocol.RequestHeader{Key: api.Key, Version: version, Flexible: flexible, CorrelationID: 7}
				mutations(r, protocol.AppendResponse(nil, h, resp), 8, func(m []byte) {
					count = 0
					_ = w.run(request, func(a asked) bool {
						if count++; count < nth {
							return false
						}
						bounded(t, len(m), m, func() {
							for d := a.feed(slices.Clone(m)); d.Action == Run; {
								d = d.Run(context.Background())
							}
						})
						return true
					})
					w.session = provenSession(w.router)
				})
			}
		}
	}
	for _, api := range protocol.APIs() {
		switch {
		case tried[api.Key], api.Key >= linkapi.MinKey, slices.Contains(passUntouched, api.Key):
		case *handlerSlot(api.Key) != nil:
			t.Errorf("%s has a handler, and no response to it was tried", api.Name)
		}
	}
}
