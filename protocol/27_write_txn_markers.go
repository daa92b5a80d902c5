package protocol

import (
	"encoding/binary"
	"fmt"
)

// TxnMarker holds what a refusal has to repeat of one marker of a WriteTxnMarkers request.
type TxnMarker struct {
	ProducerID int64
	Topics     []TxnMarkerTopic
}

// TxnMarkerTopic is one topic of a marker; Name aliases the frame.
type TxnMarkerTopic struct {
	Name       []byte
	Partitions []int32
}

// maxTxnMarkers bounds the size in bytes of a request that is read into memory. A marker takes more
// bytes there than on the wire.
const maxTxnMarkers = 1 << 20

// ReadWriteTxnMarkers reads the markers of a WriteTxnMarkers request, v0 to v2. Version notes: v1
// flexible; v2 transaction version (KIP-1228).
func ReadWriteTxnMarkers(frame []byte, h RequestHeader) ([]TxnMarker, error) {
	if len(frame) > maxTxnMarkers {
		return nil, fmt.Errorf("WriteTxnMarkers request of %d bytes: klink accepts at most %d; send fewer markers at once", len(frame), maxTxnMarkers)
	}
	r := Reader{Buf: frame, At: h.Body, Flexible: h.Flexible}
	var markers []TxnMarker
	for n := r.Array(); n > 0 && r.Ok(); n-- {
		m := TxnMarker{ProducerID: r.Int64()}
		r.Span(2 + 1) // epoch, commit or abort
		for topics := r.Array(); topics > 0 && r.Ok(); topics-- {
			t := TxnMarkerTopic{Name: r.Name()}
			list := r.Span(4 * r.Array())
			for ; len(list) > 0; list = list[4:] {
				t.Partitions = append(t.Partitions, int32(binary.BigEndian.Uint32(list)))
			}
			r.Tags()
			m.Topics = append(m.Topics, t)
		}
		r.Int32() // coordinator epoch
		if h.Version >= 2 {
			r.Int8() // transaction version
		}
		r.Tags()
		markers = append(markers, m)
	}
	r.Tags()
	return markers, r.Err()
}

// AppendWriteTxnMarkers appends a whole response frame to the request h. Each topic gets the error
// code that codeOf returns for it.
func AppendWriteTxnMarkers(dst []byte, h RequestHeader, markers []TxnMarker, codeOf func(topic []byte) int16) []byte {
	at := len(dst)
	dst = append(dst, 0, 0, 0, 0)
	dst = appendInt32(dst, h.CorrelationID)
	dst = appendNoTags(dst, h.Flexible)
	dst = appendCount(dst, h.Flexible, len(markers))
	for _, m := range markers {
		dst = binary.BigEndian.AppendUint64(dst, uint64(m.ProducerID))
		dst = appendCount(dst, h.Flexible, len(m.Topics))
		for _, t := range m.Topics {
			code := codeOf(t.Name)
			dst = appendString(dst, h.Flexible, t.Name)
			dst = appendCount(dst, h.Flexible, len(t.Partitions))
			for _, index := range t.Partitions {
				dst = appendInt32(dst, index)
				dst = binary.BigEndian.AppendUint16(dst, uint16(code))
				dst = appendNoTags(dst, h.Flexible)
			}
			dst = appendNoTags(dst, h.Flexible)
		}
		dst = appendNoTags(dst, h.Flexible)
	}
	dst = appendNoTags(dst, h.Flexible)
	binary.BigEndian.PutUint32(dst[at:], uint32(len(dst)-at-4))
	return dst
}
