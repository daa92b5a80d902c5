package replicator

import (
	"context"

	"klink/replicator/core"

	"github.com/twmb/franz-go/pkg/kgo"
)

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
