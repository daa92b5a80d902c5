package protocol

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"klink/protocol/batch"
	"klink/protocol/timeline"
)

// v2Batch makes a batch with a right checksum around n bytes that are no records. One with a stamp
// stands at its place.
func v2Batch(base, producerID int64, epoch, attributes int16, n int) []byte {
	b := make([]byte, batch.HeaderSize+n)
	binary.BigEndian.PutUint64(b, uint64(base))
	binary.BigEndian.PutUint32(b[8:], uint32(len(b)-12))
	b[16] = 2
	binary.BigEndian.PutUint16(b[21:], uint16(attributes))
	binary.BigEndian.PutUint64(b[43:], uint64(producerID))
	binary.BigEndian.PutUint16(b[51:], uint16(epoch))
	binary.BigEndian.PutUint32(b[57:], 1)
	for i := batch.HeaderSize; i < len(b); i++ {
		b[i] = byte(i * 7)
	}
	binary.BigEndian.PutUint32(b[17:], crc32.Checksum(b[21:], crc32.MakeTable(crc32.Castagnoli)))
	if producerID < -1 {
		batch.SetPlace(b, base)
	}
	return b
}

func concat(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// fetchCase is a response of a broker and what a client shall get.
func fetchCase(version int16) (physical, logical *kmsg.FetchResponse) {
	build := func(shown bool) *kmsg.FetchResponse {
		w := newWorld()
		resp := kmsg.NewPtrFetchResponse()
		resp.Version = version
		resp.ThrottleMillis = 5
		if version >= 7 {
			resp.SessionID = 4711
		}
		topic := func(name string, partitions ...kmsg.FetchResponseTopicPartition) {
			for i := range partitions {
				p := &partitions[i]
				if p.ErrorCode == 0 {
					p.HighWatermark, p.LastStableOffset, p.LogStartOffset = 90, 80, 2
				} else {
					p.HighWatermark, p.LastStableOffset, p.LogStartOffset = -1, -1, -1
				}
				if version < 4 {
					p.LastStableOffset = -1
				}
				if version < 5 {
					p.LogStartOffset = -1
				}
				if !shown {
					continue
				}
				for _, o := range []*int64{&p.HighWatermark, &p.LastStableOffset, &p.LogStartOffset} {
					*o = w.shown(name, p.Partition, *o)
				}
				if version >= 12 && p.DivergingEpoch.EndOffset >= 0 {
					p.DivergingEpoch.EndOffset = w.shown(name, p.Partition, p.DivergingEpoch.EndOffset)
				}
			}
			resp.Topics = append(resp.Topics, kmsg.FetchResponseTopic{Topic: name, TopicID: idOf(name), Partitions: partitions})
		}
		partition := func(index int32, code int16, records ...[]byte) kmsg.FetchResponseTopicPartition {
			p := kmsg.NewFetchResponseTopicPartition()
			p.Partition, p.ErrorCode, p.RecordBatches = index, code, concat(records...)
			if len(records) == 0 {
				p.RecordBatches = nil
			}
			return p
		}
		aborted := func(p kmsg.FetchResponseTopicPartition, shift int64) kmsg.FetchResponseTopicPartition {
			if version >= 4 {
				p.AbortedTransactions = []kmsg.FetchResponseTopicPartitionAbortedTransaction{{ProducerID: 7, FirstOffset: 60}, {ProducerID: 8, FirstOffset: 70}}
				for i := range p.AbortedTransactions {
					if shown {
						p.AbortedTransactions[i].FirstOffset += shift
					}
					if version >= 12 {
						p.AbortedTransactions[i].UnknownTags.Set(9, []byte("tag"))
					}
				}
			}
			return p
		}
		diverging := func(p kmsg.FetchResponseTopicPartition) kmsg.FetchResponseTopicPartition {
			if version >= 12 {
				p.DivergingEpoch.Epoch, p.DivergingEpoch.EndOffset = 3, 33
				p.CurrentLeader.LeaderID, p.CurrentLeader.LeaderEpoch = 2, 9
				p.UnknownTags.Set(200, bytes.Repeat([]byte{1}, 300))
			}
			return p
		}
		batchAt := func(physical, logical, id int64, epoch int16, size int) []byte {
			attributes := int16(0)
			if shown && id < -1 && epoch&1 != 0 {
				attributes = 1 << 3
			}
			b := v2Batch(physical, id, epoch, attributes, size)
			if shown {
				batch.Header(b).SetBaseOffset(logical)
			}
			return b
		}
		cut := func(b []byte, n int) []byte { return b[:n] }

		// A mirror: batches with stamps, one that says LogAppendTime, one cut in its records.
		topic(
			"mirror",
			aborted(partition(
				0, 0,
				batchAt(2, 1002, -2-1002, 0, 40),
				batchAt(3, 1007, -2-1007, 1, 300),
				batchAt(4, 1008, -2-1008, 0, 0),
				cut(batchAt(5, 1009, -2-1009, 0, 500), 100),
			), 1000),
			diverging(partition(1, 0, batchAt(7, 7, -2-7, 0, 10), cut(batchAt(8, 8, -2-8, 0, 10), 60)[:0], cut(v2Batch(8, -2-8, 0, 0, 10), 60))),
			partition(0, kerr.OffsetOutOfRange.Code),
			partition(2, map[bool]int16{true: kerr.NotLeaderForPartition.Code}[shown], nil),
			diverging(partition(0, 0)),
		)
		// A stopped one: its own records have a producer, or none.
		topic("stopped", aborted(partition(0, 0, batchAt(9, 509, -1, 0, 20), batchAt(10, 510, 4000, 0, 20)), 500))
		topic("ordinary", aborted(partition(0, 0, v2Batch(2, -2-1002, 0, 0, 40), []byte("no batch at all")), 0), diverging(partition(1, 0)))
		topic("gone", partition(0, kerr.UnknownTopicID.Code))
		if version >= 12 {
			resp.Topics[0].UnknownTags.Set(1000, []byte("topic"))
			resp.UnknownTags.Set(77, []byte("end"))
		}
		if version >= 16 {
			// Of the length of klink's own addresses, so that nothing has to be padded here.
			resp.Brokers = []kmsg.FetchResponseBroker{{NodeID: 2, Host: "kafka-2", Port: 9092, Rack: ptr("r")}}
			if shown {
				resp.Brokers[0].Host, resp.Brokers[0].Port = "klink-2", 19094
			}
		}
		return resp
	}
	return build(false), build(true)
}

// stream passes a frame through a walker in pieces that end at cuts.
func stream(t testing.TB, f interface {
	Next([]byte) ([]byte, []byte, error)
}, frame []byte, cuts ...int,
) ([]byte, error) {
	t.Helper()
	out := make([]byte, 0, len(frame))
	from, passed := 0, 0
	for _, to := range append(cuts, len(frame)) {
		piece := bytes.Clone(frame[from:to])
		passed += len(piece)
		head, tail, err := f.Next(piece)
		if err != nil {
			return out, err
		}
		out = append(append(out, head...), tail...)
		if held := passed - len(out); held < 0 || held > maxToken {
			t.Fatalf("%d bytes held back", held)
		}
		clear(piece)
		from = to
	}
	return out, nil
}

func TestFetchResponse(t *testing.T) {
	versions(t, 1, func(t *testing.T, version int16) {
		physical, logical := fetchCase(version)
		_, frame := responseFrame(physical)
		_, want := responseFrame(logical)
		var f FetchResponse
		check := func(what string, cuts ...int) {
			f.Reset(version, newWorld())
			got, err := stream(t, &f, frame, cuts...)
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			if !bytes.Equal(got, want) {
				t.Fatalf("%s: got and want\n%x\n%x", what, got, want)
			}
			if !f.Finished() {
				t.Fatalf("%s: not finished", what)
			}
		}
		check("whole")
		for at := range frame {
			check(fmt.Sprintf("cut at %d", at), at)
			check(fmt.Sprintf("cut at %d and after", at), at, min(at+3, len(frame)))
		}
		every := make([]int, len(frame))
		for i := range every {
			every[i] = i
		}
		check("byte by byte", every...)
		rng := rand.New(rand.NewPCG(1, uint64(version)))
		for range 50 {
			var cuts []int
			for at := 0; at < len(frame); at += rng.IntN(200) {
				cuts = append(cuts, at)
			}
			check(fmt.Sprint("cuts ", cuts), cuts...)
		}
		if b := batch.Header(logical.Topics[0].Partitions[0].RecordBatches[101:]); !b.LogAppendTime() || !batch.VerifyCRC(b[:b.Size()]) {
			t.Fatal("the expected batch has no LogAppendTime, or a wrong checksum")
		}
	})
}

// A response may be cut short anywhere by a broker that goes down; and frames may follow each other
// in one piece only after the walker was reset.
func TestFetchResponseRefuses(t *testing.T) {
	resp := func(change func(*kmsg.FetchResponse)) []byte {
		physical, _ := fetchCase(13)
		change(physical)
		_, frame := responseFrame(physical)
		return frame
	}
	whole := resp(func(*kmsg.FetchResponse) {})
	sized := func(frame []byte, size int) []byte {
		frame = bytes.Clone(frame)
		binary.BigEndian.PutUint32(frame, uint32(size))
		return frame
	}
	for _, c := range []struct {
		name  string
		frame []byte
		want  string
	}{
		{"an unknown topic id", resp(func(r *kmsg.FetchResponse) { r.Topics[2].TopicID = idOf("who") }), "whose name klink does not know"},
		{"a batch that is too short", resp(func(r *kmsg.FetchResponse) {
			binary.BigEndian.PutUint32(r.Topics[0].Partitions[0].RecordBatches[8:], 40)
		}), "partition 0 of mirror topic"},
		{"a format of the future", resp(func(r *kmsg.FetchResponse) { r.Topics[0].Partitions[0].RecordBatches[16] = 3 }), "magic 3"},
		{"a format of nobody", resp(func(r *kmsg.FetchResponse) { r.Topics[0].Partitions[0].RecordBatches[16] = 0xff }), "magic -1"},
		{"bytes after the end", append(bytes.Clone(whole), 0), "after the end"},
		{"a size that is too small", sized(whole, len(whole)-5), "malformed"},
		{"a negative size", sized(whole, -1), "size -1"},
		{"a size without a correlation id", sized(whole, 3), "size 3"},
		{"a count of four billion", append(binary.BigEndian.AppendUint32(nil, 30), 0, 0, 0, 77, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f), "malformed"},
		{"a varint without an end", append(binary.BigEndian.AppendUint32(nil, 30), 0, 0, 0, 77, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff), "malformed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, cuts := range [][]int{nil, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13}} {
				var f FetchResponse
				f.Reset(13, newWorld())
				if _, err := stream(t, &f, c.frame, cuts...); err == nil || !strings.Contains(err.Error(), c.want) {
					t.Fatalf("got %v, want %q", err, c.want)
				}
			}
		})
	}
}

// A broker converts to the formats v0 and v1 for clients that know no other.
func TestFetchResponseOldFormats(t *testing.T) {
	message := func(offset int64, magic, attributes byte, n int) []byte {
		b := make([]byte, 18+n)
		binary.BigEndian.PutUint64(b, uint64(offset))
		binary.BigEndian.PutUint32(b[8:], uint32(len(b)-12))
		b[16], b[17] = magic, attributes
		return b
	}
	records := func(shift int64) []byte {
		return concat(message(3+shift, 0, 0, 10), message(4+shift, 1, 0, 0), message(9+shift, 1, 2, 300), message(10+shift, 1, 0, 100)[:40])
	}
	for version := int16(0); version <= 4; version++ {
		respond := func(records []byte) (RequestHeader, []byte) {
			resp := kmsg.NewPtrFetchResponse()
			resp.Version = version
			resp.Topics = []kmsg.FetchResponseTopic{{Topic: "mirror", Partitions: []kmsg.FetchResponseTopicPartition{{RecordBatches: records}}}}
			return responseFrame(resp)
		}
		h, frame := respond(records(0))
		for at := range frame {
			var f FetchResponse
			f.Reset(version, newWorld())
			got, err := stream(t, &f, frame, at)
			if err != nil {
				t.Fatalf("cut at %d: %v", at, err)
			}
			if got := readResponse[*kmsg.FetchResponse](t, h, got).Topics[0].Partitions[0].RecordBatches; !bytes.Equal(got, records(mirrorShift)) {
				t.Fatalf("cut at %d: got %x", at, got)
			}
		}
		for _, bad := range [][]byte{message(3, 0, 1, 10), append([]byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5}, make([]byte, 20)...)} {
			_, frame := respond(bad)
			var f FetchResponse
			f.Reset(version, newWorld())
			if _, err := stream(t, &f, frame); err == nil {
				t.Errorf("passes: %x", bad)
			}
		}
	}
}

// A converted message has lost its stamp, so it is shown only if a record is known to be at its
// offset.
func TestFetchResponseOldFormatsOfAVoidBatch(t *testing.T) {
	for physical, shown := range map[int64]bool{4: true, 5: false, 7: false, 10: true, 14: true, 15: false} {
		line := timeline.Open(0, 100, 100)
		line.LearnProbe(0, 100, 5)
		line.LearnProbe(10, 105, 5) // void before
		w, _ := voidWorld(View{Timeline: line, Stamped: true})
		b := make([]byte, 18)
		binary.BigEndian.PutUint64(b, uint64(physical))
		binary.BigEndian.PutUint32(b[8:], 6)
		resp := kmsg.NewPtrFetchResponse()
		resp.Version = 2
		resp.Topics = []kmsg.FetchResponseTopic{{Topic: "mirror", Partitions: []kmsg.FetchResponseTopicPartition{{RecordBatches: b}}}}
		_, frame := responseFrame(resp)
		var f FetchResponse
		f.Reset(2, w)
		if _, err := stream(t, &f, frame); (err == nil) != shown {
			t.Errorf("a message at %d: %v", physical, err)
		}
	}
}

// The size of the frame is sent before the node endpoints are known.
func TestFetchResponseEndpoints(t *testing.T) {
	w := newWorld()
	w.brokers[3] = fakeAddr{"a-host-of-klink-with-a-name-that-is-longer-than-any-of-theirs.example.com", 9}
	const nothing = "no endpoints"
	for _, c := range []struct {
		name  string
		hosts []string // of brokers 1, 2, 3 (4 = unknown)
		nodes []int32
		want  string
	}{
		{"none", nil, nil, nothing},
		{"same length", []string{"kafka-1", "kafka-2"}, []int32{1, 2}, "1=klink-1:19093 2=klink-2:19094"},
		{"longer, padded", []string{"kafka-1.example", "kafka-2.example"}, []int32{1, 2}, "1=klink-1:19093 2=klink-2:19094"},
		{"one byte longer cannot be padded", []string{"kafka-11"}, []int32{1}, nothing},
		{"three bytes longer", []string{"kafka-1111"}, []int32{1}, "1=klink-1:19093"},
		{"much longer", []string{strings.Repeat("k", 180)}, []int32{1}, "1=klink-1:19093"},
		{"shorter than klink's", []string{"k"}, []int32{3}, nothing},
		{"without an address", []string{"kafka-1", "kafka-4"}, []int32{1, 4}, nothing},
		{"more than is held back", []string{strings.Repeat("k", 150), strings.Repeat("k", 150)}, []int32{1, 2}, nothing},
		{"much more", []string{strings.Repeat("k", 250), strings.Repeat("k", 250), strings.Repeat("k", 250)}, []int32{1, 2, 1}, nothing},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, tags := range []int{0, 1, 2, 40} {
				resp := kmsg.NewPtrFetchResponse()
				resp.Version = 16
				for i, host := range c.hosts {
					resp.Brokers = append(resp.Brokers, kmsg.FetchResponseBroker{NodeID: c.nodes[i], Host: host, Port: 9092})
				}
				for i := range tags {
					resp.UnknownTags.Set(uint32(300+i), []byte("unknown"))
				}
				h, frame := responseFrame(resp)
				for at := range frame {
					var f FetchResponse
					f.Reset(16, w)
					out, err := stream(t, &f, frame, at)
					if err != nil {
						t.Fatalf("%d tags, cut at %d: %v", tags, at, err)
					}
					got := readResponse[*kmsg.FetchResponse](t, h, out)
					var shown []string
					for _, b := range got.Brokers {
						shown = append(shown, fmt.Sprintf("%d=%s:%d", b.NodeID, b.Host, b.Port))
					}
					// With 40 tags more than can be held back follows, so that everything is
					// hidden.
					if s := strings.Join(shown, " "); s != c.want && (tags < 40 || s != "") && (c.want != nothing || s != "") {
						t.Fatalf("%d tags, cut at %d: got %q", tags, at, s)
					}
				}
			}
		})
	}
}

// Sections of every length can be hidden, but for those that are too short to have had an address.
func TestHideTags(t *testing.T) {
	for total := 3; total < 40000; total = total*101/100 + 1 {
		for n := total - 3; n <= total+3; n++ {
			b := bytes.Repeat([]byte{0xaa}, max(n, 1))
			hideTags(b, len(b))
			r := Reader{Buf: b, Flexible: true}
			r.Tags()
			if len(b) >= 3 && (r.Err() != nil || r.Left() != 0) {
				t.Fatalf("%d bytes: %v, %d left: % x", len(b), r.Err(), r.Left(), b[:min(len(b), 10)])
			}
		}
	}
}

func FuzzFetchResponse(f *testing.F) {
	for version := int16(0); version <= 18; version++ {
		physical, _ := fetchCase(version)
		_, frame := responseFrame(physical)
		f.Add(version, frame, uint16(50), uint16(7))
		foreign := kmsg.NewPtrFetchResponse()
		foreign.Version = version
		p := kmsg.NewFetchResponseTopicPartition()
		p.Partition, p.HighWatermark = 3, 40
		p.RecordBatches = concat(
			recordsAt(0, 100, 10, 80, 0), recordsAt(10, -1, 1, 50, 0), recordsAt(11, 120, 5, 300, 0), recordsAt(16, 120, 5, 300, 0),
			recordsAt(21, 115, 3, 40, batch.FlagFiller), recordsAt(24, -1, 1, 0, 0), recordsAt(25, 140, 5, 300, 0)[:200],
		)
		foreign.Topics = []kmsg.FetchResponseTopic{{Topic: "mirror", TopicID: idOf("mirror"), Partitions: []kmsg.FetchResponseTopicPartition{p}}}
		_, frame = responseFrame(foreign)
		f.Add(version, frame, uint16(50), uint16(7))
	}
	f.Fuzz(func(t *testing.T, version int16, frame []byte, size, step uint16) {
		if version < 0 || version > 18 {
			return
		}
		run := func(cuts ...int) ([]byte, error) {
			w := &FetchResponse{}
			runs := newWorld()
			line := timeline.Open(0, 100, 100)
			line.LearnProbe(40, 200, 3)
			runs.mirrors["mirror"] = append(runs.mirrors["mirror"], View{Timeline: line, Stamped: true})
			w.Reset(version, runs)
			return stream(t, w, bytes.Clone(frame), cuts...)
		}
		var cuts []int
		for at := min(int(size), len(frame)); at < len(frame) && len(cuts) < 1000; at += int(step)%500 + 1 {
			cuts = append(cuts, at)
		}
		whole, errWhole := run()
		pieces, errPieces := run(cuts...)
		if (errWhole == nil) != (errPieces == nil) {
			t.Fatalf("whole: %v, in pieces: %v", errWhole, errPieces)
		}
		if errWhole == nil && !bytes.Equal(whole, pieces) {
			t.Fatal("pieces make a difference")
		}
		if errWhole == nil && len(frame) >= 4 && int(int32At(frame)) == len(frame)-4 && len(whole) != len(frame) {
			t.Fatalf("%d bytes became %d", len(frame), len(whole))
		}
	})
}

func BenchmarkFetchResponse(b *testing.B) {
	physical, _ := fetchCase(12)
	var records []byte
	for len(records) < 1<<20 {
		records = append(records, v2Batch(5, -2-1005, 0, 0, 16<<10)...)
	}
	physical.Topics[0].Partitions[0].RecordBatches = records
	_, frame := responseFrame(physical)
	var f FetchResponse
	w := newWorld()
	b.SetBytes(int64(len(frame)))
	b.ReportAllocs()
	for b.Loop() {
		f.Reset(12, w)
		for at := 0; at < len(frame); at += 64 << 10 {
			if _, _, err := f.Next(frame[at:min(at+64<<10, len(frame))]); err != nil {
				b.Fatal(err)
			}
		}
	}
}
