package admin

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"klink/admin/caslog"
	"klink/admin/model"
	"klink/admin/store"
	"klink/protocol"
	"klink/protocol/linkapi"

	"github.com/twmb/franz-go/pkg/kerr"
)

func (s *Service) alterMirrors(ctx context.Context, req *linkapi.AlterMirrorsRequest) *linkapi.AlterMirrorsResponse {
	ctx, cancel := withTimeout(ctx, req.TimeoutMs)
	defer cancel()
	resp := &linkapi.AlterMirrorsResponse{Results: make([]linkapi.AlteredMirror, len(req.Mirrors))}
	var ask []string
	for i, err := range s.alterAll(ctx, req.Mirrors, req.ValidateOnly) {
		result := &resp.Results[i]
		result.Name, result.GroupsBehind = req.Mirrors[i].Topic, -1
		result.ErrorCode, result.ErrorMessage = wire(err)
		if err == nil && req.ValidateOnly && req.Mirrors[i].Op == linkapi.MirrorPromote {
			ask = append(ask, result.Name)
		}
	}
	for topic, behind := range s.groupsBehind(ctx, ask) {
		for i := range resp.Results {
			if r := &resp.Results[i]; r.Name == topic && r.ErrorCode == 0 && req.Mirrors[i].Op == linkapi.MirrorPromote {
				r.GroupsSynced, r.GroupsBehind, r.GroupsMessage = behind.wire()
			}
		}
	}
	return resp
}

// mirrorStateOps maps each value of the topic config mirror.state to the operation that setting it
// starts.
var mirrorStateOps = map[string]int8{
	"ACTIVE": linkapi.MirrorResume, "PAUSED": linkapi.MirrorPause, "STOPPED": linkapi.MirrorFailover, "PROMOTED": linkapi.MirrorPromote,
}

// SetMirrorState implements router.Control.
func (s *Service) SetMirrorState(ctx context.Context, topic, state string, validateOnly bool) *protocol.Error {
	op, ok := mirrorStateOps[strings.ToUpper(state)]
	if !ok {
		return protocol.Errorf(kerr.InvalidConfig, "mirror.state of topic '%s' cannot be set to %.40q; allowed: ACTIVE (resume), PAUSED, STOPPED (failover), PROMOTED (promote)", topic, state)
	}
	ctx, cancel := withTimeout(ctx, 0)
	defer cancel()
	return s.alterAll(ctx, []linkapi.AlterMirror{{Topic: topic, Op: op}}, validateOnly)[0]
}

// mirrorOps maps the operations that people can ask for to inputs of the state machine.
var mirrorOps = map[int8]model.MirrorInputKind{
	linkapi.MirrorPause: model.InputPause, linkapi.MirrorResume: model.InputResume, linkapi.MirrorFailover: model.InputFailover, linkapi.MirrorPromote: model.InputPromote,
}

// errValidated aborts an update that only validates, so that nothing is written.
var errValidated = errors.New("validated")

// alterAll pauses, resumes, promotes or fails over mirrors, all in one change of the state, however
// many they are. It returns one result for each mirror.
//
// It waits until the promoted and failed-over mirrors are STOPPED, or ctx ends. A failover then
// goes on by itself. A promotion is cancelled if ctx has reached its deadline; if instead the
// client has gone, it goes on until that deadline.
func (s *Service) alterAll(ctx context.Context, mirrors []linkapi.AlterMirror, validateOnly bool) []*protocol.Error {
	p := model.Promotion{ID: store.NewID()}
	if deadline, ok := ctx.Deadline(); ok {
		p.DeadlineMs = s.cfg.Now().Add(time.Until(deadline)).UnixMilli()
	}
	var results []*protocol.Error
	err := s.update(ctx, func(tx *store.Tx) error {
		results = make([]*protocol.Error, len(mirrors))
		for i, m := range mirrors {
			results[i] = s.alterOne(tx, m, p)
		}
		if validateOnly {
			return errValidated
		}
		return nil
	})
	if err != nil && !errors.Is(err, errValidated) {
		// An update that klink gave up waiting for may still run, and assign results: do not touch
		// it.
		failed := make([]*protocol.Error, len(mirrors))
		for i := range failed {
			failed[i] = asError(err)
		}
		return failed
	}
	if !validateOnly {
		s.awaitEnds(ctx, mirrors, results, p)
	}
	return results
}

// alterOne feeds an operation on one mirror to its state machine.
func (s *Service) alterOne(tx *store.Tx, alter linkapi.AlterMirror, p model.Promotion) *protocol.Error {
	kind, ok := mirrorOps[alter.Op]
	if !ok {
		return protocol.Errorf(kerr.InvalidRequest, "unknown operation %d for mirror topic '%s': use pause (0), resume (1), promote (2) or failover (3)", alter.Op, alter.Topic)
	}
	m, err := tx.Mirror(alter.Topic)
	if err != nil {
		return asError(err)
	}
	if m == nil {
		return mirrorMissing(alter.Topic)
	}
	err = moveMirror(tx, alter.Topic, m, model.MirrorInput{Kind: kind, Link: linkStatusOf(tx, m.Link), Promotion: p}, s.cfg.Now())
	if errors.As(err, new(model.ErrNotPossible)) {
		return protocol.Errorf(kerr.InvalidRequest, "mirror topic '%s' cannot %s: %s", alter.Topic, kind, err)
	}
	return asError(err)
}

func mirrorMissing(topic string) *protocol.Error {
	return protocol.Errorf(kerr.UnknownTopicOrPartition, "unknown mirror topic '%.260s'; `klink mirror list` shows all mirror topics", topic)
}

// awaitEnds waits for the mirrors that were promoted or failed over, and puts their outcome into
// results. Then it gives the topics of those that are STOPPED the source's configs.
func (s *Service) awaitEnds(ctx context.Context, mirrors []linkapi.AlterMirror, results []*protocol.Error, p model.Promotion) {
	var waiting []int
	for i, m := range mirrors {
		if results[i] == nil && (m.Op == linkapi.MirrorPromote || m.Op == linkapi.MirrorFailover) {
			waiting = append(waiting, i)
		}
	}
	if len(waiting) == 0 {
		return
	}
	var stopped []string
	look := func(state *model.State) (done bool) {
		waiting = slices.DeleteFunc(waiting, func(i int) bool {
			m := state.Mirrors[mirrors[i].Topic]
			if m != nil && m.State == model.MirrorStopped {
				stopped = append(stopped, m.Topic)
				return true
			}
			var ended bool
			results[i], ended = s.endless(mirrors[i], m, p)
			return ended
		})
		return len(waiting) == 0
	}
	if err := s.wait(ctx, look); err != nil {
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			s.cancelPromotions(mirrors, waiting, p)
		}
		look(s.State())
		for _, i := range waiting {
			results[i] = s.goesOn(mirrors[i].Topic, err)
		}
	}
	slices.Sort(stopped)
	if err := s.restoreConfigs(ctx, slices.Compact(stopped)...); err != nil {
		// The mirrors are stopped; the reconciler retries this.
		s.log.Warn("could not set the configs of stopped mirrors to those of the source, will retry", "error", err)
	}
}

// endless reports whether a mirror that is not STOPPED yet will not be stopped by this request any
// more, and with which result. m is nil if the mirror is gone.
func (s *Service) endless(alter linkapi.AlterMirror, m *model.Mirror, p model.Promotion) (err *protocol.Error, ended bool) {
	switch {
	case m == nil && alter.Op == linkapi.MirrorFailover:
		return nil, true // a failover deletes a mirror that has no topic yet
	case m == nil:
		return protocol.Errorf(kerr.UnknownTopicOrPartition, "mirror topic '%s' was deleted before it was promoted", alter.Topic), true
	case alter.Op == linkapi.MirrorFailover, m.State == model.MirrorPendingStopped, m.Promotion != "":
		return nil, false
	case m.State == model.MirrorFailed:
		return protocol.Errorf(kerr.InvalidRequest, "mirror topic '%s' was not promoted: it has FAILED (%s): %s", alter.Topic, m.Error, m.ErrorMessage), true
	case s.cfg.Now().UnixMilli() >= p.DeadlineMs:
		return s.promoteTimedOut(m), true
	}
	return protocol.Errorf(kerr.InvalidRequest, "mirror topic '%s' was not promoted: the promotion was cancelled, and the mirror is now %s", alter.Topic, m.State), true
}

// goesOn returns the answer for a mirror that is not STOPPED when the request's time is over,
// although its stop or promotion goes on.
func (s *Service) goesOn(topic string, err error) *protocol.Error {
	if errors.Is(err, caslog.ErrClosed) {
		return asError(err)
	}
	m := s.State().Mirrors[topic]
	if m != nil && m.Promotion != "" {
		return protocol.Errorf(kerr.RequestTimedOut, "mirror topic '%s' is still being promoted (deadline %s): %s", topic, m.PromotionDeadline.UTC().Format(time.RFC3339), s.progress(m))
	}
	return protocol.Errorf(kerr.RequestTimedOut, "mirror topic '%s' did not stop in the time allowed; it is still stopping (PENDING_STOPPED): `klink mirror describe %s` shows when it is STOPPED", topic, topic)
}
