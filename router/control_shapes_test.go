package router

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"

	"klink/protocol"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// The shapes say exactly what kmsg writes: every message passes, and no message that is cut anywhere does.
func TestControlShapesAgreeWithKmsg(t *testing.T) {
	for key, shapes := range controlShapes {
		api, ok := protocol.Supported(key)
		if !ok {
			t.Fatalf("key %d has a shape but no row in the API table", key)
		}
		lowest, highest := api.Min, api.Max
		if key == int16(kmsg.Metadata) {
			lowest, highest = 8, 8
		}
		for version := lowest; version <= highest; version++ {
			t.Run(fmt.Sprintf("%s v%d", api.Name, version), func(t *testing.T) {
				req := kmsg.RequestForKey(key)
				if shapes.request != nil {
					checkShape(t, shapes.request, req, version)
				}
				if shapes.response != nil {
					checkShape(t, shapes.response, req.ResponseKind(), version)
				}
			})
		}
	}
}

type message interface {
	SetVersion(int16)
	IsFlexible() bool
	AppendTo([]byte) []byte
}

func checkShape(t *testing.T, shape protocol.Shape, m message, version int16) {
	t.Helper()
	r := rand.New(rand.NewPCG(uint64(version), 1))
	for range 30 {
		fill(r, reflect.ValueOf(m).Elem())
		m.SetVersion(version)
		body := m.AppendTo(nil)
		if err := shape.Check(body, version, m.IsFlexible(), 10_000); err != nil {
			t.Fatalf("%T v%d: %v: %s", m, version, err, show(m))
		}
		for n := range body {
			if shape.Check(body[:n], version, m.IsFlexible(), 10_000) == nil {
				t.Fatalf("%T v%d passes when %d bytes are cut to %d: %s", m, version, len(body), n, show(m))
			}
		}
	}
}

// fill sets every field to something.
func fill(r *rand.Rand, v reflect.Value) {
	if tags, ok := v.Addr().Interface().(*kmsg.Tags); ok {
		*tags = kmsg.Tags{}
		for key := range r.Uint32N(3) {
			tags.Set(100+key, make([]byte, r.IntN(5)))
		}
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(r, v.Field(i))
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), r.IntN(3), 3))
		fallthrough
	case reflect.Array:
		for i := range v.Len() {
			fill(r, v.Index(i))
		}
	case reflect.Pointer:
		v.SetZero()
		if r.IntN(3) > 0 {
			v.Set(reflect.New(v.Type().Elem()))
			fill(r, v.Elem())
		}
	case reflect.String:
		v.SetString("abcdefgh"[:r.IntN(8)])
	case reflect.Bool:
		v.SetBool(r.IntN(2) > 0)
	case reflect.Uint8:
		v.SetUint(uint64(r.IntN(256)))
	default:
		v.SetInt(int64(r.IntN(100)))
	}
}
