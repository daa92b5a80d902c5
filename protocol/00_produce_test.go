package protocol

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Any topics can be taken out of a request; the others stay, byte for byte.
func TestCutTopicsOfProduce(t *testing.T) {
	versions(t, 0, func(t *testing.T, version int16) {
		r := rand.New(rand.NewPCG(1, uint64(version)))
		for range 300 {
			want := kmsg.NewPtrProduceRequest()
			fillRequest(t, r, want, version)
			if r.IntN(10) == 0 { // a count that takes a byte less when topics are gone
				for len(want.Topics) < 130 && len(want.Topics) > 0 {
					want.Topics = append(want.Topics, want.Topics[0])
				}
			}
			h, frame := requestFrame(t, want)
			p := ReadProduceRequest(frame, h)
			drop := make([]bool, len(want.Topics))
			var cut []Span
			for i := range want.Topics {
				if !p.Topic() || p.Index() != i {
					t.Fatalf("no topic %d: %v", i, p.Err())
				}
				topic := &want.Topics[i]
				if version < 13 && string(p.Name) != topic.Topic || version >= 13 && p.ID != topic.TopicID {
					t.Fatalf("topic %q %x, want %+v", p.Name, p.ID, topic)
				}
				var partitions []int32
				for j := range topic.Partitions {
					partitions = append(partitions, topic.Partitions[j].Partition)
				}
				if !slices.Equal(p.Partitions(), partitions) {
					t.Fatalf("partitions %v, want %v", p.Partitions(), partitions)
				}
				if drop[i] = r.IntN(2) == 0; drop[i] {
					cut = append(cut, p.Span())
				}
			}
			if p.Topic() || p.Err() != nil || p.Acks != want.Acks || p.TimeoutMillis != want.TimeoutMillis || p.Topics() != len(want.Topics) {
				t.Fatalf("%+v, want %+v: %v", p, want, p.Err())
			}
			i := -1
			want.Topics = slices.DeleteFunc(want.Topics, func(kmsg.ProduceRequestTopic) bool { i++; return drop[i] })
			got := p.Cut(cut)
			if _, wanted := requestFrame(t, want); !bytes.Equal(got, wanted) {
				t.Fatalf("without %v: got and want\n%x\n%x", drop, got, wanted)
			}
		}
	})
}

func TestProduceRequestCutShort(t *testing.T) {
	versions(t, 0, func(t *testing.T, version int16) {
		req := kmsg.NewPtrProduceRequest()
		fillRequest(t, rand.New(rand.NewPCG(4, 4)), req, version)
		h, frame := requestFrame(t, req)
		read := func(frame []byte) error {
			p := ReadProduceRequest(frame, h)
			for p.Topic() {
			}
			return p.Err()
		}
		for cut := h.Body; cut < len(frame); cut++ {
			if read(frame[:cut]) == nil {
				t.Fatalf("cut to %d of %d", cut, len(frame))
			}
		}
		if read(append(bytes.Clone(frame), 0)) == nil {
			t.Fatal("one byte more")
		}
	})
}

// refusedTopic is what refusing a topic looks like to a client.
func refusedTopic(version int16, t *RefusedProduce) kmsg.ProduceResponseTopic {
	topic := kmsg.NewProduceResponseTopic()
	topic.Topic, topic.TopicID = string(t.Name), t.ID
	if version >= 13 {
		topic.Topic = ""
	} else {
		topic.TopicID = [16]byte{}
	}
	for _, index := range t.Partitions {
		p := kmsg.NewProduceResponseTopicPartition()
		p.Partition, p.ErrorCode, p.BaseOffset = index, t.Code, -1
		p.LogAppendTime, p.LogStartOffset = -1, -1
		p.ErrorMessage = ptr(t.Message)
		topic.Partitions = append(topic.Partitions, p)
	}
	return topic
}

func refusals(n int) (list []*RefusedProduce) {
	for i := range n {
		name := fmt.Sprint("refused", i)
		list = append(list, &RefusedProduce{Name: []byte(name), ID: idOf(name), Partitions: []int32{4, 1, 4}[:i%4], Code: 42, Message: "because"})
	}
	return list
}

func TestRefuseProduce(t *testing.T) {
	versions(t, 0, func(t *testing.T, version int16) {
		want := kmsg.NewPtrProduceResponse()
		want.Version = version
		refused := refusals(5)
		for _, r := range refused {
			want.Topics = append(want.Topics, refusedTopic(version, r))
		}
		h, _ := responseFrame(want)
		sameResponse(t, AppendRefusedProduce(nil, h, refused), want)
	})
}

// Refused topics come in the places they had in the request.
func TestMergeRefusedProduce(t *testing.T) {
	versions(t, 0, func(t *testing.T, version int16) {
		r := rand.New(rand.NewPCG(1, uint64(version)))
		for range 200 {
			want, h, frame := randomResponse[*kmsg.ProduceResponse](t, r, 0, version)
			list := refusals(r.IntN(4))
			order := make([]*RefusedProduce, len(want.Topics))
			for _, refused := range list {
				at := r.IntN(len(order) + 1)
				order = slices.Insert(order, at, refused)
				want.Topics = slices.Insert(want.Topics, at, refusedTopic(version, refused))
			}
			if r.IntN(5) == 0 { // a broker that answers more than was asked for
				for len(order) > 0 && order[len(order)-1] == nil {
					order = order[:len(order)-1]
				}
			}
			got, err := MergeRefusedProduce(frame, h, order)
			if err != nil {
				t.Fatal(err)
			}
			sameResponse(t, got, want)
		}
	})
}

func TestProduceResponse(t *testing.T) {
	versions(t, 0, func(t *testing.T, version int16) {
		r := rand.New(rand.NewPCG(2, uint64(version)))
		w := newWorld()
		for range 200 {
			want, h, frame := randomResponse[*kmsg.ProduceResponse](t, r, 0, version)
			p := ReadProduceResponse(frame, h)
			for p.Topic(w) {
			}
			if p.Err() != nil {
				t.Fatal(p.Err())
			}
			for i := range want.Topics {
				topic := &want.Topics[i]
				name := topic.Topic
				if version >= 13 {
					name = w.ids[topic.TopicID]
				}
				for j := range topic.Partitions {
					q := &topic.Partitions[j]
					q.BaseOffset = w.shown(name, q.Partition, q.BaseOffset)
					if version >= 5 {
						q.LogStartOffset = w.shown(name, q.Partition, q.LogStartOffset)
					}
				}
			}
			sameResponse(t, frame, want)
			if tags := len(want.Brokers) > 0 || want.UnknownTags.Len() > 0; p.HasEndpoints() != (tags && version >= 10) {
				t.Fatalf("HasEndpoints %v with %d brokers", p.HasEndpoints(), len(want.Brokers))
			}
			if version < 10 {
				continue
			}
			got, unknown, err := RewriteProduceEndpoints(frame, h, w)
			if err != nil {
				t.Fatal(err)
			}
			missing := false
			want.Brokers = slices.DeleteFunc(want.Brokers, func(b kmsg.ProduceResponseBroker) bool {
				_, ok := w.brokers[b.NodeID]
				missing = missing || !ok
				return !ok
			})
			for i := range want.Brokers {
				w.at(want.Brokers[i].NodeID, &want.Brokers[i].Host, &want.Brokers[i].Port)
			}
			if unknown != missing {
				t.Fatalf("unknown %v, want %v", unknown, missing)
			}
			// kmsg leaves out an empty list; klink keeps the tag.
			if len(want.Brokers) > 0 || !missing {
				sameResponse(t, got, want)
			} else if n := int(int32At(got)); n != len(got)-4 {
				t.Fatalf("size prefix %d on %d bytes", n, len(got))
			}
		}
	})
}

func FuzzProduce(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 1))
	for v := int16(0); v <= 13; v++ {
		req := kmsg.NewPtrProduceRequest()
		fillRequest(f, r, req, v)
		_, frame := requestFrame(f, req)
		_, _, resp := randomResponse[*kmsg.ProduceResponse](f, r, 0, v)
		f.Add(frame, resp, uint64(5))
	}
	f.Fuzz(func(t *testing.T, frame, response []byte, drops uint64) {
		h, err := ParseRequestHeader(frame)
		if err != nil || h.Body < 0 || h.Key != 0 {
			return
		}
		p := ReadProduceRequest(frame, h)
		var refused []*RefusedProduce
		var cut []Span
		for p.Topic() {
			refused = append(refused, nil)
			if drops>>(p.Index()%64)&1 == 1 {
				cut = append(cut, p.Span())
				refused[p.Index()] = &RefusedProduce{Name: bytes.Clone(p.Name), ID: p.ID, Partitions: p.Partitions(), Code: 42}
			}
		}
		if p.Err() != nil {
			return
		}
		kept := p.Topics() - len(cut)
		short := p.Cut(cut)
		again := ReadProduceRequest(short, h)
		for again.Topic() {
		}
		if again.Err() != nil || again.Topics() != kept {
			t.Fatalf("%d topics, want %d: %v", again.Topics(), kept, again.Err())
		}
		merged, err := MergeRefusedProduce(response, h, refused)
		if err != nil {
			return
		}
		resp := ReadProduceResponse(merged, h)
		for resp.Topic(newWorld()) {
		}
		if resp.Err() != nil {
			t.Fatal(resp.Err())
		}
	})
}
