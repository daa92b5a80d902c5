package admin

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"klink/admin/model"
	"klink/admin/store"
	"klink/protocol"
	"klink/protocol/linkapi"

	"github.com/twmb/franz-go/pkg/kerr"
)

// A promotion is in the mirror's record, with its deadline, as soon as a client asks for it. So it
// outlives that client, and a restart of klink. The replicator of the mirror's owner finds out when
// the mirror has everything. Every instance cancels promotions whose time is over. A request for a
// promotion that is under way joins it.

// promoteGrace is how long after its deadline a promotion is left to the request that began it.
// That request cancels it itself and can tell its client why.
const promoteGrace = 500 * time.Millisecond

// promoteRetry is the pause after which a failed cancellation is tried again.
const promoteRetry = time.Second

// cancelPromotions cancels promotions whose request has run out of time, unless another request has
// given them more.
func (s *Service) cancelPromotions(mirrors []linkapi.AlterMirror, which []int, p model.Promotion) {
	ctx, cancel := context.WithTimeout(s.ctx, 10*time.Second)
	defer cancel()
	var topics []string
	for _, i := range which {
		if mirrors[i].Op == linkapi.MirrorPromote {
			topics = append(topics, mirrors[i].Topic)
		}
	}
	if err := s.takeBack(ctx, topics, p.DeadlineMs); err != nil {
		s.log.Warn("could not cancel promotions that have timed out, will retry", "topics", len(topics), "error", err)
	}
}

// takeBack cancels the promotions of mirrors whose deadline has come.
func (s *Service) takeBack(ctx context.Context, topics []string, nowMs int64) error {
	if len(topics) == 0 {
		return nil
	}
	return s.update(ctx, func(tx *store.Tx) error {
		for _, topic := range topics {
			m, err := tx.Mirror(topic)
			if err != nil || m == nil {
				continue // it cannot be promoted any more
			}
			in := model.MirrorInput{Kind: model.InputPromoteCancelled, Promotion: model.Promotion{ID: m.Status().Promotion.ID, DeadlineMs: nowMs}, Link: linkStatusOf(tx, m.Link)}
			if err := moveMirror(tx, topic, m, in, s.cfg.Now()); err != nil {
				return err
			}
		}
		return nil
	})
}

// expirePromotions runs until ctx ends, and cancels promotions whose time is over.
func (s *Service) expirePromotions(ctx context.Context) {
	changes, end := s.Subscribe()
	defer end()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-changes:
		case <-timer.C:
		}
		now := s.cfg.Now()
		var due []string
		var next time.Time
		for topic, m := range s.State().Mirrors {
			switch {
			case m.Promotion == "":
			case !now.Before(m.PromotionDeadline.Add(promoteGrace)):
				due = append(due, topic)
			case next.IsZero() || m.PromotionDeadline.Before(next):
				next = m.PromotionDeadline
			}
		}
		wait := time.Hour
		if !next.IsZero() {
			wait = next.Add(promoteGrace).Sub(now)
		}
		if len(due) > 0 {
			slices.Sort(due)
			asking, cancel := context.WithTimeout(ctx, 10*time.Second)
			err := s.takeBack(asking, due, now.UnixMilli())
			cancel()
			if err == nil {
				s.log.Info("cancelled promotions that have timed out", "topics", len(due), "first", due[0])
			} else {
				s.log.Warn("could not cancel promotions that have timed out, will retry", "topics", len(due), "error", err)
				wait = promoteRetry
			}
		}
		timer.Reset(wait)
	}
}

// promoteTimedOut returns the error for a promotion that was cancelled because its time was over.
func (s *Service) promoteTimedOut(m *model.Mirror) *protocol.Error {
	return protocol.Errorf(kerr.RequestTimedOut, "mirror topic '%s' was not promoted in the time allowed, and is %s again: %s; stop the topic's producers at the source and promote it again, or fail it over, which leaves behind records that are not mirrored yet",
		m.Topic, m.State, s.progress(m))
}

// progress says, for people, what the promotion of a mirror waits for.
func (s *Service) progress(m *model.Mirror) string {
	switch m.State {
	case model.MirrorLinkPaused:
		return "its link is paused"
	case model.MirrorSourceUnavailable:
		return fmt.Sprintf("it cannot continue (%s): %s", m.Error, m.ErrorMessage)
	case model.MirrorPending:
		return "it has not started yet"
	}
	return lagText(s.partitions(m))
}

// lagText says, for people, how far the partitions of a mirror are behind, and what holds them up.
func lagText(ps []linkapi.DescribedPartition) string {
	var lag, most int64
	var behind, unknown int
	var worst int32
	var open []int32
	for _, p := range ps {
		if p.SourceLastStableOffset >= 0 && p.SourceLastStableOffset < p.SourceEndOffset {
			open = append(open, p.Partition)
		}
		switch {
		case p.Lag < 0:
			unknown++
		case p.Lag > 0:
			behind++
			lag += p.Lag
			if p.Lag > most {
				most, worst = p.Lag, p.Partition
			}
		}
	}
	var parts []string
	if behind > 0 {
		parts = append(parts, fmt.Sprintf("it is %d offsets behind in %d of %d partitions, most in partition %d: %d", lag, behind, len(ps), worst, most))
	}
	if len(open) > 0 {
		parts = append(parts, fmt.Sprintf("a transaction is open at the source in partition %s", someOf(open)))
	}
	if unknown > 0 {
		parts = append(parts, fmt.Sprintf("the lag of %d of %d partitions is unknown", unknown, len(ps)))
	}
	if len(parts) == 0 {
		return "it had caught up with the source at the last check, and waits until no new records have come for a moment"
	}
	return strings.Join(parts, "; ")
}

// someOf names a few partitions.
func someOf(partitions []int32) string {
	const most = 5
	var text strings.Builder
	for i, p := range partitions[:min(len(partitions), most)] {
		if i > 0 {
			text.WriteString(", ")
		}
		fmt.Fprint(&text, p)
	}
	if more := len(partitions) - most; more > 0 {
		fmt.Fprintf(&text, " and %d more", more)
	}
	return text.String()
}
