package protocol

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// asFrame encodes a request as a client would, and gives its header.
func asFrame(t testing.TB, req kmsg.Request) (RequestHeader, []byte) {
	t.Helper()
	frame := AppendRequest(nil, RequestHeader{}, req)
	h, err := ParseRequestHeader(frame)
	require.NoError(t, err)
	return h, frame
}

func epochsOf(version int16, topics []string) *kmsg.OffsetForLeaderEpochRequest {
	req := kmsg.NewPtrOffsetForLeaderEpochRequest()
	req.Version = version
	for _, topic := range topics {
		rt := kmsg.NewOffsetForLeaderEpochRequestTopic()
		rt.Topic = topic
		req.Topics = append(req.Topics, rt)
	}
	return req
}

// colliding are n different names with one hash code.
func colliding(n int) []string {
	names := []string{""}
	for len(names) < n {
		var longer []string
		for _, name := range names {
			longer = append(longer, name+"Aa", name+"BB")
		}
		names = longer
	}
	return names[:n]
}

// sameSlot are n different names whose hash codes differ, and meet in the table of a broker.
func sameSlot(n int) []string {
	var names []string
	for i := 0; len(names) < n; i++ {
		name := fmt.Sprintf("t%d", i)
		if int(javaHash([]byte(name))&0x7fffffff)%(2*n+1) < n/100 {
			names = append(names, name)
		}
	}
	return names
}

func repeated(name string, n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = name
	}
	return names
}

func TestJavaHash(t *testing.T) {
	for text, want := range map[string]int32{
		"": 0, "a": 97, "Aa": 2112, "BB": 2112, "orders": -1008770331, "Überraschung": -1417811713, "😀": 1772899, "\xe2\x82": 0, "a\xff": 0,
	} {
		if text == "Überraschung" { // ü is one UTF-16 unit
			want = 0
			for _, r := range text {
				want = 31*want + r
			}
		}
		require.Equal(t, want, javaHash([]byte(text)), "%q", text)
	}
}

func TestCrowdsAreRefused(t *testing.T) {
	const n = 20_000
	bad := map[string][]string{
		"one name": repeated("", n), "a long name": repeated("orders", n), "one hash code": colliding(n), "one place": sameSlot(n),
		"no UTF-8": repeated("a\xff", n),
	}
	for name, topics := range bad {
		for version := int16(0); version <= 4; version++ {
			h, frame := asFrame(t, epochsOf(version, topics))
			require.ErrorIs(t, CheckCrowd(h, frame), ErrMalformed, "%s v%d", name, version)
			require.ErrorIs(t, CheckCrowd(h, frame[:len(frame)*9/10]), ErrMalformed, "%s v%d, cut short", name, version)
		}
	}
	// A count that is far too high makes the broker's table larger, but the search in it no
	// shorter. Few enough elements for the table are still too many for what brokers do with equal
	// ones.
	h, frame := asFrame(t, epochsOf(4, repeated("orders", 200)))
	require.ErrorIs(t, CheckCrowd(h, frame), ErrMalformed)
	h, frame = asFrame(t, epochsOf(2, repeated("", n)))
	binary.BigEndian.PutUint32(frame[h.Body:], uint32(len(frame)-h.Body-8))
	require.ErrorIs(t, CheckCrowd(h, frame), ErrMalformed)
}

// Each array that a broker keeps by keys is looked at, in every version that has it.
func TestCrowdsOfEveryRequest(t *testing.T) {
	arrays := 0
	for key := range int16(MaxClientKey + 1) {
		m, ok := MessageOf(key)
		if !ok {
			continue
		}
		for version := int16(0); version <= m.Max; version++ {
			for n := range m.Request.countKeyed(version) {
				arrays++
				body := crowdBody(m.Request, version, version >= m.FlexibleFrom, n, 5000)
				frame := append(make([]byte, 20), body...)
				h := RequestHeader{Key: key, Version: version, Body: 20}
				require.NoError(t, m.Request.Check(body, version, version >= m.FlexibleFrom, 0), "%s v%d", kmsg.NameForKey(key), version)
				require.ErrorIs(t, CheckCrowd(h, frame), ErrMalformed, "%s v%d, array %d", kmsg.NameForKey(key), version, n)
			}
		}
	}
	require.Greater(t, arrays, 50)
}

// countKeyed is how many arrays with keys a version has.
func (s Shape) countKeyed(version int16) (n int) {
	for i := range s {
		if f := &s[i]; version >= f.from && version <= f.to {
			if f.keyed {
				n++
			}
			n += f.fields.countKeyed(version)
		}
	}
	return n
}

// crowdBody is a body in which the nth array with keys has so many elements of zeros, the arrays
// around it one, others none.
func crowdBody(s Shape, version int16, flexible bool, nth, elements int) []byte {
	var fill func(s Shape, nth int) []byte
	fill = func(s Shape, nth int) (b []byte) {
		for i := range s {
			f := &s[i]
			if f.tag >= 0 || version < f.from || version > f.to {
				continue
			}
			inner := f.fields.countKeyed(version)
			own := 0
			if f.keyed {
				own = 1
			}
			n := 0
			switch {
			case nth < 0 || nth >= inner+own: // not in here
			case own == 1 && nth == 0:
				n = elements
			default:
				n = 1
			}
			switch f.kind {
			case shapeFixed:
				b = append(b, make([]byte, f.size)...)
			case shapeString:
				b = append(b, map[bool][]byte{true: {1}, false: {0, 0}}[flexible]...)
			case shapeBytes:
				b = append(b, map[bool][]byte{true: {1}, false: {0, 0, 0, 0}}[flexible]...)
			case shapeStruct:
				b = append(b, fill(f.fields, nth)...)
			case shapeNullable:
				b = append(b, 0xff)
			default:
				if flexible {
					b = binary.AppendUvarint(b, uint64(n+1))
				} else {
					b = binary.BigEndian.AppendUint32(b, uint32(n))
				}
				for range n {
					b = append(b, fill(f.fields, nth-own)...)
				}
			}
			nth -= inner + own
		}
		if flexible {
			b = append(b, 0)
		}
		return b
	}
	return fill(s, nth)
}

// No request that a client would send is refused: names as people give them, in any number.
func TestHonestNamesAreNoCrowd(t *testing.T) {
	for _, n := range []int{64, 100, 500, 1000, 2500, 10_000, 100_000} {
		for pattern, name := range map[string]func(i int) string{
			"numbers":    func(i int) string { return fmt.Sprintf("topic-%d", i) },
			"padded":     func(i int) string { return fmt.Sprintf("topic-%06d", i) },
			"tenants":    func(i int) string { return fmt.Sprintf("eu.tenant%d.orders.v%d", i/7, i%7) },
			"hex":        func(i int) string { return fmt.Sprintf("app-%08x-changelog", i*2654435761) },
			"long":       func(i int) string { return strings.Repeat("x", 200) + fmt.Sprint(i) },
			"reversed":   func(i int) string { return fmt.Sprintf("%d-events", i) },
			"umlauts":    func(i int) string { return fmt.Sprintf("größe-%d", i) },
			"of tenants": func(i int) string { return fmt.Sprintf("llllllllllllllllllllllllll-%d--%d", i%37, i/37) },
			"two parts":  func(i int) string { return fmt.Sprintf("%d.%d", i%300, i/300) },
		} {
			names := make([]string, n)
			for i := range names {
				names[i] = name(i)
			}
			h, frame := asFrame(t, epochsOf(4, names))
			require.NoError(t, CheckCrowd(h, frame), "%d names: %s", n, pattern)
			took := crowdSteps + n*crowdStepsEach - crowdLeft(h, frame)
			require.Less(t, took, (crowdSteps+n*crowdStepsEach)*3/4, "%d names: %s", n, pattern)
		}
	}
}

func TestCheckCrowdAllocatesNothing(t *testing.T) {
	names := make([]string, 1000)
	for i := range names {
		names[i] = fmt.Sprintf("topic-%d", i)
	}
	h, frame := asFrame(t, epochsOf(4, names))
	require.Zero(t, testing.AllocsPerRun(10, func() { _ = CheckCrowd(h, frame) }))
}

func FuzzCheckCrowd(f *testing.F) {
	f.Add(int16(23), int16(2), []byte("\x00\x00\x00\x50"))
	f.Fuzz(func(t *testing.T, key, version int16, body []byte) {
		if len(body) < crowdFrame {
			body = append(body, make([]byte, crowdFrame)...)
		}
		_ = CheckCrowd(RequestHeader{Key: key, Version: version, Body: 0}, body)
	})
}

func BenchmarkCheckCrowd(b *testing.B) {
	req := kmsg.NewPtrProduceRequest()
	req.Version = 12
	rt := kmsg.NewProduceRequestTopic()
	rt.Topic = "orders"
	for p := range int32(10) {
		rp := kmsg.NewProduceRequestTopicPartition()
		rp.Partition, rp.Records = p, make([]byte, 10_000)
		rt.Partitions = append(rt.Partitions, rp)
	}
	req.Topics = append(req.Topics, rt)
	h, frame := asFrame(b, req)
	b.ReportAllocs()
	for b.Loop() {
		if err := CheckCrowd(h, frame); err != nil {
			b.Fatal(err)
		}
	}
}
