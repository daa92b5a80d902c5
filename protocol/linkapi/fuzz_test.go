package linkapi

import (
	"reflect"
	"testing"
)

// FuzzReadFrom reads any bytes as each message. What can be read is encoded to bytes that read as
// the same.
func FuzzReadFrom(f *testing.F) {
	for i, m := range samples() {
		f.Add(byte(i), m.AppendTo(nil))
		f.Add(byte(i), []byte{0, 0, 0, 1, 0, 0xff, 0xff, 0xff, 0xff, 0x0f})
	}
	all := messages(f)
	f.Fuzz(func(t *testing.T, which byte, wire []byte) {
		m := empty(all[int(which)%len(all)])
		if m.ReadFrom(wire) != nil {
			return
		}
		again := empty(m)
		if err := again.ReadFrom(m.AppendTo(nil)); err != nil || !reflect.DeepEqual(m, again) {
			t.Fatalf("%+v is read back as %+v, %v", m, again, err)
		}
	})
}

// FuzzReadRequest reads any bytes as a server does.
func FuzzReadRequest(f *testing.F) {
	for _, m := range samples() {
		f.Add(m.Key(), int16(0), m.AppendTo(nil))
	}
	f.Fuzz(func(t *testing.T, key, version int16, body []byte) {
		req, err := ReadRequest(key, version, body)
		if (req == nil) == (err == nil) {
			t.Fatalf("request %v, error %v", req, err)
		}
		if err == nil && (req.Key() != key || req.GetVersion() != version) {
			t.Fatalf("key %d version %d, asked for %d and %d", req.Key(), req.GetVersion(), key, version)
		}
	})
}
