package replicator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"klink/protocol/batch"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	// maxHoleMarkers is the largest hole that is filled with markers, in offsets.
	maxHoleMarkers = 10_000
	// maxRequestMarkers bounds the markers in one request, over all partitions: a broker appends them one by one.
	maxRequestMarkers = 1000
	// markerFirstID is the producer id of the marker at logical offset 0; ids go down from there, as a stamp's do.
	markerFirstID = -2
)

// markerRun is a hole of a mirror partition that is filled with control markers, one for each of its offsets. Clients skip
// control batches by themselves, so the log keeps the source's offsets for those that read it without klink too.
//
// A marker is stamped as a batch is: its producer id is -2 - L. Its epoch is 0, as a stamp without flags; its sequence is -1,
// which the broker sets, so that markers must not be written to compacted topics.
//
// Its timestamp is the broker's time of writing; WriteTxnMarkers has no field for another one. The lookup of an offset by
// timestamp (ListOffsets) finds control batches too, at the source as well, but there they have the time of the commit. In a
// mirror it finds the first marker that was written after that time, and may so begin too early: by the time that lay between
// commit and writing, which for a backlog is all its age. It never begins too late. The destination's own retention.ms
// likewise counts from the writing of the last marker of a segment.
type markerRun struct {
	topic     string
	partition int32
	logical   int64 // source offset of the first marker
	count     int64
	physical  int64 // where the first marker must come to stand
}

func (r markerRun) name() string { return fmt.Sprintf("%s-%d", r.topic, r.partition) }

// after is what is left of a run when n markers are written.
func (r markerRun) after(n int64) markerRun {
	r.logical, r.physical, r.count = r.logical+n, r.physical+n, r.count-n
	return r
}

// head is the first n markers of the run.
func (r markerRun) head(n int64) markerRun {
	r.count = min(r.count, n)
	return r
}

// tooLarge says why a hole is not filled; nil if it can be.
func (r markerRun) tooLarge() *notAligned {
	if r.count <= maxHoleMarkers {
		return nil
	}
	return &notAligned{reason: alignHoleTooLarge, message: fmt.Sprintf(
		"%s: a hole of %d offsets begins at source offset %d; at most %d are filled with markers", r.name(), r.count, r.logical, maxHoleMarkers)}
}

// writeMarkers writes markers for runs of distinct partitions that to leads, in one WriteTxnMarkers request, and gives one
// error for each run. Nil: all its markers are in the log and committed; where, the response does not say: the base offset
// of the next append, or the log end, has to confirm it. Otherwise any of them may be in the log, or none, and settleMarkers
// tells; if the error is unanswered they may even come later. Runs together have at most maxRequestMarkers markers.
//
// A run has one request in flight, and the next thing is not appended before it is settled. Within a request the broker
// appends the markers of a partition in order, each of which may fail by itself.
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

// markersRequest builds the request. Markers of several partitions that happen to have the same id share an entry: the
// broker keys its answer by producer id. It appends entry after entry, so they are in the order of the offsets: whoever shares
// an entry with others must not get a later marker before an earlier one.
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

// markersAnswer finds the result of each run: nil if all of its markers have code 0, otherwise the first other one.
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

// tooOld says whether a request failed because the broker does not list WriteTxnMarkers: the client then sends nothing, and
// has no name for it.
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

// surplus says that the physical offsets [from, to) of a partition hold batches that do not belong there: markers that were
// written twice, by a request that was believed lost, or somebody else's. They have to be hidden.
type surplus struct {
	name     string
	from, to int64
}

func (s *surplus) Error() string {
	return fmt.Sprintf("%s: offsets %d to %d at the destination were written twice or by somebody else while markers were written", s.name, s.from, s.to-1)
}

// markerLog is what filling a hole needs of a log; mirrorLog is one.
type markerLog interface {
	ends(ctx context.Context) (start, end int64, err error)
	walk(ctx context.Context, from, to int64, see func(batch.Header) error) error
	writeMarkers(ctx context.Context, run markerRun) error
}

// settleMarkers reads how many markers of a run are in the log. The error is a *surplus if the log has more than them, a
// *notAligned if one in the middle is missing (then written counts what stands in the log, and the rest of the hole cannot
// be filled), or one of reading. The end of the log must not move: see unanswered.
func settleMarkers(ctx context.Context, log markerLog, run markerRun, end int64) (written int64, err error) {
	name := run.name()
	if end < run.physical {
		return 0, fmt.Errorf("%w: that of %s ends at offset %d, before %d", errLogShrank, name, end, run.physical)
	}
	next := run.logical // the lowest stamp that may come
	at := run.physical
	err = log.walk(ctx, run.physical, end, func(h batch.Header) error {
		logical, _, _, ok := batch.ReadStamp(h)
		if !ok || !h.Control() || logical < next || logical >= run.logical+run.count || h.BaseOffset() != at {
			return &surplus{name, at, end}
		}
		next, at = logical+1, h.NextOffset()
		return nil
	})
	written = at - run.physical
	if err == nil && at != end {
		err = fmt.Errorf("the log of %s was read up to offset %d of %d", name, at, end)
	}
	if err == nil && next != run.logical+written {
		err = &notAligned{reason: alignMarkerLost, message: fmt.Sprintf(
			"%s: of the markers for source offsets %d to %d one in the middle was not written", name, run.logical, next-1)}
	}
	return written, err
}

// errLogShrank: the destination's log ends before what was confirmed.
var errLogShrank = errors.New("the destination's log lost records")

// filling fills holes, one after the other, and waits for each; for partitions of which every append is awaited anyway. Many
// partitions at once are served better by writeMarkers.
type filling struct {
	log   markerLog
	grace time.Duration // for requests without an answer
	wait  backoff
}

// fill writes the markers of a run and confirms by the log end that they, and nothing else, were appended. written is how
// many physical offsets they take, run.count if err is nil.
//
// The error is a *notAligned when they cannot be written: the partition goes on at run.physical + written with the source
// offset behind the hole, and a shift. It is a *surplus when something else was appended as well, or wraps errLogShrank when
// records are gone: both are for the partition to resolve by resuming from its log. Otherwise it is ctx's: a run that was
// cut off is not taken up again as such, but read from the log, whose last batch says by its stamp which offset comes next.
func (f *filling) fill(ctx context.Context, run markerRun) (written int64, err error) {
	if no := run.tooLarge(); no != nil {
		return 0, no
	}
	var patience patience
	for written < run.count {
		part := run.after(written).head(maxRequestMarkers)
		sendErr := f.log.writeMarkers(ctx, part)
		end, err := f.end(ctx, isUnanswered(sendErr))
		if err != nil {
			return written, err
		}
		n := part.count
		if sendErr != nil || end != part.physical+part.count {
			if n, err = f.settle(ctx, part, end); err != nil {
				return written + n, err
			}
		}
		written += n
		if sendErr == nil || n == part.count {
			if sendErr == nil && n < part.count {
				return written, fmt.Errorf("%w: markers of %s were confirmed, but are not in the log", errLogShrank, run.name())
			}
			f.wait.reset()
			patience.reset()
			continue
		}
		if refused := refusedMarkers(sendErr, run.name()); refused != nil {
			return written, refused
		}
		if patience.lost(sendErr) {
			return written, &notAligned{reason: alignRefused, message: run.name() + ": markers are refused", cause: sendErr}
		}
		if !sleep(ctx, f.wait.next()) {
			return written, ctx.Err()
		}
	}
	return written, nil
}

// refusedMarkers is the notAligned of markers that the destination refused for good, or nil.
func refusedMarkers(err error, name string) *notAligned {
	return refusedAlign(err, name+": markers for transactions and other holes are refused", "ALTER or CLUSTER_ACTION on the cluster")
}

// settle is settleMarkers until the log could be read.
func (f *filling) settle(ctx context.Context, run markerRun, end int64) (int64, error) {
	for {
		n, err := settleMarkers(ctx, f.log, run, end)
		var more *surplus
		var lost *notAligned
		if err == nil || errors.As(err, &more) || errors.As(err, &lost) || errors.Is(err, errLogShrank) {
			return n, err
		}
		if !sleep(ctx, f.wait.next()) {
			return 0, ctx.Err()
		}
	}
}

// end reads the log end until it is known; with lingering, until it has stayed the same for f.grace.
func (f *filling) end(ctx context.Context, lingering bool) (int64, error) {
	quietEnd, quietSince := int64(-1), time.Time{}
	for {
		_, end, err := f.log.ends(ctx)
		if err == nil {
			if end != quietEnd {
				quietEnd, quietSince = end, time.Now()
				f.wait.reset()
			}
			if !lingering || time.Since(quietSince) >= f.grace {
				return end, nil
			}
		}
		if !sleep(ctx, f.wait.next()) {
			return 0, ctx.Err()
		}
	}
}

// A *kgo.Broker is what markers are sent to.
var _ requester = (*kgo.Broker)(nil)
