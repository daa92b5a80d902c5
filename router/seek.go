package router

import (
	"context"
	"fmt"
	"sync/atomic"

	"klink/protocol"
	"klink/protocol/timeline"

	"golang.org/x/sync/errgroup"
)

// This file finds offsets that a timeline does not hold in memory: those of a mirror with holes, in
// a part of the log that nobody has read for a while. It reads one batch at a time, and each batch
// tells where to read next. This happens off the event loop.

// at names a partition of a mirror.
type at struct {
	topic     string
	partition int32
}

// probe is one look into the log of a partition.
type probe struct {
	at
	line *timeline.Partition
	// If logical is negative, physical is the offset of the batch to read, or timeline.ProbeEnd.
	// Otherwise the probe looks for the offset logical.
	physical int64
	logical  int64
}

// probes collects the looks that one request or response needs.
type probes struct{ list []probe }

const (
	// maxProbes bounds the looks into one log for one offset; see timeline.FindPhysical for how
	// many are needed.
	maxProbes = 64
	// maxProbing is how many partitions klink looks into at a time for one request.
	maxProbing = 16
	// maxRounds is how often klink looks for the offsets of a response. Each offset needs one look,
	// unless the timeline forgets something in between.
	maxRounds = 3
)

// watch makes v, a view of a partition of m, read-only: it collects the offsets that the timeline
// cannot translate.
func (p *probes) watch(v *protocol.View, m *Mirror, partition int32) {
	v.Dry = true
	if v.Timeline != nil && !v.Timeline.OneRun() {
		v.Misses = &watcher{p, probe{at: at{m.Topic, partition}, line: v.Timeline, logical: -1}}
	}
}

type watcher struct {
	probes *probes
	probe  probe
}

// Miss implements protocol.Misses.
func (w *watcher) Miss(physical int64) {
	w.probe.physical = physical
	w.probes.list = append(w.probes.list, w.probe)
}

// learn looks into the logs on behalf of the connection with this share. It returns an error for
// each partition where that failed. An error that wraps errNoLook means that klink did not look
// there, or not for long enough.
func (r *Router) learn(ctx context.Context, s *share, list []probe) map[at]error {
	list = distinct(list)
	errs := make([]error, len(list))
	var next atomic.Int64
	var g errgroup.Group
	for range min(maxProbing, len(list)) {
		g.Go(func() error {
			for i := next.Add(1) - 1; i < int64(len(list)); i = next.Add(1) - 1 {
				if p := list[i]; p.logical >= 0 {
					errs[i] = r.seek(ctx, s, p)
				} else {
					_, errs[i] = r.look(ctx, s, p, p.physical)
				}
			}
			return nil
		})
	}
	_ = g.Wait()
	var failed map[at]error
	for i, err := range errs {
		if err != nil {
			if failed == nil {
				failed = map[at]error{}
			}
			failed[list[i].at] = err
		}
	}
	return failed
}

// distinct removes duplicates. It reuses list.
func distinct(list []probe) []probe {
	if len(list) < 2 {
		return list
	}
	seen := make(map[probe]struct{}, len(list))
	kept := list[:0]
	for _, p := range list {
		if _, ok := seen[p]; !ok {
			seen[p] = struct{}{}
			kept = append(kept, p)
		}
	}
	return kept
}

func (r *Router) look(ctx context.Context, s *share, p probe, physical int64) (fresh bool, err error) {
	fresh, err = r.desk.look(ctx, s, lookKey{p.line, physical}, func(ctx context.Context) error {
		r.looks.Add(1)
		return r.facts.LearnOffset(ctx, p.topic, p.partition, p.line, physical)
	})
	if err != nil {
		return false, fmt.Errorf("could not find the offsets of %s-%d at the destination: %w", p.topic, p.partition, err)
	}
	return fresh, nil
}

// seek looks for a logical offset until it is found, or known to be beyond the end.
//
// A log may have grown since the last look at its end. So only a look that began after the client's
// request may decide that an offset is beyond the end: that answer makes a consumer start
// elsewhere.
func (r *Router) seek(ctx context.Context, s *share, p probe) error {
	end := false
	for tries := range maxProbes {
		_, physical, ok := p.line.FindPhysical(p.logical, tries)
		if ok || physical == timeline.ProbeEnd && end {
			return nil
		}
		fresh, err := r.look(ctx, s, p, physical)
		switch {
		case err != nil:
			return err
		case physical != timeline.ProbeEnd:
			continue
		case fresh:
			end = true
			continue
		}
		if _, physical, ok := p.line.FindPhysical(p.logical, tries); !ok && physical == timeline.ProbeEnd {
			return errNoLook
		}
	}
	return nil
}

// translated translates a response whose offsets must be exact, once the timelines know all of
// them. If klink cannot learn an offset, it hides the partition, and the client asks again.
func (s *session) translated(c *coordinates, h protocol.RequestHeader, frame []byte, translate translation) Decision {
	missing, err := c.missing(h, frame, translate)
	if err == nil && missing != nil {
		r := s.router
		return Decision{Action: Run, Run: func(ctx context.Context) Decision {
			for round := 0; err == nil && missing != nil && round < maxRounds; round++ {
				for p := range r.learn(ctx, &s.share, missing) {
					c.fail(p)
				}
				missing, err = c.missing(h, frame, translate)
			}
			for _, p := range missing {
				c.fail(p.at)
			}
			return c.translate(h, frame, translate, err)
		}}
	}
	return c.translate(h, frame, translate, err)
}

// translation translates the offsets of a response in place.
type translation func([]byte, protocol.RequestHeader, protocol.Resolver) error

func (c *coordinates) translate(h protocol.RequestHeader, frame []byte, translate translation, err error) Decision {
	if err == nil {
		err = translate(frame, h, c)
	}
	if err != nil {
		return closeResponse(h, err)
	}
	return Decision{Action: Answer, Frame: frame}
}

// missing returns what klink must look for before it can translate a response. It changes nothing.
func (c *coordinates) missing(h protocol.RequestHeader, frame []byte, translate translation) ([]probe, error) {
	var p probes
	c.dry = &p
	err := translate(frame, h, c)
	c.dry = nil
	return p.list, err
}

func (c *coordinates) fail(p at) {
	if c.failed == nil {
		c.failed = map[at]bool{}
	}
	c.failed[p] = true
}
