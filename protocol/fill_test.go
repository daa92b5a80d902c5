package protocol

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

var topicNames = []string{"mirror", "stopped", "ordinary", "gone"}

// fill sets every field of a message to something, with names, ids and partitions of newWorld.
func fill(r *rand.Rand, v reflect.Value, field string) {
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
			fill(r, v.Field(i), v.Type().Field(i).Name)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), r.IntN(4), 4))
		for i := range v.Len() {
			fill(r, v.Index(i), "")
		}
	case reflect.Array:
		v.Set(reflect.ValueOf(idOf(topicNames[r.IntN(len(topicNames))])))
	case reflect.Pointer:
		v.SetZero()
		if r.IntN(3) > 0 {
			v.Set(reflect.New(v.Type().Elem()))
			fill(r, v.Elem(), field)
		}
	case reflect.String:
		v.SetString("abcdefgh"[:r.IntN(8)])
		if field == "Topic" {
			v.SetString(topicNames[r.IntN(len(topicNames))])
		}
	case reflect.Bool:
		v.SetBool(r.IntN(2) > 0)
	case reflect.Uint8:
		v.SetUint(uint64(r.IntN(256)))
	case reflect.Float64:
		v.SetFloat(r.Float64())
	case reflect.Uint16:
		v.SetUint(uint64(r.IntN(65536)))
	default:
		n := int64(r.IntN(100))
		switch {
		case strings.HasSuffix(field, "ID") && v.Kind() == reflect.Int32, field == "Leader", field == "Partition":
			n = int64(r.IntN(4))
		case field == "ErrorCode":
			n = max(0, int64(r.IntN(6))-2)
		case field == "EndpointType":
			n = 1
		case r.IntN(5) == 0 && v.Kind() == reflect.Int64:
			n = -1
		}
		v.SetInt(n)
	}
}

// randomResponse makes a response as a broker might send it, twice: physical is as sent, and the
// test changes logical to what the client must get. frame is physical, encoded.
func randomResponse[R kmsg.Response](t testing.TB, r *rand.Rand, key, version int16) (logical R, h RequestHeader, frame []byte) {
	t.Helper()
	resp := kmsg.ResponseForKey(key)
	fill(r, reflect.ValueOf(resp).Elem(), "")
	resp.SetVersion(version)
	h, frame = responseFrame(resp)
	return readResponse[R](t, h, frame), h, frame
}

// sameResponse fails unless frame is resp, byte for byte.
func sameResponse(t testing.TB, frame []byte, want kmsg.Response) {
	t.Helper()
	if _, wanted := responseFrame(want); !bytes.Equal(frame, wanted) {
		t.Fatalf("%s v%d: got and want\n%x\n%x", kmsg.NameForKey(want.Key()), want.GetVersion(), frame, wanted)
	}
}

// cutShort fails unless rewrite refuses every response that is cut short, with ErrMalformed.
func cutShort(t testing.TB, frame []byte, rewrite func([]byte) error) {
	t.Helper()
	for cut := range frame {
		if err := rewrite(bytes.Clone(frame[:cut])); !errors.Is(err, ErrMalformed) {
			t.Fatalf("cut to %d of %d bytes: %v", cut, len(frame), err)
		}
	}
}

// fillRequest makes req a random request of this version, without what the version has not.
func fillRequest(t testing.TB, r *rand.Rand, req kmsg.Request, version int16) {
	t.Helper()
	fill(r, reflect.ValueOf(req).Elem(), "")
	req.SetVersion(version)
	body := req.AppendTo(nil)
	reflect.ValueOf(req).Elem().SetZero()
	req.SetVersion(version)
	if err := req.ReadFrom(body); err != nil {
		t.Fatal(err)
	}
}
