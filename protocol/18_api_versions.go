package protocol

import (
	"encoding/binary"

	"github.com/twmb/franz-go/pkg/kerr"
)

// RewriteApiVersions changes an ApiVersions response, v0 to v5, so that it lists the APIs and
// versions that both klink and the broker know. It adds klink's own APIs if links is true. Features
// and everything else stay.
//
// Version notes: v1 throttle time; v3 flexible, except for the header of the response. If a broker
// does not know the version of the request, it answers UNSUPPORTED_VERSION in the format of v0 and
// lists only ApiVersions; RewriteApiVersions then does not add klink's APIs.
func RewriteApiVersions(frame []byte, h RequestHeader, links bool) ([]byte, error) {
	r := Reader{Buf: frame, At: 8, Flexible: h.Version >= 3}
	if len(frame) < 8 {
		r.fail()
	}
	unsupported := r.Int16() == kerr.UnsupportedVersion.Code
	if unsupported {
		r.Flexible = false
	}
	countAt := r.At
	n := r.Array()
	kept := 0
	apis := make([]byte, 0, 7*n+7*len(linkAPIs))
	for ; n > 0 && r.Ok(); n-- {
		theirs := API{Key: r.Int16(), Min: r.Int16(), Max: r.Int16()}
		tagsAt := r.At
		r.Tags()
		ours, ok := Supported(theirs.Key)
		lowest, highest := max(ours.Min, theirs.Min), min(ours.Max, theirs.Max)
		if !ok || lowest > highest || !r.Ok() {
			continue
		}
		kept++
		apis = appendAPI(apis, theirs.Key, lowest, highest)
		apis = append(apis, frame[tagsAt:r.At]...)
	}
	if err := r.Err(); err != nil {
		return nil, err
	}
	if links && !unsupported {
		for _, a := range linkAPIs {
			kept++
			apis = appendNoTags(appendAPI(apis, a.Key, a.Min, a.Max), r.Flexible)
		}
	}
	s := newSplice(frame, len(apis))
	s.keep(countAt)
	s.dst = append(appendCount(s.dst, r.Flexible, kept), apis...)
	s.drop(r.At)
	return s.finish(), nil
}

func appendAPI(dst []byte, key, lowest, highest int16) []byte {
	dst = binary.BigEndian.AppendUint16(dst, uint16(key))
	dst = binary.BigEndian.AppendUint16(dst, uint16(lowest))
	return binary.BigEndian.AppendUint16(dst, uint16(highest))
}
