package replicator

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"klink/internal/kafkatest"
	"klink/replicator/core"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

// TestMarkersEmbedded: the embedded cluster writes markers. One that does not list the request
// reports that, and writes nothing.
func TestMarkersEmbedded(t *testing.T) {
	for _, lists := range []bool{true, false} {
		versions := kversion.Stable()
		if !lists {
			versions.SetMaxKeyVersion(int16(kmsg.WriteTxnMarkers), -1)
		}
		c := kafkatest.Embedded(t, 1, kfake.MaxVersions(versions))
		seeds := kgo.SeedBrokers(c.ListenAddrs()...)
		a := newAlignable(t, kafkatest.NewClient(t, seeds, kgo.MetadataMinAge(20*time.Millisecond)), "t", nil, seeds)
		err := a.fill(0, 3)
		if lists {
			if err != nil {
				t.Error(err)
			}
			a.wantEnds(0, 3)
			continue
		}
		wantNotAligned(t, err, core.AlignUnsupported, "t-0", "WriteTxnMarkers")
		a.wantEnds(0, 0)
	}
}

// TestMarkersOfOverlappingRuns: a broker writes the entries of a request one after the other, and
// partitions share entries. Each partition still gets its markers in the order of its offsets.
func TestMarkersOfOverlappingRuns(t *testing.T) {
	runs := []markerRun{
		{topic: "a", partition: 1, logical: 95, count: 3},
		{topic: "a", partition: 2, logical: 94, count: 2},
		{topic: "b", partition: 1, logical: 93, count: 9},
		{topic: "a", partition: 0, logical: 0, count: 1},
	}
	written := map[string][]int64{}
	for _, m := range markersRequest(runs).Markers {
		for _, mt := range m.Topics {
			for _, p := range mt.Partitions {
				name := fmt.Sprintf("%s-%d", mt.Topic, p)
				written[name] = append(written[name], markerFirstID-m.ProducerID)
			}
		}
	}
	for _, r := range runs {
		got := written[r.name()]
		if len(got) != int(r.count) {
			t.Fatalf("%s gets the markers %v", r.name(), got)
		}
		for i, logical := range got {
			if logical != r.logical+int64(i) {
				t.Errorf("%s gets the markers %v, want %d from %d on", r.name(), got, r.count, r.logical)
				break
			}
		}
	}
}

// TestMarkersRequest: partitions whose markers have the same id share an entry, and the answer is
// found by id and partition.
func TestMarkersRequest(t *testing.T) {
	runs := []markerRun{
		{topic: "a", partition: 0, logical: 10, count: 3},
		{topic: "a", partition: 1, logical: 12, count: 1},
		{topic: "b", partition: 0, logical: 12, count: 1},
		{topic: "b", partition: 1, logical: 90, count: 1},
	}
	req := markersRequest(runs)
	var got []string
	resp := kmsg.NewPtrWriteTxnMarkersResponse()
	for _, m := range req.Markers {
		if m.ProducerEpoch != 0 || m.CoordinatorEpoch != 0 || !m.Committed {
			t.Errorf("marker %+v", m)
		}
		rm := kmsg.NewWriteTxnMarkersResponseMarker()
		rm.ProducerID = m.ProducerID
		for _, mt := range m.Topics {
			got = append(got, fmt.Sprintf("%d %s %v", m.ProducerID, mt.Topic, mt.Partitions))
			rt := kmsg.NewWriteTxnMarkersResponseMarkerTopic()
			rt.Topic = mt.Topic
			for _, p := range mt.Partitions {
				rp := kmsg.NewWriteTxnMarkersResponseMarkerTopicPartition()
				rp.Partition = p
				if m.ProducerID == -14 && mt.Topic == "a" && p == 0 {
					rp.ErrorCode = kerr.NotEnoughReplicas.Code // the last of the first run
				}
				rt.Partitions = append(rt.Partitions, rp)
			}
			rm.Topics = append(rm.Topics, rt)
		}
		if m.ProducerID != -92 {
			resp.Markers = append(resp.Markers, rm) // the last run is left out
		}
	}
	want := "[-12 a [0] -13 a [0] -14 a [0 1] -14 b [0] -92 b [1]]"
	if fmt.Sprint(got) != want {
		t.Errorf("markers %v, want %s", got, want)
	}
	errs := make([]error, len(runs))
	markersAnswer(resp, runs, errs)
	if !errors.Is(errs[0], kerr.NotEnoughReplicas) || errs[1] != nil || errs[2] != nil || !errors.Is(errs[3], errNotAnswered) {
		t.Errorf("results %v", errs)
	}
}
