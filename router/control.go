package router

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"klink/protocol"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// This file has what the handlers of the control path share: the requests that create, alter or
// delete topics and their configs. They are rare, so they are decoded and encoded with kmsg, unlike
// those of the hot path.
//
// Such a request takes these steps: wait until the mirrors are known; decode; sort its items into
// those that klink refuses, those that klink carries out, and those for the broker. If all are for
// the broker, the frame goes upstream unchanged. Otherwise klink checks the client's authority
// where klink acts (authorize.go), does its own part off the event loop, and forwards the broker's
// part as a smaller request. It then merges the answers in the order of the request.
//
// A decoded request holds copies only. Nothing may keep the request frame, or anything that aliases
// it, beyond the decision on it: hence ownHeader.

// internalPrefix begins the names of the topics in which klink keeps its state. Clients may not
// touch them.
const internalPrefix = "_klink_"

func isInternal(topic string) bool { return strings.HasPrefix(topic, internalPrefix) }

// readOnlyMirror returns the mirror of this name if clients may not change it, else nil.
func (sn *Snapshot) readOnlyMirror(topic string) *Mirror {
	if m := sn.Mirrors[topic]; m != nil && m.ReadOnly {
		return m
	}
	return nil
}

// snapshotWait bounds how long a request waits for the first complete snapshot.
const snapshotWait = 30 * time.Second

var errNoSnapshot = errors.New("klink does not know its mirrors yet: it has not read its state topic to the end; see klink's log")

// errStale: the mirrors were known once, but may have changed since.
var errStale = errors.New("klink has been unable to read its state topic for too long, so it does not know which topics are mirrors; see its log and /readyz")

// unknown returns the reason why klink does not know the mirrors now.
func (r *Router) unknown() error {
	if r.snapshot.Load().Complete {
		return errStale
	}
	return errNoSnapshot
}

// errNoShape is a bug: klink is about to decode a message that it cannot check.
var errNoShape = errors.New("klink does not know the layout of this message")

// largeControl is the size in bytes from which on a request or response is decoded off the event
// loop, because other connections share the loop.
const largeControl = 256 << 10

// registerControl registers a handler of the control path. The handler is called when the mirrors
// are known, on the event loop or, for large frames, off it. So of the session it uses only the
// router and the state of the current request.
func registerControl(key int16, handle handler) {
	register(key, func(s *session, h protocol.RequestHeader, frame []byte) Decision {
		if !s.snapshot().Complete {
			d := s.awaitMirrorsOrClose()
			d.Exclusive = true
			return d
		}
		if len(frame) < largeControl {
			return handle(s, h, frame)
		}
		return Decision{Action: Run, Exclusive: true, Run: func(context.Context) Decision {
			return handle(s, h, frame)
		}}
	})
}

// maxControlElements bounds the array elements, strings and tags of a request; kmsg uses about 100
// bytes for each. No sensible administrative request comes near the bound.
const maxControlElements = 1 << 20

// ownHeader returns h with a client id that does not alias the frame.
func ownHeader(h protocol.RequestHeader) protocol.RequestHeader {
	if h.ClientID != nil {
		h.ClientID = append([]byte{}, h.ClientID...)
	}
	return h
}

// decodeControl decodes the body of a request frame. req does not alias the frame.
func decodeControl(h protocol.RequestHeader, frame []byte, req kmsg.Request) error {
	return decodeAtMost(maxControlElements, h, frame, req)
}

// decodeAtMost is decodeControl with another bound on the elements.
func decodeAtMost(elements int, h protocol.RequestHeader, frame []byte, req kmsg.Request) error {
	req.SetVersion(h.Version)
	body := frame[h.Body:]
	if err := checkShape(body, h.Key, h.Version, elements, false); err != nil {
		return fmt.Errorf("%s v%d request: %w", kmsg.NameForKey(h.Key), h.Version, err)
	}
	// A body of the right shape can still have a null where kmsg accepts none.
	if err := req.ReadFrom(body); err != nil {
		return fmt.Errorf("%s v%d request: %w: %w", kmsg.NameForKey(h.Key), h.Version, protocol.ErrMalformed, err)
	}
	return nil
}

// memoryPerByte bounds the memory that kmsg may use for a message, in bytes for each byte of the
// message. smallMemory is added to that, for small messages.
const (
	memoryPerByte = 32
	smallMemory   = 64 << 10
)

// checkShape checks a body before kmsg decodes it. elements bounds its array elements, strings and
// tags; 0 = no bound.
func checkShape(body []byte, key, version int16, elements int, response bool) error {
	m, ok := protocol.MessageOf(key)
	if !ok {
		return errNoShape
	}
	shape := m.Request
	if response {
		shape = m.Response
	}
	limits := protocol.Limits{Elements: elements, Memory: smallMemory + memoryPerByte*len(body)}
	return shape.CheckParts([][]byte{body}, version, version >= m.FlexibleFrom, limits)
}

func closing(err error) Decision { return Decision{Action: Close, Err: err} }

// answer sends resp to the client.
func answer(h protocol.RequestHeader, resp kmsg.Response) Decision {
	return Decision{Action: Answer, Frame: protocol.AppendResponse(nil, h, resp)}
}

// ask sends a request of klink's own upstream, in place of the request h, and decides by the
// response. h must be owned. The connection is held meanwhile: later requests may depend on the
// outcome, and klink may have more to ask.
//
// For a large response, then is called off the event loop. Of the session it uses only the router.
func ask(h protocol.RequestHeader, req kmsg.Request, then func(kmsg.Response) Decision) Decision {
	d := askOnLoop(h, req, then)
	d.Whole = largeOffLoop(d.Whole)
	return d
}

// largeOffLoop moves the decision on a large response off the event loop, which other connections
// share.
func largeOffLoop(whole func([]byte) Decision) func([]byte) Decision {
	return func(frame []byte) Decision {
		if len(frame) < largeControl {
			return whole(frame)
		}
		return Decision{Action: Run, Run: func(context.Context) Decision { return whole(frame) }}
	}
}

// askOnLoop is ask for a decision that must be made on the event loop.
func askOnLoop(h protocol.RequestHeader, req kmsg.Request, then func(kmsg.Response) Decision) Decision {
	asked := protocol.RequestHeader{Key: req.Key(), Version: req.GetVersion(), Flexible: req.IsFlexible()}
	return Decision{
		Action:    Forward,
		Frame:     protocol.AppendRequest(nil, h, req),
		Exclusive: true,
		Whole: func(frame []byte) Decision {
			resp, err := decodeControlResponse(asked, frame, req)
			if err != nil {
				return closing(err)
			}
			return then(resp)
		},
	}
}

// decodeControlResponse decodes the response to req. The result does not alias the frame.
func decodeControlResponse(asked protocol.RequestHeader, frame []byte, req kmsg.Request) (kmsg.Response, error) {
	at := asked.ResponseBody(frame)
	if at < 0 {
		return nil, fmt.Errorf("%s v%d response: %w", kmsg.NameForKey(asked.Key), asked.Version, protocol.ErrMalformed)
	}
	body := frame[at:]
	if err := checkShape(body, asked.Key, asked.Version, 0, true); err != nil {
		return nil, fmt.Errorf("%s v%d response: %w", kmsg.NameForKey(asked.Key), asked.Version, err)
	}
	resp := req.ResponseKind()
	resp.SetVersion(asked.Version)
	if err := resp.ReadFrom(body); err != nil {
		return nil, fmt.Errorf("%s v%d response: %w: %w", kmsg.NameForKey(asked.Key), asked.Version, protocol.ErrMalformed, err)
	}
	return resp, nil
}

// verdict is klink's result for one item of a request, as the response reports it.
type verdict struct {
	code    int16
	message *string // nil = none
}

// verdictOf returns the verdict for an error of Control; nil is success.
func verdictOf(err *protocol.Error) verdict {
	switch {
	case err == nil:
		return verdict{}
	case err.Code == nil:
		return verdict{code: kerr.UnknownServerError.Code, message: &err.Message}
	default:
		return verdict{code: err.Code.Code, message: &err.Message}
	}
}

func refuse(code *kerr.Error, format string, args ...any) verdict {
	return verdictOf(protocol.Errorf(code, format, args...))
}

func (v verdict) ok() bool { return v.code == 0 }

func refuseInternal(topic string) verdict {
	return refuse(kerr.TopicAuthorizationFailed, "Topic '%s' belongs to klink and cannot be used by clients", topic)
}

// merge puts the results of klink and of the broker into the order of the request. For each key it
// takes klink's result if there is one, else all results of the broker. Results of the broker for
// other keys come last.
func merge[K comparable, R any](order []K, ours map[K]R, theirs []R, key func(*R) K) []R {
	byKey := make(map[K][]int, len(theirs))
	for i := range theirs {
		k := key(&theirs[i])
		byKey[k] = append(byKey[k], i)
	}
	merged := make([]R, 0, len(ours)+len(theirs))
	seen := make(map[K]bool, len(order))
	for _, k := range order {
		if seen[k] {
			continue
		}
		seen[k] = true
		if r, ok := ours[k]; ok {
			merged = append(merged, r)
			continue
		}
		for _, i := range byKey[k] {
			merged = append(merged, theirs[i])
		}
	}
	for i := range theirs {
		if !seen[key(&theirs[i])] {
			merged = append(merged, theirs[i])
		}
	}
	return merged
}
