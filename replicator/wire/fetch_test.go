package wire

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"

	"klink/protocol"
	"klink/protocol/batch"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// seen is what one partition of a response says, for comparisons.
type seen struct {
	topic string
	id    [16]byte
	FetchPartition
}

// ours reads a Fetch response with this package.
func ours(f *FetchResponse, version int16, body []byte) (all []seen, err error) {
	for f.Reset(version, body); f.Next(); {
		s := seen{string(f.Topic), f.TopicID, f.FetchPartition}
		s.Aborted, s.Records = append([]batch.AbortedTransaction(nil), s.Aborted...), bytes.Clone(s.Records)
		all = append(all, s)
	}
	return all, f.Err()
}

// theirs returns what kmsg has read, in the same form.
func theirs(r *kmsg.FetchResponse) (all []seen) {
	for _, t := range r.Topics {
		for _, p := range t.Partitions {
			s := seen{t.Topic, t.TopicID, FetchPartition{p.Partition, p.ErrorCode, p.HighWatermark, p.LastStableOffset, p.LogStartOffset, nil, p.RecordBatches}}
			for _, a := range p.AbortedTransactions {
				s.Aborted = append(s.Aborted, batch.AbortedTransaction{ProducerID: a.ProducerID, FirstOffset: a.FirstOffset})
			}
			all = append(all, s)
		}
	}
	return all
}

func same(a, b []seen) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		x, y := a[i], b[i]
		if !bytes.Equal(x.Records, y.Records) {
			return false
		}
		x.Records, y.Records = nil, nil
		if len(x.Aborted)+len(y.Aborted) == 0 {
			x.Aborted, y.Aborted = nil, nil
		}
		if !reflect.DeepEqual(x, y) {
			return false
		}
	}
	return true
}

// randomFetchResponse fills in all that the version has, and tagged fields that nobody knows.
func randomFetchResponse(random *rand.Rand, version int16) *kmsg.FetchResponse {
	r := kmsg.NewPtrFetchResponse()
	r.Version, r.ThrottleMillis, r.ErrorCode, r.SessionID = version, random.Int32(), int16(random.Int32()), random.Int32()
	tag := func() (t kmsg.Tags) {
		if random.IntN(3) == 0 {
			t.Set(uint32(50+random.IntN(1000)), make([]byte, random.IntN(300)))
		}
		return t
	}
	r.UnknownTags = tag()
	for i := range random.IntN(4) {
		t := kmsg.NewFetchResponseTopic()
		t.Topic, t.TopicID, t.UnknownTags = fmt.Sprint("topic", i), [16]byte{byte(i), 9}, tag()
		for range random.IntN(4) {
			p := kmsg.NewFetchResponseTopicPartition()
			p.Partition, p.ErrorCode, p.HighWatermark, p.LastStableOffset, p.LogStartOffset = random.Int32(), int16(random.IntN(90)), random.Int64(), random.Int64(), random.Int64()
			for range random.IntN(4) {
				a := kmsg.NewFetchResponseTopicPartitionAbortedTransaction()
				a.ProducerID, a.FirstOffset, a.UnknownTags = random.Int64(), random.Int64(), tag()
				p.AbortedTransactions = append(p.AbortedTransactions, a)
			}
			if n := random.IntN(500) - 100; n >= 0 {
				p.RecordBatches = make([]byte, n)
				for k := range p.RecordBatches {
					p.RecordBatches[k] = byte(random.Int32())
				}
			}
			p.UnknownTags = tag()
			t.Partitions = append(t.Partitions, p)
		}
		r.Topics = append(r.Topics, t)
	}
	return r
}

// body returns a response from behind the correlation id on.
func body(r kmsg.Response) []byte {
	if r.IsFlexible() {
		return r.AppendTo([]byte{0})
	}
	return r.AppendTo(nil)
}

// TestFetchResponseAgainstKmsg: both readers agree on every version, and a response that is cut
// short anywhere is an error.
func TestFetchResponseAgainstKmsg(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var f FetchResponse
	for version := int16(minFetch); version <= maxFetch; version++ {
		for range 200 {
			b := body(randomFetchResponse(random, version))
			want := kmsg.NewPtrFetchResponse()
			want.Version = version
			raw := b
			if want.IsFlexible() {
				raw = b[1:]
			}
			if err := want.ReadFrom(raw); err != nil {
				t.Fatal(err)
			}
			if mayLoop(1, version, raw) {
				t.Fatalf("v%d: a response that is whole seems to announce more than it holds", version)
			}
			got, err := ours(&f, version, b)
			if err != nil || !same(got, theirs(want)) {
				t.Fatalf("v%d: %v\ngot  %+v\nwant %+v", version, err, got, theirs(want))
			}
			if f.ThrottleMillis != want.ThrottleMillis || f.ErrorCode != want.ErrorCode || f.SessionID != want.SessionID {
				t.Fatalf("v%d: got throttle %d, error %d, session %d, want %+v", version, f.ThrottleMillis, f.ErrorCode, f.SessionID, want)
			}
			if cut := random.IntN(len(b)); len(b) > 0 {
				if _, err := ours(&f, version, b[:cut]); err == nil {
					t.Fatalf("v%d: %d of %d bytes are a response", version, cut, len(b))
				}
			}
		}
	}
}

// mayLoop reports whether b announces more elements than it holds. kmsg trusts any count, and takes
// seconds for such a response. A response that klink's own reader has accepted needs no such check,
// since that reader has counted.
func mayLoop(key, version int16, b []byte) bool {
	m, _ := protocol.MessageOf(key)
	return m.Response.Check(b, version, version >= m.FlexibleFrom, len(b)) != nil
}

// FuzzFetchResponse: no bytes make the parser panic, and it reads whatever kmsg can read as kmsg
// does.
func FuzzFetchResponse(f *testing.F) {
	random := rand.New(rand.NewPCG(3, 4))
	for version := int16(minFetch); version <= maxFetch; version++ {
		for range 4 {
			f.Add(version, body(randomFetchResponse(random, version)))
		}
	}
	var r FetchResponse
	f.Fuzz(func(t *testing.T, version int16, b []byte) {
		if version < minFetch || version > maxFetch {
			return
		}
		got, err := ours(&r, version, b)
		want := kmsg.NewPtrFetchResponse()
		want.Version = version
		if want.IsFlexible() {
			if len(b) == 0 || b[0] != 0 {
				return // tagged fields in the header, which kmsg does not read
			}
			b = b[1:]
		}
		if err != nil && mayLoop(1, version, b) {
			return
		}
		if want.ReadFrom(b) == nil && (err != nil || !same(got, theirs(want))) {
			t.Fatalf("v%d: %v\ngot  %+v\nwant %+v", version, err, got, theirs(want))
		}
	})
}

// wireBytes returns a request as it is written.
func wireBytes(t testing.TB, r Request, correlation int32) []byte {
	t.Helper()
	m := r.sealed()
	if !m.seal(correlation) {
		t.Fatal("too large")
	}
	var all []byte
	for _, p := range m.parts {
		all = append(all, p...)
	}
	if len(all) != m.size() {
		t.Fatalf("%d bytes, size says %d", len(all), m.size())
	}
	m.done()
	return all
}

// TestFetchRequestAgainstKmsg: every version is byte for byte what kmsg would send.
func TestFetchRequestAgainstKmsg(t *testing.T) {
	var r FetchRequest
	for version := int16(minFetch); version <= maxFetch; version++ {
		want := kmsg.NewPtrFetchRequest()
		want.Version, want.ReplicaID, want.MaxWaitMillis, want.MinBytes, want.MaxBytes = version, -1, 500, 1, 1<<20
		want.IsolationLevel, want.SessionID, want.SessionEpoch = 1, 77, 5
		r.Begin(version, "klink", FetchParams{MaxWaitMillis: 500, MinBytes: 1, MaxBytes: 1 << 20, ReadCommitted: true, SessionID: 77, SessionEpoch: 5}, 3)
		for n := range 3 {
			topic := kmsg.NewFetchRequestTopic()
			topic.Topic, topic.TopicID = fmt.Sprint("topic", n), [16]byte{1, byte(n)}
			r.Topic(topic.Topic, &topic.TopicID, n)
			for p := range int32(n) {
				rp := kmsg.NewFetchRequestTopicPartition()
				rp.Partition, rp.CurrentLeaderEpoch, rp.FetchOffset, rp.PartitionMaxBytes = p, p+7, int64(p)<<40, 1000+p
				topic.Partitions = append(topic.Partitions, rp)
				r.Partition(p, p+7, int64(p)<<40, 1000+p)
			}
			want.Topics = append(want.Topics, topic)
		}
		r.Forget(1)
		if version >= 7 {
			forgotten := kmsg.NewFetchRequestForgottenTopic()
			forgotten.Topic, forgotten.TopicID, forgotten.Partitions = "gone", [16]byte{8}, []int32{3, 4}
			want.ForgottenTopics = append(want.ForgottenTopics, forgotten)
			r.ForgetTopic("gone", &forgotten.TopicID, forgotten.Partitions)
		}
		r.End()
		expected := kmsg.NewRequestFormatter(kmsg.FormatterClientID("klink")).AppendRequest(nil, want, 42)
		if got := wireBytes(t, &r, 42); !bytes.Equal(got, expected) {
			t.Errorf("v%d:\ngot  %x\nwant %x", version, got, expected)
		}
	}
}
