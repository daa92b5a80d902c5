package replicator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	// maxHoleMarkers is the largest hole that is filled with markers, in offsets.
	maxHoleMarkers = 10_000
	// maxRequestMarkers bounds the markers in one request, over all partitions: a broker appends
	// them one by one.
	maxRequestMarkers = 1000
	// markerFirstID is the producer id of the marker at logical offset 0; ids go down from there,
	// as a stamp's do.
	markerFirstID = -2
)

// markerRun is a hole of a mirror partition that is filled with control markers, one for each of
// its offsets. Clients skip control batches by themselves, so the log keeps the source's offsets
// for those that read it without klink too.
//
// A marker is stamped as a batch is: its producer id is -2 - L. Its epoch is 0, as a stamp without
// flags; its sequence is -1, which the broker sets, so that markers must not be written to
// compacted topics.
//
// Its timestamp is the broker's time of writing; WriteTxnMarkers has no field for another one. The
// lookup of an offset by timestamp (ListOffsets) finds control batches too, at the source as well,
// but there they have the time of the commit. In a mirror it finds the first marker that was
// written after that time, and may so begin too early: by the time that lay between commit and
// writing, which for a backlog is all its age. It never begins too late. The destination's own
// retention.ms likewise counts from the writing of the last marker of a segment.
type markerRun struct {
	topic     string
	partition int32
	logical   int64 // source offset of the first marker
	count     int64
}

func (r markerRun) name() string { return fmt.Sprintf("%s-%d", r.topic, r.partition) }

// writeMarkers writes markers for runs of distinct partitions that to leads, in one WriteTxnMarkers
// request, and gives one error for each run. Nil: all its markers are in the log and committed;
// where, the response does not say: the base offset of the next append, or the log end, has to
// confirm it. Otherwise any of them may be in the log, or none: the partition reads its log. If the
// error is unanswered they may even come later. Runs together have at most maxRequestMarkers
// markers.
//
// A run has one request in flight, and the next thing is not appended before it is settled. Within
// a request the broker appends the markers of a partition in order, each of which may fail by
// itself.
func writeMarkers(ctx context.Context, to requester, runs []markerRun) []error {
	errs := make([]error, len(runs))
	fail := func(err error) []error {
		for i := range errs {
			errs[i] = err
		}
		return errs
	}
	kresp, err := to.Request(ctx, markersRequest(runs))
	switch {
	case err != nil && tooOld(ctx, to, err):
		return fail(fmt.Errorf("%w: WriteTxnMarkers", kerr.UnsupportedVersion))
	case err != nil:
		return fail(asUnanswered(err))
	}
	markersAnswer(kresp.(*kmsg.WriteTxnMarkersResponse), runs, errs)
	return errs
}

// markersRequest builds the request. Markers of several partitions that happen to have the same id
// share an entry: the broker keys its answer by producer id. It appends entry after entry, so they
// are in the order of the offsets: whoever shares an entry with others must not get a later marker
// before an earlier one.
func markersRequest(runs []markerRun) *kmsg.WriteTxnMarkersRequest {
	req := kmsg.NewPtrWriteTxnMarkersRequest()
	entry := map[int64]int{}
	for _, r := range runs {
		for n := range r.count {
			id := markerFirstID - (r.logical + n)
			at, ok := entry[id]
			if !ok {
				at = len(req.Markers)
				entry[id] = at
				m := kmsg.NewWriteTxnMarkersRequestMarker()
				m.ProducerID, m.ProducerEpoch, m.Committed, m.CoordinatorEpoch = id, 0, true, 0
				req.Markers = append(req.Markers, m)
			}
			addPartition(&req.Markers[at], r.topic, r.partition)
		}
	}
	slices.SortFunc(req.Markers, func(a, b kmsg.WriteTxnMarkersRequestMarker) int { return cmp.Compare(b.ProducerID, a.ProducerID) })
	return req
}

func addPartition(m *kmsg.WriteTxnMarkersRequestMarker, topic string, partition int32) {
	for i := range m.Topics {
		if m.Topics[i].Topic == topic {
			m.Topics[i].Partitions = append(m.Topics[i].Partitions, partition)
			return
		}
	}
	t := kmsg.NewWriteTxnMarkersRequestMarkerTopic()
	t.Topic, t.Partitions = topic, []int32{partition}
	m.Topics = append(m.Topics, t)
}

// errNotAnswered: a response leaves out a marker.
var errNotAnswered = errors.New("the response leaves a marker out")

// markersAnswer finds the result of each run: nil if all of its markers have code 0, otherwise the
// first other one.
func markersAnswer(resp *kmsg.WriteTxnMarkersResponse, runs []markerRun, errs []error) {
	type key struct {
		topic     string
		partition int32
	}
	index := make(map[key]int, len(runs))
	for i, r := range runs {
		index[key{r.topic, r.partition}] = i
	}
	done := make([]int64, len(runs))
	for _, m := range resp.Markers {
		for _, t := range m.Topics {
			for _, p := range t.Partitions {
				i, ok := index[key{t.Topic, p.Partition}]
				if !ok {
					continue
				}
				if n := markerFirstID - m.ProducerID - runs[i].logical; n < 0 || n >= runs[i].count {
					continue
				}
				done[i]++
				if err := kerr.ErrorForCode(p.ErrorCode); err != nil && errs[i] == nil {
					errs[i] = fmt.Errorf("markers of %s: %w", runs[i].name(), err)
				}
			}
		}
	}
	for i := range runs {
		if errs[i] == nil && done[i] != runs[i].count {
			errs[i] = fmt.Errorf("%w of %s", errNotAnswered, runs[i].name())
		}
	}
}

// tooOld says whether a request failed because the broker does not list WriteTxnMarkers: the client
// then sends nothing, and has no name for it.
func tooOld(ctx context.Context, to requester, err error) bool {
	var code *kerr.Error
	if errors.As(err, &code) || ctx.Err() != nil || neverSent(err) {
		return false
	}
	req := kmsg.NewPtrApiVersionsRequest()
	req.ClientSoftwareName, req.ClientSoftwareVersion = "klink", "1" // empty ones are refused
	kresp, err := to.Request(ctx, req)
	if err != nil {
		return false
	}
	resp, ok := kresp.(*kmsg.ApiVersionsResponse)
	if !ok || resp.ErrorCode != 0 {
		return false
	}
	for _, k := range resp.ApiKeys {
		if k.ApiKey == int16(kmsg.WriteTxnMarkers) {
			return false
		}
	}
	return true
}

// refusedMarkers is the notAligned of markers that the destination refused for good, or nil.
func refusedMarkers(err error, name string) *notAligned {
	return refusedAlign(err, name+": markers for transactions and other holes are refused", "ALTER or CLUSTER_ACTION on the cluster")
}

// A *kgo.Broker is what markers are sent to.
var _ requester = (*kgo.Broker)(nil)
