package protocol

import (
	"math/rand/v2"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"klink/protocol/linkapi"
)

func TestApiVersions(t *testing.T) {
	versions(t, 18, func(t *testing.T, version int16) {
		r := rand.New(rand.NewPCG(18, uint64(version)))
		for range 100 {
			resp, _, _ := randomResponse[*kmsg.ApiVersionsResponse](t, r, 18, version)
			resp.ErrorCode = 0
			key := func(key, lowest, highest int16) kmsg.ApiVersionsResponseApiKey {
				k := kmsg.NewApiVersionsResponseApiKey()
				k.ApiKey, k.MinVersion, k.MaxVersion = key, lowest, highest
				return k
			}
			tagged := key(2, 1, 3)
			if version >= 3 {
				tagged.UnknownTags.Set(5, []byte("tag"))
			}
			resp.ApiKeys = []kmsg.ApiVersionsResponseApiKey{
				key(0, 0, 13), key(1, 4, 99), tagged, key(4, 0, 7), key(17, 0, 1), key(24, 0, 5), key(24, 4, 5),
				key(58, 0, 0), key(200, 0, 0), key(-1, 0, 0), key(14000, 0, 1),
			}
			_, frame := responseFrame(resp)
			h := RequestHeader{Key: 18, Version: version, Flexible: version >= 3}
			cutShort(t, frame[:13], func(b []byte) error { _, err := RewriteApiVersions(b, h, true); return err })
			got, err := RewriteApiVersions(frame, h, true)
			if err != nil {
				t.Fatal(err)
			}
			resp.ApiKeys = []kmsg.ApiVersionsResponseApiKey{key(0, 0, 13), key(1, 4, 18), tagged, key(17, 1, 1), key(24, 0, 3)}
			for _, a := range linkapi.APIs() {
				resp.ApiKeys = append(resp.ApiKeys, key(a.Key, a.Min, a.Max))
			}
			sameResponse(t, got, resp)
		}
	})
}

// A broker answers a version that it does not know in the format of v0.
func TestApiVersionsUnsupported(t *testing.T) {
	for _, version := range []int16{0, 3, 5, 6, 99} {
		resp := kmsg.NewPtrApiVersionsResponse()
		resp.ErrorCode = kerr.UnsupportedVersion.Code
		k := kmsg.NewApiVersionsResponseApiKey()
		k.ApiKey, k.MaxVersion = 18, 9
		resp.ApiKeys = append(resp.ApiKeys, k)
		_, frame := responseFrame(resp)
		got, err := RewriteApiVersions(frame, RequestHeader{Key: 18, Version: version, Flexible: version >= 3}, true)
		if err != nil {
			t.Fatal(err)
		}
		resp.ApiKeys[0].MaxVersion = 5
		sameResponse(t, got, resp)
	}
}
