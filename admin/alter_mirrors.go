package admin

import (
	"context"
	"errors"
	"strings"

	"klink/protocol"
	"klink/protocol/linkapi"

	"github.com/twmb/franz-go/pkg/kerr"
)

func (s *Service) alterMirrors(ctx context.Context, req *linkapi.AlterMirrorsRequest) *linkapi.AlterMirrorsResponse {
	ctx, cancel := withTimeout(ctx, req.TimeoutMs)
	defer cancel()
	resp := &linkapi.AlterMirrorsResponse{Version: req.Version, Results: make([]linkapi.NameResult, len(req.Mirrors))}
	forEach(len(req.Mirrors), func(i int) {
		result := &resp.Results[i]
		result.Name = req.Mirrors[i].Topic
		result.ErrorCode, result.ErrorMessage = wire(s.alterMirror(ctx, req.Mirrors[i].Topic, req.Mirrors[i].Op, req.ValidateOnly))
	})
	return resp
}

// mirrorStateOps are the values of the topic config mirror.state, and what setting it does.
var mirrorStateOps = map[string]int8{
	"ACTIVE": linkapi.MirrorResume, "PAUSED": linkapi.MirrorPause, "STOPPED": linkapi.MirrorFailover, "PROMOTED": linkapi.MirrorPromote,
}

// SetMirrorState implements router.Control.
func (s *Service) SetMirrorState(ctx context.Context, topic, state string, validateOnly bool) *protocol.Error {
	op, ok := mirrorStateOps[strings.ToUpper(state)]
	if !ok {
		return protocol.Errorf(kerr.InvalidConfig, "mirror.state of topic '%s' cannot be set to %.40q; allowed: ACTIVE (resume), PAUSED, STOPPED (failover)", topic, state)
	}
	ctx, cancel := withTimeout(ctx, 0)
	defer cancel()
	return s.alterMirror(ctx, topic, op, validateOnly)
}

// mirrorOps are the inputs of the state machine that people can give.
var mirrorOps = map[int8]mirrorInputKind{
	linkapi.MirrorPause: mirrorPause, linkapi.MirrorResume: mirrorResume, linkapi.MirrorFailover: mirrorFailover,
}

// alterMirror pauses, resumes or fails over one mirror. A failover returns when the mirror is STOPPED; when ctx ends first,
// it goes on by itself.
func (s *Service) alterMirror(ctx context.Context, topic string, op int8, validateOnly bool) *protocol.Error {
	kind, ok := mirrorOps[op]
	switch {
	case op == linkapi.MirrorPromote && validateOnly:
		return s.checkPromote(topic)
	case op == linkapi.MirrorPromote:
		return protocol.Errorf(kerr.InvalidRequest, "promote is not in this version: use failover, once the lag of mirror topic '%s' is 0, to stop mirroring", topic)
	case !ok:
		return protocol.Errorf(kerr.InvalidRequest, "operation %d on mirror topic '%s' is none of pause (0), resume (1), promote (2) and failover (3)", op, topic)
	}
	errDry := errors.New("validated")
	err := s.update(ctx, func(tx *Tx) error {
		m, err := tx.Mirror(topic)
		if err != nil {
			return err
		}
		if m == nil {
			return mirrorMissing(topic)
		}
		before := len(tx.writes)
		err = moveMirror(tx, topic, m, mirrorInput{Kind: kind, Link: linkStatusOf(tx, m.Link)}, s.cfg.Now())
		if errors.As(err, new(errNotPossible)) {
			return protocol.Errorf(kerr.InvalidRequest, "mirror topic '%s' cannot %s: %s", topic, kind, err)
		}
		if err == nil && validateOnly {
			tx.writes = tx.writes[:before]
			return errDry
		}
		return err
	})
	if errors.Is(err, errDry) {
		return nil
	}
	if err != nil || kind != mirrorFailover {
		return asError(err)
	}
	return s.awaitStopped(ctx, topic)
}

// checkPromote says why a mirror cannot be promoted now; nil if it can.
func (s *Service) checkPromote(topic string) *protocol.Error {
	m := s.State().Mirrors[topic]
	if m == nil {
		return mirrorMissing(topic)
	}
	if err := promotable(m.State, m.Error); err != nil {
		return protocol.Errorf(kerr.InvalidRequest, "mirror topic '%s' cannot be promoted: %s", topic, err)
	}
	return nil
}

func mirrorMissing(topic string) *protocol.Error {
	return protocol.Errorf(kerr.UnknownTopicOrPartition, "there is no mirror topic '%.260s'; `klink mirror list` shows those that are", topic)
}

// awaitStopped waits until a mirror is STOPPED, or gone, and its topic has the source's configs.
func (s *Service) awaitStopped(ctx context.Context, topic string) *protocol.Error {
	err := s.wait(ctx, func(state *State) bool {
		m := state.Mirrors[topic]
		return m == nil || m.State == MirrorStopped
	})
	if err != nil {
		return protocol.Errorf(kerr.RequestTimedOut, "mirror topic '%s' is being stopped (PENDING_STOPPED), but was not in the time allowed: it goes on; `klink mirror describe %s` shows when it is STOPPED", topic, topic)
	}
	if err := s.restoreConfigs(ctx, topic); err != nil {
		// The mirror is stopped; the reconciler goes on with this.
		s.log.Warn("the configs of a stopped mirror are not yet as at the source", "topic", topic, "error", err)
	}
	return nil
}
