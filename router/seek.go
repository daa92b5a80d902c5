package router

import (
	"context"
	"fmt"
	"sync/atomic"

	"klink/protocol"
	"klink/protocol/timeline"

	"golang.org/x/sync/errgroup"
)

// This file finds offsets that a timeline does not know by heart: those of a mirror with holes,
// where nobody has been for a while. One batch is read at a time, which tells where to look next;
// that is done off the event loop.

// at names a partition of a mirror.
type at struct {
	topic     string
	partition int32
}

// probe is one look into the log of a partition.
type probe struct {
	at
	line *timeline.Partition
	// physical offset of the batch to read, or timeline.ProbeEnd; unless logical, which asks for
	// this offset.
	physical int64
	logical  int64
}

// probes are what one request or response needs.
type probes struct{ list []probe }

const (
	// maxProbes bounds the looks into one log for one offset; see timeline.FindPhysical for how
	// many are needed.
	maxProbes = 64
	// maxProbing is how many partitions one request looks into at a time.
	maxProbing = 16
	// maxRounds is how often the offsets of a response are looked for: each needs one look, if
	// nothing is forgotten meanwhile.
	maxRounds = 3
)

// watch makes v, a partition of m, one that is looked at only, and collects what it misses.
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

// learn looks into the logs, for the connection with this share. The partitions where that failed
// come back with an error; one that wraps errNoLook says that it was not looked for, or not long
// enough.
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

// distinct leaves out what is in list more than once.
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
		return false, fmt.Errorf("offsets of %s-%d at the destination: %w", p.topic, p.partition, err)
	}
	return fresh, nil
}

// seek looks for a logical offset until it is found, or known to be beyond the end.
//
// A log may have grown since the last look at its end. So only a look that began after the client
// has asked can say that an offset is beyond the end: such an answer makes consumers begin
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

// translated translates a response, whose offsets have to be right, once everything that it takes
// is known. A partition of which something cannot be learned is hidden: its client asks again.
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

// missing is what has to be looked for before a response can be translated. Nothing is changed.
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
