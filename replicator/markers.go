package replicator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"klink/replicator/core"
	"klink/replicator/wire"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	// markerFirstID is the producer id of the marker at logical offset 0; ids go down from there,
	// as a stamp's do.
	markerFirstID = -2
)

// markerRun is a hole of a mirror partition that is filled with control markers, one for each of
// its offsets. Clients skip control batches by themselves, so the log keeps the source's offsets
// for those that read it without klink too.
//
// A marker is stamped like a batch: its producer id is -2 - L. Its epoch is 0, like a stamp without
// flags. Its sequence is -1, which the broker sets; therefore markers must not be written to
// compacted topics.
//
// Its timestamp is the time at which the broker wrote it; WriteTxnMarkers has no field for another
// one. A lookup of an offset by timestamp (ListOffsets) finds control batches too. At the source it
// does as well, but there they have the time of the commit. In a mirror it finds the first marker
// that was written after the requested time, so the offset may be too early, by the time between
// commit and writing; for a backlog that is its whole age. It is never too late. The destination's
// own retention.ms likewise counts from the writing of the last marker of a segment.
type markerRun struct {
	topic     string
	partition int32
	logical   int64 // source offset of the first marker
	count     int64
}

func (r markerRun) name() string { return fmt.Sprintf("%s-%d", r.topic, r.partition) }

// writeMarkers writes markers for runs of distinct partitions that to leads, in one WriteTxnMarkers
// request, and returns one error for each run. Runs together have at most maxRequestMarkers
// markers.
//
// If an error is nil, all markers of the run are in the log and committed. The response does not
// say where: the base offset of the next append, or the log end, has to confirm that. Otherwise any
// of them may be in the log, or none, and the partition reads its log. If the error is unanswered,
// markers may even arrive later.
//
// A run has one request in flight, and nothing else of its partition is appended before it is
// settled. Within a request the broker appends the markers of a partition in order, and each may
// fail by itself.
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

// markersRequest builds the request. The broker keys its answer by producer id, so markers of
// several partitions that have the same id share an entry. The broker appends entry after entry, so
// the entries are in the order of the offsets. Otherwise a partition that shares an entry could get
// a later marker before an earlier one.
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
var errNotAnswered = errors.New("a marker is missing from the response")

// markersAnswer finds the result of each run: nil if all of its markers have code 0, otherwise the
// first error.
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

// tooOld reports whether a request failed because the broker does not list WriteTxnMarkers. In that
// case the client sends nothing, and returns an error without a name.
func tooOld(ctx context.Context, to requester, err error) bool {
	var code *kerr.Error
	if errors.As(err, &code) || ctx.Err() != nil || wire.NeverSent(err) {
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

// refusedMarkers returns the notAligned for markers that the destination refused for good, or nil.
func refusedMarkers(err error, name string) *notAligned {
	return refusedAlign(err, name+": markers for transactions and other holes are refused", "ALTER or CLUSTER_ACTION on the cluster")
}

// Markers are sent to a *kgo.Broker.
var _ requester = (*kgo.Broker)(nil)

// writeMarkers writes the markers of all jobs, in as few requests as maxRequestMarkers allows, and
// delivers every result. It calls answered after each request, before it delivers the results.
func (s *stream) writeMarkers(ctx context.Context, to *kgo.Broker, jobs []appendJob, answered func()) {
	for len(jobs) > 0 {
		n, count := 0, 0
		for n < len(jobs) && (n == 0 || count+int(jobs[n].i.Records) <= core.MaxRequestMarkers) {
			count += int(jobs[n].i.Records)
			n++
		}
		s.writeSome(ctx, to, jobs[:n], answered)
		jobs = jobs[n:]
	}
}

func (s *stream) writeSome(ctx context.Context, to *kgo.Broker, jobs []appendJob, answered func()) {
	runs := make([]markerRun, len(jobs))
	for n, j := range jobs {
		runs[n] = markerRun{topic: j.w.m.topic, partition: j.w.id, logical: j.i.Base, count: int64(j.i.Records)}
	}
	errs := writeMarkers(ctx, to, runs)
	answered()
	for n, err := range errs {
		j := &jobs[n]
		w := j.w
		if err == nil {
			j.done = true
			w.marked()
			continue
		}
		if why := w.refusedMarkers(err, runs[n].name()); why != "" {
			j.done = true
			w.unmarked(why)
			continue
		}
		w.mu.Lock()
		w.delayFetch()
		w.mu.Unlock()
		s.uncertain(j, isUnanswered(err), err)
	}
}

// marked handles markers that were written.
func (w *worker) marked() {
	w.mu.Lock()
	physical, logical := w.core.Phys, w.core.Queue[0].Base
	e := w.core.Marked()
	w.markers.reset()
	w.tellAppended(physical, logical)
	w.apply(e)
	w.mu.Unlock()
	w.wakeFetcher()
}

// refusedMarkers returns why markers cannot be written, "" if another attempt may succeed.
func (w *worker) refusedMarkers(err error, name string) string {
	if no := refusedMarkers(err, name); no != nil {
		return no.Error()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.markers.lost(err) {
		return "markers are refused: " + err.Error()
	}
	return ""
}

// unmarked handles markers that were refused for good: the partition goes on with a shift.
func (w *worker) unmarked(why string) {
	w.m.r.log.Warn("cannot fill the holes of a mirror partition: it continues with a shift", "topic", w.m.topic, "partition", w.id, "reason", why)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.noAlign = why
	w.apply(w.core.Unmarked(why))
}
