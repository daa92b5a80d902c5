package protocol

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"klink/protocol/linkapi"
)

// The table knows no version that kmsg does not, and agrees with it about which are flexible.
func TestAPIs(t *testing.T) {
	last := int16(-1)
	for _, a := range APIs() {
		if a.Key <= last {
			t.Errorf("key %d after %d", a.Key, last)
		}
		last = a.Key
		got, ok := Supported(a.Key)
		if !ok || got != a {
			t.Errorf("key %d: %+v", a.Key, got)
		}
		if a.Key >= linkapi.MinKey {
			if a.FlexibleFrom != 0 {
				t.Errorf("%s is flexible from %d", a.Name, a.FlexibleFrom)
			}
			continue
		}
		req := kmsg.RequestForKey(a.Key)
		if req == nil || a.Max > req.MaxVersion() || a.Min < 0 || a.Min > a.Max {
			t.Fatalf("%s: v%d to v%d", a.Name, a.Min, a.Max)
		}
		for v := a.Min; v <= a.Max; v++ {
			req.SetVersion(v)
			if flexible, ok := Flexible(a.Key, v); !ok || flexible != req.IsFlexible() {
				t.Errorf("%s v%d: flexible %v, supported %v", a.Name, v, flexible, ok)
			}
		}
	}
	for _, key := range []int16{-1, 4, 5, 6, 7, 52, 56, 58, 59, 62, 63, 67, 70, 73, 82, 83, 87, 93, 14999, 15013} {
		if a, ok := Supported(key); ok {
			t.Errorf("key %d is supported: %+v", key, a)
		}
	}
}

func TestLookUpDoesNotAllocate(t *testing.T) {
	req := kmsg.NewPtrFetchRequest()
	req.Version = 12
	_, frame := requestFrame(t, req)
	if n := testing.AllocsPerRun(100, func() {
		if h, err := ParseRequestHeader(frame); err != nil || h.Body < 0 {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
