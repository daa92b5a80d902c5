package protocol

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Of a hidden or denied partition only its index, an error and the number of its bytes pass.
// Neither a client that takes records beside an error nor one that looks at the bytes gets any of
// it. Its neighbours are unchanged.
func TestFetchResponseHides(t *testing.T) {
	records := v2Batch(5, -2-1005, 0, 0, 300)
	for name, c := range map[string]struct {
		view View
		code map[int16]int16 // by the broker's
	}{
		"hidden": {View{Hidden: true}, map[int16]int16{0: 6, 1: 6, 3: 3}},
		"denied": {View{Hidden: true, Denied: true}, map[int16]int16{0: 29, 1: 29, 3: 29}},
	} {
		w := newWorld()
		w.mirrors["mirror"] = fakeMirror{c.view}
		versions(t, 1, func(t *testing.T, version int16) {
			for _, size := range []int{0, 1, 16, 17, 18, len(records)} {
				for theirs, want := range c.code {
					resp := kmsg.NewPtrFetchResponse()
					resp.Version = version
					for _, topic := range []string{"mirror", "ordinary"} {
						p := kmsg.NewFetchResponseTopicPartition()
						p.ErrorCode, p.HighWatermark, p.LastStableOffset, p.LogStartOffset = theirs, 90, 80, 2
						p.RecordBatches = records[:size]
						p.AbortedTransactions = []kmsg.FetchResponseTopicPartitionAbortedTransaction{{ProducerID: 7, FirstOffset: 60}}
						p.DivergingEpoch.Epoch, p.DivergingEpoch.EndOffset = 3, 33
						p.CurrentLeader.LeaderID = 2
						resp.Topics = append(resp.Topics, kmsg.FetchResponseTopic{Topic: topic, TopicID: idOf(topic), Partitions: []kmsg.FetchResponseTopicPartition{p}})
					}
					h, frame := responseFrame(resp)
					plain := readResponse[*kmsg.FetchResponse](t, h, frame).Topics[1].Partitions[0]
					for at := range frame {
						var f FetchResponse
						f.Reset(version, w)
						out, err := stream(t, &f, frame, at)
						if err != nil || len(out) != len(frame) {
							t.Fatalf("%s, %d bytes, cut at %d: %d bytes became %d: %v", name, size, at, len(frame), len(out), err)
						}
						got := kmsg.NewPtrFetchResponse()
						got.Version = version
						if err := got.ReadFrom(out[h.ResponseBody(out):]); err != nil {
							t.Fatal(err)
						}
						p, q := got.Topics[0].Partitions[0], got.Topics[1].Partitions[0]
						if p.ErrorCode != want || p.HighWatermark != -1 || p.LastStableOffset != -1 || p.LogStartOffset != -1 {
							t.Fatalf("%s: %+v", name, p)
						}
						if d := p.DivergingEpoch; d.Epoch != -1 || d.EndOffset != -1 || version >= 12 && p.CurrentLeader.LeaderID != 2 {
							t.Fatalf("%s: %+v", name, p)
						}
						if version >= 4 && p.AbortedTransactions[0].FirstOffset != -1 {
							t.Fatalf("%s: aborted at %d", name, p.AbortedTransactions[0].FirstOffset)
						}
						for i, b := range p.RecordBatches {
							if b != 0 && i != 8 && i != 16 {
								t.Fatalf("%s, %d bytes, cut at %d: %x", name, size, at, p.RecordBatches)
							}
						}
						if b := p.RecordBatches; len(b) != size || size > 16 && (b[16] != 2 || int(binary.BigEndian.Uint32(b[8:])) < size) {
							t.Fatalf("%s: %d of %d bytes: %x", name, len(b), size, b)
						}
						if !bytes.Equal(q.RecordBatches, plain.RecordBatches) || q.HighWatermark != 90 || q.ErrorCode != theirs || q.DivergingEpoch.EndOffset != plain.DivergingEpoch.EndOffset {
							t.Fatalf("%s: the neighbour became %+v", name, q)
						}
					}
				}
			}
		})
	}
}

// A broker repeats whatever name a client has asked for.
func TestFetchResponseWithImpossibleNames(t *testing.T) {
	for version := int16(0); version <= 12; version++ {
		for _, name := range []string{"", strings.Repeat("x", 249), strings.Repeat("x", 250), strings.Repeat("x", 20_000)} {
			resp := kmsg.NewPtrFetchResponse()
			resp.Version = version
			for _, topic := range []string{name, "mirror"} {
				p := kmsg.NewFetchResponseTopicPartition()
				p.ErrorCode, p.HighWatermark = kerr.InvalidTopicException.Code, 7
				resp.Topics = append(resp.Topics, kmsg.FetchResponseTopic{Topic: topic, Partitions: []kmsg.FetchResponseTopicPartition{p}})
			}
			h, frame := responseFrame(resp)
			for _, cuts := range [][]int{nil, {15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31}} {
				var f FetchResponse
				f.Reset(version, newWorld())
				out, err := stream(t, &f, frame, cuts...)
				if err != nil {
					t.Fatalf("v%d, name of %d bytes: %v", version, len(name), err)
				}
				got := readResponse[*kmsg.FetchResponse](t, h, out)
				if got.Topics[0].Topic != name || got.Topics[0].Partitions[0].HighWatermark != 7 {
					t.Errorf("v%d: %+v", version, got.Topics[0])
				}
				if hw := got.Topics[1].Partitions[0].HighWatermark; hw != mirrorShift+7 {
					t.Errorf("v%d: the topic after it is at %d", version, hw)
				}
			}
		}
	}
}

func TestFetchResponseSession(t *testing.T) {
	for version := int16(1); version <= 18; version++ {
		for _, code := range []int16{0, kerr.FetchSessionIDNotFound.Code} {
			resp := kmsg.NewPtrFetchResponse()
			resp.Version, resp.SessionID, resp.ErrorCode = version, 4711, code
			_, frame := responseFrame(resp)
			var f FetchResponse
			f.Reset(version, newWorld())
			if _, err := stream(t, &f, frame, 9); err != nil {
				t.Fatal(err)
			}
			want := int32(4711)
			if version < 7 || code != 0 {
				want = 0
			}
			if f.Session() != want {
				t.Errorf("v%d, code %d: session %d", version, code, f.Session())
			}
		}
	}
}
