package router

import (
	"context"

	"klink/protocol"

	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sync/errgroup"
)

// ListOffsets: v0-11
//
// Behavior: offsets of mirrors in the response are made logical. The request asks by timestamp and
// stays unchanged. klink first checks an offset that the broker found by timestamp in a mirror: it
// may be that of a marker which klink wrote, with the time of that write, and then the record comes
// later. See Facts.SeekTime.
func init() { register(int16(kmsg.ListOffsets), (*session).listOffsets) }

func (s *session) listOffsets(h protocol.RequestHeader, frame []byte) Decision {
	asked := s.coordinates()
	if !asked.then.Complete {
		return s.awaitMirrorsOrClose()
	}
	times, err := asked.times(h, frame)
	if err != nil {
		return closeMalformed(h, err)
	}
	h = kept(h)
	return Decision{Action: Forward, Frame: frame, Whole: func(frame []byte) Decision {
		if len(times) > 0 {
			found, err := protocol.FoundOffsets(frame, h, &asked)
			if err != nil {
				return closeResponse(h, err)
			}
			if len(found) > 0 {
				return Decision{Action: Run, Run: func(ctx context.Context) Decision {
					s.router.seekTimes(ctx, &s.share, &asked, found, times)
					return s.translated(&asked, h, frame, protocol.TranslateListOffsets)
				}}
			}
		}
		return s.translated(&asked, h, frame, protocol.TranslateListOffsets)
	}}
}

// times returns the timestamps by which a ListOffsets request looks for records of mirrors.
func (c *coordinates) times(h protocol.RequestHeader, frame []byte) (map[at]int64, error) {
	if len(c.then.Mirrors) == 0 || h.Version == 0 {
		return nil, nil
	}
	var times map[at]int64
	l := protocol.ReadListOffsetsRequest(frame, h)
	for l.Topic() {
		m := c.then.Mirrors[string(l.Name)]
		if m == nil {
			continue
		}
		for l.Partition() {
			if l.Timestamp < 0 {
				continue
			}
			if times == nil {
				times = map[at]int64{}
			}
			times[at{m.Topic, l.Index}] = l.Timestamp
		}
	}
	return times, l.Err()
}

// maxTimeSeeks bounds the partitions in which klink looks for a timestamp at the same time, for one
// request. Each uses about two megabytes.
const maxTimeSeeks = 4

// seekTimes corrects the offsets that the broker found by timestamp. If this fails for a partition,
// the partition is hidden, and its client asks again.
func (r *Router) seekTimes(ctx context.Context, s *share, c *coordinates, found []protocol.FoundOffset, times map[at]int64) {
	errs := make([]error, len(found))
	var g errgroup.Group
	g.SetLimit(maxTimeSeeks)
	for i, f := range found {
		timestamp, asked := times[at{f.Topic, f.Partition}]
		if !asked {
			continue
		}
		g.Go(func() error {
			errs[i] = r.desk.spend(ctx, s, func(ctx context.Context) error {
				r.looks.Add(1)
				offset, ts, err := r.facts.SeekTime(ctx, f.Topic, f.Partition, f.View.Timeline, f.Offset(), timestamp)
				if err == nil && offset != f.Offset() {
					f.Set(offset, ts)
				}
				return err
			})
			return nil
		})
	}
	_ = g.Wait()
	for i, f := range found {
		if errs[i] != nil {
			c.fail(at{f.Topic, f.Partition})
		}
	}
}

// translateResponse forwards a request, and translates the offsets of its response in place. If the
// timeline of a mirror does not know an offset, the response waits while klink looks for it.
func (s *session) translateResponse(h protocol.RequestHeader, frame []byte, translate translation) Decision {
	asked := s.coordinates()
	if !asked.then.Complete {
		return s.awaitMirrorsOrClose()
	}
	h = kept(h)
	return Decision{Action: Forward, Frame: frame, Whole: func(frame []byte) Decision {
		return s.translated(&asked, h, frame, translate)
	}}
}
