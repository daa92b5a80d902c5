package router

import (
	"context"
	"fmt"

	"klink/protocol"
	"klink/protocol/timeline"

	"golang.org/x/sync/errgroup"
)

// This file finds offsets that a timeline does not know by heart: those of a mirror with holes, where nobody has been for a
// while. One batch is read at a time, which tells where to look next; that is done off the event loop.

// at names a partition of a mirror.
type at struct {
	topic     string
	partition int32
}

// probe is one look into the log of a partition.
type probe struct {
	at
	line *timeline.Partition
	// physical offset of the batch to read, or timeline.ProbeEnd; unless logical, which asks for this offset.
	physical int64
	logical  int64
}

// probes are what one request or response needs.
type probes struct{ list []probe }

const (
	// maxProbes bounds the looks into one log for one offset; see timeline.FindPhysical for how many are needed.
	maxProbes = 40
	// maxProbing is how many partitions one request looks into at a time.
	maxProbing = 16
	// maxRounds is how often the offsets of a response are looked for: each needs one look, if nothing is forgotten
	// meanwhile.
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

// learn looks into the logs. The partitions where that failed come back with the last error.
func (r *Router) learn(ctx context.Context, list []probe) (failed map[at]bool, err error) {
	errs := make([]error, len(list))
	var g errgroup.Group
	g.SetLimit(maxProbing)
	for i, p := range list {
		g.Go(func() error {
			if p.logical >= 0 {
				errs[i] = r.seek(ctx, p)
			} else {
				errs[i] = r.look(ctx, p, p.physical)
			}
			return nil
		})
	}
	_ = g.Wait()
	for i, e := range errs {
		if e != nil {
			if failed == nil {
				failed = map[at]bool{}
			}
			failed[list[i].at], err = true, e
		}
	}
	return failed, err
}

func (r *Router) look(ctx context.Context, p probe, physical int64) error {
	r.looks.Add(1)
	if err := r.facts.LearnOffset(ctx, p.topic, p.partition, p.line, physical); err != nil {
		return fmt.Errorf("offsets of %s-%d at the destination: %w", p.topic, p.partition, err)
	}
	return nil
}

// seek looks for a logical offset until it is found, or known to be beyond the end.
func (r *Router) seek(ctx context.Context, p probe) error {
	end := false
	for tries := range maxProbes {
		_, physical, ok := p.line.FindPhysical(p.logical, tries)
		if ok || physical == timeline.ProbeEnd && end {
			return nil
		}
		end = end || physical == timeline.ProbeEnd
		if err := r.look(ctx, p, physical); err != nil {
			return err
		}
	}
	return nil
}

// translated translates a response, whose offsets have to be right, once everything that it takes is known. A partition of
// which something cannot be learned is hidden: its client asks again.
func (s *session) translated(c *coordinates, h protocol.RequestHeader, frame []byte, translate translation) Decision {
	missing, err := c.missing(h, frame, translate)
	if err == nil && missing != nil {
		r := s.router
		return Decision{Action: Run, Run: func(ctx context.Context) Decision {
			for round := 0; err == nil && missing != nil && round < maxRounds; round++ {
				var failed map[at]bool
				failed, _ = r.learn(ctx, missing)
				for p := range failed {
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
