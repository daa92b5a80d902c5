package wire

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

type produced struct {
	topic string
	id    [16]byte
	ProducePartition
}

func oursProduced(f *ProduceResponse, version int16, body []byte) (all []produced, err error) {
	for f.Reset(version, body); f.Next(); {
		s := produced{string(f.Topic), f.TopicID, f.ProducePartition}
		s.Message = bytes.Clone(s.Message)
		all = append(all, s)
	}
	return all, f.Err()
}

func theirsProduced(r *kmsg.ProduceResponse) (all []produced) {
	for _, t := range r.Topics {
		for _, p := range t.Partitions {
			s := produced{t.Topic, t.TopicID, ProducePartition{Partition: p.Partition, ErrorCode: p.ErrorCode, BaseOffset: p.BaseOffset, AppendTime: p.LogAppendTime}}
			if p.ErrorMessage != nil {
				s.Message = []byte(*p.ErrorMessage)
			}
			all = append(all, s)
		}
	}
	return all
}

func sameProduced(a, b []produced) bool {
	for _, all := range [][]produced{a, b} {
		for i := range all {
			if len(all[i].Message) == 0 {
				all[i].Message = nil
			}
		}
	}
	return len(a)+len(b) == 0 || reflect.DeepEqual(a, b)
}

func randomProduceResponse(random *rand.Rand, version int16) *kmsg.ProduceResponse {
	r := kmsg.NewPtrProduceResponse()
	r.Version, r.ThrottleMillis = version, random.Int32()
	tag := func() (t kmsg.Tags) {
		if random.IntN(3) == 0 {
			t.Set(uint32(50+random.IntN(1000)), make([]byte, random.IntN(300)))
		}
		return t
	}
	r.UnknownTags = tag()
	for i := range random.IntN(4) {
		t := kmsg.NewProduceResponseTopic()
		t.Topic, t.TopicID, t.UnknownTags = fmt.Sprint("topic", i), [16]byte{byte(i), 9}, tag()
		for range random.IntN(4) {
			p := kmsg.NewProduceResponseTopicPartition()
			p.Partition, p.ErrorCode, p.BaseOffset, p.LogAppendTime, p.LogStartOffset = random.Int32(), int16(random.IntN(90)), random.Int64(), random.Int64(), random.Int64()
			for range random.IntN(3) {
				e := kmsg.NewProduceResponseTopicPartitionErrorRecord()
				e.RelativeOffset, e.UnknownTags = random.Int32(), tag()
				if random.IntN(2) == 0 {
					e.ErrorMessage = kmsg.StringPtr("a record")
				}
				p.ErrorRecords = append(p.ErrorRecords, e)
			}
			if random.IntN(2) == 0 {
				p.ErrorMessage = kmsg.StringPtr("refused")
			}
			if random.IntN(2) == 0 {
				p.CurrentLeader.LeaderID = 3 // a tagged field of v10
			}
			p.UnknownTags = tag()
			t.Partitions = append(t.Partitions, p)
		}
		r.Topics = append(r.Topics, t)
	}
	return r
}

// TestProduceResponseAgainstKmsg: both readers agree on every version, and a response that is cut
// short anywhere is an error.
func TestProduceResponseAgainstKmsg(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var f ProduceResponse
	for version := int16(minProduce); version <= maxProduce; version++ {
		for range 200 {
			b := body(randomProduceResponse(random, version))
			want := kmsg.NewPtrProduceResponse()
			want.Version = version
			raw := b
			if want.IsFlexible() {
				raw = b[1:]
			}
			if err := want.ReadFrom(raw); err != nil {
				t.Fatal(err)
			}
			if mayLoop(0, version, raw) {
				t.Fatalf("v%d: a response that is whole seems to announce more than it holds", version)
			}
			got, err := oursProduced(&f, version, b)
			if err != nil || !sameProduced(got, theirsProduced(want)) || f.ThrottleMillis != want.ThrottleMillis {
				t.Fatalf("v%d: %v\ngot  %+v, throttle %d\nwant %+v, throttle %d", version, err, got, f.ThrottleMillis, theirsProduced(want), want.ThrottleMillis)
			}
			if _, err := oursProduced(&f, version, b[:random.IntN(len(b))]); err == nil {
				t.Fatalf("v%d: a part of %d bytes is a response", version, len(b))
			}
		}
	}
}

// FuzzProduceResponse: no bytes make the parser panic, and it reads whatever kmsg can read as kmsg
// does.
func FuzzProduceResponse(f *testing.F) {
	random := rand.New(rand.NewPCG(3, 4))
	for version := int16(minProduce); version <= maxProduce; version++ {
		for range 4 {
			f.Add(version, body(randomProduceResponse(random, version)))
		}
	}
	var r ProduceResponse
	f.Fuzz(func(t *testing.T, version int16, b []byte) {
		if version < minProduce || version > maxProduce {
			return
		}
		got, err := oursProduced(&r, version, b)
		want := kmsg.NewPtrProduceResponse()
		want.Version = version
		if want.IsFlexible() {
			if len(b) == 0 || b[0] != 0 {
				return // tagged fields in the header, which kmsg does not read
			}
			b = b[1:]
		}
		if err != nil && mayLoop(0, version, b) {
			return
		}
		if want.ReadFrom(b) == nil && (err != nil || !sameProduced(got, theirsProduced(want))) {
			t.Fatalf("v%d: %v\ngot  %+v\nwant %+v", version, err, got, theirsProduced(want))
		}
	})
}

// TestProduceRequestAgainstKmsg: every version is byte for byte what kmsg would send, whether
// records are copied or not.
func TestProduceRequestAgainstKmsg(t *testing.T) {
	var r ProduceRequest
	for version := int16(minProduce); version <= maxProduce; version++ {
		want := kmsg.NewPtrProduceRequest()
		want.Version, want.Acks, want.TimeoutMillis = version, -1, 10_000
		r.Begin(version, "klink", -1, 10_000, 4)
		for n := range 4 {
			topic := kmsg.NewProduceRequestTopic()
			topic.Topic, topic.TopicID = fmt.Sprint("topic", n), [16]byte{1, byte(n)}
			r.Topic(topic.Topic, &topic.TopicID, n)
			for p := range int32(n) {
				rp := kmsg.NewProduceRequestTopicPartition()
				rp.Partition, rp.Records = p, bytes.Repeat([]byte{byte(p)}, n*700)
				topic.Partitions = append(topic.Partitions, rp)
				r.Partition(p, rp.Records)
			}
			want.Topics = append(want.Topics, topic)
		}
		r.End()
		expected := kmsg.NewRequestFormatter(kmsg.FormatterClientID("klink")).AppendRequest(nil, want, 42)
		if got := wireBytes(t, &r, 42); !bytes.Equal(got, expected) {
			t.Errorf("v%d:\ngot  %x\nwant %x", version, got, expected)
		}
	}
}
