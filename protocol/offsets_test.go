package protocol

import (
	"math/rand/v2"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// hide is what a hidden partition's error code becomes.
func (w *world) hide(topic string, partition int32, code *int16) {
	if w.mirrors[topic].View(partition).Hidden && (*code == 0 || *code == kerr.OffsetOutOfRange.Code) {
		*code = kerr.NotLeaderForPartition.Code
	}
}

// translates checks an in-place translation of responses, which expect says in terms of the decoded
// message.
func translates[R kmsg.Response](t *testing.T, key int16, translate func([]byte, RequestHeader, Resolver) error, expect func(w *world, resp R)) {
	versions(t, key, func(t *testing.T, version int16) {
		r := rand.New(rand.NewPCG(uint64(key), uint64(version)))
		w := newWorld()
		for range 60 {
			want, h, frame := randomResponse[R](t, r, key, version)
			cutShort(t, frame, func(b []byte) error { return translate(b, h, w) })
			if err := translate(frame, h, w); err != nil {
				t.Fatal(err)
			}
			expect(w, want)
			sameResponse(t, frame, want)
		}
	})
}

func TestListOffsets(t *testing.T) {
	translates(t, 2, TranslateListOffsets, func(w *world, resp *kmsg.ListOffsetsResponse) {
		for i := range resp.Topics {
			topic := &resp.Topics[i]
			for j := range topic.Partitions {
				p := &topic.Partitions[j]
				p.Offset = w.shown(topic.Topic, p.Partition, p.Offset)
				for k := range p.OldStyleOffsets {
					p.OldStyleOffsets[k] = w.shown(topic.Topic, p.Partition, p.OldStyleOffsets[k])
				}
				w.hide(topic.Topic, p.Partition, &p.ErrorCode)
			}
		}
	})
}

func TestOffsetForLeaderEpoch(t *testing.T) {
	translates(t, 23, TranslateOffsetForLeaderEpoch, func(w *world, resp *kmsg.OffsetForLeaderEpochResponse) {
		for i := range resp.Topics {
			topic := &resp.Topics[i]
			for j := range topic.Partitions {
				p := &topic.Partitions[j]
				p.EndOffset = w.shown(topic.Topic, p.Partition, p.EndOffset)
				w.hide(topic.Topic, p.Partition, &p.ErrorCode)
			}
		}
	})
}

func TestDescribeProducers(t *testing.T) {
	translates(t, 61, TranslateDescribeProducers, func(w *world, resp *kmsg.DescribeProducersResponse) {
		for i := range resp.Topics {
			topic := &resp.Topics[i]
			for j := range topic.Partitions {
				p := &topic.Partitions[j]
				for k := range p.ActiveProducers {
					producer := &p.ActiveProducers[k]
					producer.CurrentTxnStartOffset = w.shown(topic.Topic, p.Partition, producer.CurrentTxnStartOffset)
				}
			}
		}
	})
}

// The offsets that were asked for, and nothing else, are changed in a Fetch request.
func TestFetchRequest(t *testing.T) {
	versions(t, 1, func(t *testing.T, version int16) {
		r := rand.New(rand.NewPCG(1, uint64(version)))
		for range 60 {
			want := kmsg.NewPtrFetchRequest()
			fillRequest(t, r, want, version)
			h, frame := requestFrame(t, want)
			f := ReadFetchRequest(frame, h)
			for i := range want.Topics {
				if !f.Topic() {
					t.Fatalf("no topic %d: %v", i, f.r.Err())
				}
				topic := &want.Topics[i]
				if version < 13 && string(f.Name) != topic.Topic || version >= 13 && f.ID != topic.TopicID {
					t.Fatalf("topic %q %x, want %+v", f.Name, f.ID, topic)
				}
				if r.IntN(4) == 0 {
					continue // a caller may leave partitions out
				}
				for j := range topic.Partitions {
					p := &topic.Partitions[j]
					if !f.Partition() || f.Index != p.Partition || f.Offset() != p.FetchOffset {
						t.Fatalf("partition %d at %d, want %+v: %v", f.Index, f.Offset(), p, f.r.Err())
					}
					p.FetchOffset += 1 << 40
					f.SetOffset(f.Place(), p.FetchOffset)
				}
				if f.Partition() {
					t.Fatal("a partition too many")
				}
			}
			if f.Topic() {
				t.Fatal("a topic too many")
			}
			follower := want.ReplicaID
			if version >= 15 {
				follower = max(want.ReplicaState.ID, -1)
			}
			if replica, err := f.End(); err != nil || replica != follower {
				t.Fatalf("of replica %d, want %d: %v", replica, follower, err)
			}
			if incremental := version >= 7 && want.SessionEpoch > 0; f.Incremental() != incremental {
				t.Fatalf("incremental %v with epoch %d", f.Incremental(), want.SessionEpoch)
			}
			if f.NoSession(); version >= 7 {
				want.SessionEpoch = -1
			}
			if _, wanted := requestFrame(t, want); string(frame) != string(wanted) {
				t.Fatalf("got and want\n%x\n%x", frame, wanted)
			}
		}
	})
}

func TestFetchSessionGone(t *testing.T) {
	for version := int16(7); version <= 18; version++ {
		h := RequestHeader{Key: 1, Version: version, CorrelationID: 77, Flexible: version >= 12}
		resp := readResponse[*kmsg.FetchResponse](t, h, AppendFetchSessionGone(nil, h))
		if resp.ErrorCode != kerr.FetchSessionIDNotFound.Code || resp.SessionID != 0 || len(resp.Topics) != 0 {
			t.Errorf("v%d: %+v", version, resp)
		}
	}
}

func FuzzTranslate(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 1))
	for _, key := range []int16{2, 23, 61} {
		api, _ := Supported(key)
		for v := api.Min; v <= api.Max; v++ {
			_, _, frame := randomResponse[kmsg.Response](f, r, key, v)
			f.Add(key, v, frame)
		}
	}
	f.Fuzz(func(t *testing.T, key, version int16, frame []byte) {
		flexible, ok := Flexible(key, version)
		h := RequestHeader{Key: key, Version: version, Flexible: flexible}
		if !ok {
			return
		}
		switch key {
		case 2:
			_ = TranslateListOffsets(frame, h, newWorld())
		case 23:
			_ = TranslateOffsetForLeaderEpoch(frame, h, newWorld())
		case 61:
			_ = TranslateDescribeProducers(frame, h, newWorld())
		}
	})
}

func FuzzFetchRequest(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 1))
	for v := int16(0); v <= 18; v++ {
		req := kmsg.NewPtrFetchRequest()
		fillRequest(f, r, req, v)
		_, frame := requestFrame(f, req)
		f.Add(frame)
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		h, err := ParseRequestHeader(frame)
		if err != nil || h.Body < 0 || h.Key != 1 {
			return
		}
		req := ReadFetchRequest(frame, h)
		for req.Topic() {
			for req.Partition() {
				req.SetOffset(req.Place(), req.Offset()+1)
			}
		}
		_, _ = req.End()
		req.NoSession()
	})
}
