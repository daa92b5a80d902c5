package protocol

import (
	"encoding/binary"
	"errors"
	"math"
	"math/rand/v2"
	"reflect"
	"runtime"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

type kafkaMessage interface {
	SetVersion(int16)
	IsFlexible() bool
	AppendTo([]byte) []byte
	ReadFrom([]byte) error
}

// eachMessage runs f for the request and the response of every key and version that kmsg knows.
func eachMessage(t *testing.T, f func(t *testing.T, shape Shape, m kafkaMessage, version int16)) {
	t.Helper()
	for key := int16(0); key <= kmsg.MaxKey; key++ {
		req := kmsg.RequestForKey(key)
		if req == nil {
			continue
		}
		m, ok := MessageOf(key)
		if !ok || m.Max != req.MaxVersion() {
			t.Errorf("%s: shapes up to v%d, kmsg goes to v%d: run go generate ./protocol", kmsg.NameForKey(key), m.Max, req.MaxVersion())
			continue
		}
		t.Run(kmsg.NameForKey(key), func(t *testing.T) {
			for version := int16(0); version <= m.Max; version++ {
				req.SetVersion(version)
				if req.IsFlexible() != (version >= m.FlexibleFrom) {
					t.Fatalf("v%d: flexible from v%d", version, m.FlexibleFrom)
				}
				f(t, m.Request, req, version)
				f(t, m.Response, req.ResponseKind(), version)
			}
		})
	}
}

// The shapes say exactly what kmsg writes: every message passes, and no message that is cut
// anywhere does.
func TestShapesAgreeWithKmsg(t *testing.T) {
	eachMessage(t, func(t *testing.T, shape Shape, m kafkaMessage, version int16) {
		r := rand.New(rand.NewPCG(uint64(version), 1))
		for range 6 {
			fill(r, reflect.ValueOf(m).Elem(), "")
			m.SetVersion(version)
			body := m.AppendTo(nil)
			if err := shape.Check(body, version, m.IsFlexible(), 100_000); err != nil {
				t.Fatalf("%T v%d: %v: %+v", m, version, err, m)
			}
			// In parts it is the same.
			at := r.IntN(len(body) + 1)
			if err := shape.CheckParts([][]byte{body[:at], nil, body[at:]}, version, m.IsFlexible(), Limits{}); err != nil {
				t.Fatalf("%T v%d in two parts: %v", m, version, err)
			}
			for i := range min(len(body), 60) {
				n := len(body) - 1 - i // the end, and then anywhere
				if i > 20 {
					n = r.IntN(len(body))
				}
				if err := shape.Check(body[:n], version, m.IsFlexible(), 100_000); !errors.Is(err, ErrMalformed) {
					t.Fatalf("%T v%d passes when %d bytes are cut to %d: %v", m, version, len(body), n, err)
				}
			}
		}
	})
}

// A message of any bytes that passes its shape takes no more memory when it is decoded than the
// shape has said, and no more rounds than it has bytes.
func TestShapesBoundWhatKmsgAllocates(t *testing.T) {
	huge := binary.AppendUvarint(nil, 1<<32-1)
	eachMessage(t, func(t *testing.T, shape Shape, m kafkaMessage, version int16) {
		r := rand.New(rand.NewPCG(uint64(version), 2))
		for range 8 {
			fill(r, reflect.ValueOf(m).Elem(), "")
			m.SetVersion(version)
			body := append(m.AppendTo(nil), make([]byte, r.IntN(2000))...)
			for range 1 + r.IntN(3) {
				if len(body) == 0 {
					break
				}
				switch at := r.IntN(len(body)); r.IntN(3) {
				case 0:
					body[at] = byte(r.Uint32())
				case 1:
					copy(body[at:], huge)
				default:
					binary.BigEndian.PutUint32(append(body[at:at:at], 0, 0, 0, 0), uint32(len(body)-at))
					copy(body[at:], binary.BigEndian.AppendUint32(nil, uint32(max(0, len(body)-at-4))))
				}
			}
			w := shapeWalk{version: version, flexible: m.IsFlexible(), elements: math.MaxInt, memory: math.MaxInt}
			w.rest, w.left = [][]byte{body}, len(body)
			w.fields(shape)
			if w.bad {
				continue
			}
			most := math.MaxInt - w.memory
			if limited := shape.CheckParts([][]byte{body}, version, m.IsFlexible(), Limits{Memory: max(1, most-1)}); most > 1 && limited == nil {
				t.Fatalf("%T v%d: a limit of %d bytes does not hold", m, version, most-1)
			}
			into := reflect.New(reflect.TypeOf(m).Elem()).Interface().(kafkaMessage)
			into.SetVersion(version)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_ = into.ReadFrom(body)
			runtime.ReadMemStats(&after)
			// Small allocations are rounded up.
			if took := after.TotalAlloc - before.TotalAlloc; took > 2*uint64(most)+4096 {
				t.Fatalf("%T v%d took %d bytes, its shape says %d: %x", m, version, took, most, body)
			}
		}
	})
}

// A tag section with a count that the bytes do not bear out is refused in every message, at
// its end and in its last struct, known tags included.
func TestShapesRefuseTagBombs(t *testing.T) {
	bomb := binary.AppendUvarint(nil, 1<<32-1)
	eachMessage(t, func(t *testing.T, shape Shape, m kafkaMessage, version int16) {
		if !m.IsFlexible() {
			return
		}
		reflect.ValueOf(m).Elem().SetZero()
		m.(interface{ Default() }).Default()
		m.SetVersion(version)
		body := m.AppendTo(nil)
		if err := shape.Check(append(body[:len(body)-1:len(body)-1], bomb...), version, true, 1000); !errors.Is(err, ErrMalformed) {
			t.Errorf("%T v%d with four billion tags: %v", m, version, err)
		}
		for number := range uint32(4) {
			tag := append(binary.AppendUvarint([]byte{1}, uint64(number)), 9)
			tag = append(tag, bomb...)
			tag = append(tag, bomb[:4]...) // nine bytes, in which a field with arrays or tags finds too many
			f := shape.tagged(int64(number))
			if f == nil || f.kind == shapeFixed || f.kind == shapeString || f.kind == shapeBytes {
				continue
			}
			if err := shape.Check(append(body[:len(body)-1:len(body)-1], tag...), version, true, 1000); !errors.Is(err, ErrMalformed) && version >= f.from {
				t.Errorf("%T v%d with a bomb in its tag %d: %v", m, version, number, err)
			}
		}
	})
}
