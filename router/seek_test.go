package router

import (
	"context"
	"slices"
	"testing"

	"klink/protocol/timeline"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// manyRuns gives partition 0 of mirror and of stopped a timeline that knows only its start, over
// 1000 transactions of 3 records and a marker each, from logical offset 100 on. Transaction i is at
// physical 3i, logical 100+4i. The mirror stopped ended at physical 3000, logical 4100, and 50
// records were written since.
func manyRuns(w *hotWorld) (mirror, stopped *timeline.Partition) {
	log := &hotLog{}
	for i := range int64(1000) {
		log.append(100+4*i, 3)
	}
	mirror, stopped = timeline.Open(0, 100, 100), timeline.Open(0, 100, 100)
	stopped.End(3000, 4100, false)
	sn := hotSnapshot()
	sn.Mirrors["mirror"].Timelines[0], sn.Mirrors["stopped"].Timelines[0] = mirror, stopped
	w.router.Publish(sn)
	w.logs = map[at]*hotLog{{"mirror", 0}: log, {"stopped", 0}: log}
	return mirror, stopped
}

func fetchAt(topic string, offset int64) *kmsg.FetchRequest {
	req := kmsg.NewPtrFetchRequest()
	req.Version, req.SessionEpoch = 13, -1
	rt := kmsg.NewFetchRequestTopic()
	rt.Topic, rt.TopicID = topic, hotID(topic)
	p := kmsg.NewFetchRequestTopicPartition()
	p.FetchOffset = offset
	rt.Partitions = append(rt.Partitions, p)
	req.Topics = append(req.Topics, rt)
	return req
}

// A reader may begin anywhere in a log of many runs: klink first looks for offsets that the
// timeline does not know.
func TestFetchOfManyRuns(t *testing.T) {
	w := newHotWorld(t)
	manyRuns(w)
	for _, c := range []struct {
		topic        string
		asked, wants int64
		looks        int // at most
	}{
		{"mirror", 99, -1, 0},
		{"mirror", 100, 0, 0},
		{"mirror", 100 + 4*500, 1500, 6},
		{"mirror", 100 + 4*500 + 2, 1502, 0},
		{"mirror", 100 + 4*500 + 3, 1503, 0}, // the marker: the next record
		{"mirror", 100 + 4*333 + 1, 1000, 12},
		{"mirror", 4099, 3000, 12},
		{"mirror", 5000, -1, 1}, // nobody knows that this is beyond the end without a look
		{"mirror", 100 + 4*999, 2997, 0},
		{"stopped", 100 + 4*700 + 1, 2101, 12},
		{"stopped", 4100, 3000, 0},
		{"stopped", 4120, 3020, 0},
		{"stopped", 9999, 8899, 0}, // the broker's to refuse
	} {
		w.looks = 0
		w.later()
		asked := int64(-99)
		resp, out := send(w, fetchAt(c.topic, c.asked), func(req *kmsg.FetchRequest) *kmsg.FetchResponse {
			asked = req.Topics[0].Partitions[0].FetchOffset
			resp := kmsg.NewPtrFetchResponse()
			p := kmsg.NewFetchResponseTopicPartition()
			p.HighWatermark, p.LogStartOffset = 3000, 0
			resp.Topics = []kmsg.FetchResponseTopic{{TopicID: req.Topics[0].TopicID, Partitions: []kmsg.FetchResponseTopicPartition{p}}}
			return resp
		})
		if out.closed != nil || asked != c.wants || w.looks > c.looks {
			t.Errorf("%s at %d: asked for %d with %d looks, want %d with %d at most: %v", c.topic, c.asked, asked, w.looks, c.wants, c.looks, out.closed)
			continue
		}
		p := resp.Topics[0].Partitions[0]
		// The end of the mirror is not known, so klink never reports too high an end.
		if end := int64(4100); p.HighWatermark > end || c.topic == "stopped" && p.HighWatermark != end || p.LogStartOffset != 100 {
			t.Errorf("%s at %d: high watermark %d, log start %d", c.topic, c.asked, p.HighWatermark, p.LogStartOffset)
		}
	}
}

// If klink cannot look into the log, it sends a client to an offset from which it misses nothing,
// and never answers OFFSET_OUT_OF_RANGE.
func TestFetchWhenLooksFail(t *testing.T) {
	w := newHotWorld(t)
	w.failing = true
	_, stopped := manyRuns(w)
	if _, out := send[*kmsg.FetchRequest, *kmsg.FetchResponse](w, fetchAt("mirror", 2000), nil); out.closed == nil {
		t.Error("an offset of which nothing is known is asked for")
	}
	low, _, ok := stopped.FindPhysical(2000, 0)
	asked := int64(-99)
	_, out := send(w, fetchAt("stopped", 2000), func(req *kmsg.FetchRequest) *kmsg.FetchResponse {
		asked = req.Topics[0].Partitions[0].FetchOffset
		return kmsg.NewPtrFetchResponse()
	})
	if ok || out.closed != nil || asked != low || low > 1425 || low < 0 {
		t.Errorf("asked for %d, want the lower bound %d: %v", asked, low, out.closed)
	}
	// The next request looks again.
	w.failing, w.looks = false, 0
	_, _ = send(w, fetchAt("stopped", 2000), func(req *kmsg.FetchRequest) *kmsg.FetchResponse {
		asked = req.Topics[0].Partitions[0].FetchOffset
		return kmsg.NewPtrFetchResponse()
	})
	if asked != 1425 || w.looks == 0 {
		t.Errorf("asked for %d after %d looks", asked, w.looks)
	}
}

// Offsets in responses are the source's, in every version, even if klink must look into the log.
func TestListOffsetsOfManyRuns(t *testing.T) {
	for version := int16(0); version <= 11; version++ {
		for _, c := range []struct {
			topic               string
			timestamp, physical int64
			want                int64
		}{
			{"mirror", 1234, 1500, 2100},
			{"mirror", 1234, 1502, 2102},
			{"mirror", 1234, 1503, 2104},
			{"mirror", -1, 3000, 4099}, // the end as far as the log tells
			{"mirror", -1, 0, 100},
			{"mirror", -1, -1, -1},
			{"stopped", 1234, 2997, 4096},
			{"stopped", -1, 3010, 4110},
		} {
			w := newHotWorld(t)
			manyRuns(w)
			req := kmsg.NewPtrListOffsetsRequest()
			req.Version = version
			rt := kmsg.NewListOffsetsRequestTopic()
			rt.Topic = c.topic
			rt.Partitions = append(rt.Partitions, kmsg.NewListOffsetsRequestTopicPartition())
			req.Topics = append(req.Topics, rt)
			resp, out := send(w, req, func(*kmsg.ListOffsetsRequest) *kmsg.ListOffsetsResponse {
				resp := kmsg.NewPtrListOffsetsResponse()
				p := kmsg.NewListOffsetsResponseTopicPartition()
				p.Timestamp, p.Offset, p.OldStyleOffsets = c.timestamp, c.physical, []int64{c.physical}
				resp.Topics = []kmsg.ListOffsetsResponseTopic{{Topic: c.topic, Partitions: []kmsg.ListOffsetsResponseTopicPartition{p}}}
				return resp
			})
			if out.closed != nil {
				t.Fatalf("v%d: %v", version, out.closed)
			}
			p := resp.Topics[0].Partitions[0]
			if got := p.Offset; version > 0 && got != c.want || version == 0 && p.OldStyleOffsets[0] != c.want || p.ErrorCode != 0 {
				t.Errorf("v%d: physical %d of %s is %d %v (error %d), want %d", version, c.physical, c.topic, got, p.OldStyleOffsets, p.ErrorCode, c.want)
			}
		}
	}
}

// klink does not report an offset that it cannot look up.
func TestListOffsetsWhenLooksFail(t *testing.T) {
	w := newHotWorld(t)
	manyRuns(w)
	w.failing = true
	req := kmsg.NewPtrListOffsetsRequest()
	req.Version = 7
	for _, topic := range []string{"mirror", "ordinary"} {
		rt := kmsg.NewListOffsetsRequestTopic()
		rt.Topic = topic
		req.Topics = append(req.Topics, rt)
	}
	resp, out := send(w, req, func(*kmsg.ListOffsetsRequest) *kmsg.ListOffsetsResponse {
		resp := kmsg.NewPtrListOffsetsResponse()
		for _, topic := range []string{"mirror", "ordinary"} {
			p := kmsg.NewListOffsetsResponseTopicPartition()
			p.Timestamp, p.Offset = 5, 1500
			resp.Topics = append(resp.Topics, kmsg.ListOffsetsResponseTopic{Topic: topic, Partitions: []kmsg.ListOffsetsResponseTopicPartition{p}})
		}
		return resp
	})
	if out.closed != nil {
		t.Fatal(out.closed)
	}
	ours, theirs := resp.Topics[0].Partitions[0], resp.Topics[1].Partitions[0]
	if ours.Offset != -1 || ours.ErrorCode != kerr.NotLeaderForPartition.Code || theirs.Offset != 1500 || theirs.ErrorCode != 0 {
		t.Errorf("got %+v and %+v", ours, theirs)
	}
}

func TestOffsetForLeaderEpochOfManyRuns(t *testing.T) {
	for version := int16(0); version <= 4; version++ {
		w := newHotWorld(t)
		manyRuns(w)
		req := kmsg.NewPtrOffsetForLeaderEpochRequest()
		req.Version = version
		resp, out := send(w, req, func(*kmsg.OffsetForLeaderEpochRequest) *kmsg.OffsetForLeaderEpochResponse {
			resp := kmsg.NewPtrOffsetForLeaderEpochResponse()
			p := kmsg.NewOffsetForLeaderEpochResponseTopicPartition()
			p.EndOffset = 1800
			resp.Topics = []kmsg.OffsetForLeaderEpochResponseTopic{{Topic: "mirror", Partitions: []kmsg.OffsetForLeaderEpochResponseTopicPartition{p}}}
			return resp
		})
		if out.closed != nil || resp.Topics[0].Partitions[0].EndOffset != 2500 {
			t.Errorf("v%d: %+v: %v", version, resp.Topics, out.closed)
		}
	}
}

func TestDeleteRecordsOfManyRuns(t *testing.T) {
	for _, failing := range []bool{false, true} {
		w := newHotWorld(t)
		manyRuns(w)
		w.failing = failing
		req := kmsg.NewPtrDeleteRecordsRequest()
		req.Version = 2
		rt := kmsg.NewDeleteRecordsRequestTopic()
		rt.Topic = "stopped"
		p := kmsg.NewDeleteRecordsRequestTopicPartition()
		p.Offset = 100 + 4*600 + 3 // a marker
		rt.Partitions = append(rt.Partitions, p)
		req.Topics = append(req.Topics, rt)
		asked := int64(-99)
		resp, out := send(w, req, func(req *kmsg.DeleteRecordsRequest) *kmsg.DeleteRecordsResponse {
			asked = req.Topics[0].Partitions[0].Offset
			resp := kmsg.NewPtrDeleteRecordsResponse()
			p := kmsg.NewDeleteRecordsResponseTopicPartition()
			p.LowWatermark = asked
			resp.Topics = []kmsg.DeleteRecordsResponseTopic{{Topic: "stopped", Partitions: []kmsg.DeleteRecordsResponseTopicPartition{p}}}
			return resp
		})
		if out.closed != nil {
			t.Fatal(out.closed)
		}
		low := resp.Topics[0].Partitions[0].LowWatermark
		if !failing && (asked != 1803 || low != 2503) || failing && (asked < 0 || asked > 1803 || low > 2503) {
			t.Errorf("failing %v: deletes up to %d, low watermark %d", failing, asked, low)
		}
	}
}

// Many clients seek in many partitions at once, each with few looks.
func TestSeekingIsBounded(t *testing.T) {
	w := newHotWorld(t)
	line, _ := manyRuns(w)
	var list []probe
	for i := range int64(200) {
		list = append(list, probe{at: at{"mirror", 0}, line: line, logical: 100 + 19*i})
	}
	if failed := w.router.learn(context.Background(), &share{}, slices.Clone(list)); failed != nil {
		t.Fatal(failed)
	}
	for _, p := range list {
		i := (p.logical - 100) / 4
		want := 3*i + min((p.logical-100)%4, 3)
		if got, _, ok := line.FindPhysical(p.logical, 0); !ok || got != want {
			t.Errorf("logical %d is physical %d (%v), want %d", p.logical, got, ok, want)
		}
	}
	if w.looks > 200*4 {
		t.Errorf("%d looks", w.looks)
	}
	w.failing = true
	failed := w.router.learn(context.Background(), &share{}, []probe{{at: at{"mirror", 0}, line: timeline.Open(0, 0, 0), logical: 5}})
	if len(failed) != 1 || failed[at{"mirror", 0}] == nil {
		t.Error(failed)
	}
}

// klink checks an offset that a broker found by timestamp, and translates the result. It does not
// check the ends of the log.
func TestListOffsetsSeeksTimestamps(t *testing.T) {
	for version := int16(0); version <= 11; version++ {
		for _, c := range []struct {
			topic         string
			asked         int64
			found, at     int64 // by the broker
			want, wantsAt int64
			seeks         int
			failing       bool
			code          int16
		}{
			{topic: "mirror", asked: 1234, found: 1500, at: 1240, want: 2100, wantsAt: 1240, seeks: 1},
			{topic: "mirror", asked: 1300, found: 1500, at: 1340, want: 2108, wantsAt: 1305, seeks: 1},
			{topic: "mirror", asked: 1400, found: 1500, at: 1440, want: -1, wantsAt: -1, seeks: 1},
			{topic: "mirror", asked: 1500, found: 1500, at: 1540, want: 2112, wantsAt: 1540, seeks: 1}, // came no further
			{topic: "mirror", asked: 1600, found: -1, at: -1, want: -1, wantsAt: -1},
			{topic: "mirror", asked: -3, found: 1500, at: 1540, want: 2100, wantsAt: 1540},
			{topic: "plain", asked: 1300, found: 1500, at: 1340, want: 1500, wantsAt: 1340},
			{topic: "mirror", asked: 1300, found: 1500, at: 1340, want: -1, wantsAt: 1340, seeks: 1, failing: true, code: 6},
		} {
			if version == 0 {
				continue // has no timestamps, and TestListOffsetsOfManyRuns
			}
			w := newHotWorld(t)
			manyRuns(w)
			if c.failing {
				w.failing = true
			}
			partition := at{"mirror", 0}
			w.seeks = map[timeSeek][2]int64{
				{partition, 1500, 1300}: {1506, 1305},
				{partition, 1500, 1400}: {-1, -1},
				{partition, 1500, 1500}: {1509, -1},
			}
			req := kmsg.NewPtrListOffsetsRequest()
			req.Version = version
			rt := kmsg.NewListOffsetsRequestTopic()
			rt.Topic = c.topic
			p := kmsg.NewListOffsetsRequestTopicPartition()
			p.Timestamp = c.asked
			rt.Partitions = append(rt.Partitions, p)
			req.Topics = append(req.Topics, rt)
			resp, out := send(w, req, func(*kmsg.ListOffsetsRequest) *kmsg.ListOffsetsResponse {
				resp := kmsg.NewPtrListOffsetsResponse()
				p := kmsg.NewListOffsetsResponseTopicPartition()
				p.Timestamp, p.Offset = c.at, c.found
				resp.Topics = []kmsg.ListOffsetsResponseTopic{{Topic: c.topic, Partitions: []kmsg.ListOffsetsResponseTopicPartition{p}}}
				return resp
			})
			if out.closed != nil {
				t.Fatalf("v%d: %v", version, out.closed)
			}
			got := resp.Topics[0].Partitions[0]
			if got.Offset != c.want || got.Timestamp != c.wantsAt || got.ErrorCode != c.code || w.timeSeeks != c.seeks {
				t.Errorf("v%d, %+v: got offset %d, timestamp %d, code %d after %d seeks", version, c, got.Offset, got.Timestamp, got.ErrorCode, w.timeSeeks)
			}
		}
	}
}

// klink does not look again and again for an offset that cannot be read yet: its reader waits at
// the lower bound.
func TestSeekWhereALookTeachesNothing(t *testing.T) {
	w := newHotWorld(t)
	line, _ := manyRuns(w)
	line.LearnProbe(5000, 6000, 3) // beyond the high watermark, which is 3000
	failed := w.router.learn(context.Background(), &share{}, []probe{{at: at{"mirror", 0}, line: line, logical: 5500}})
	if physical, looks := line.ToPhysical(5500), w.router.looks.Load(); failed != nil || physical != 3000 || looks > 4 {
		t.Errorf("read from %d after %d looks: %v", physical, looks, failed)
	}
}
