package router

import (
	"errors"
	"fmt"
	"time"

	"klink/protocol"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Produce: v0-13
//
// Behavior:
//   - Partitions of read-only mirrors are refused with INVALID_REQUEST, those of klink's own topics
//     with TOPIC_AUTHORIZATION_FAILED. The others are forwarded in a smaller request, and the
//     answers merged.
//   - With acks=0 there is no response that could carry the error, so the connection is closed, as
//     a broker does on any error with acks=0. If any part of such a request is refused, nothing of
//     it is forwarded, so that what was written does not depend on timing.
//   - Until the mirrors are known, and when the lease has ended, nothing is forwarded. The request
//     waits, up to its own time-out, and is then refused with NOT_LEADER_OR_FOLLOWER: every
//     producer retries after that error, and it means that nothing was written.
//   - A request with a mirror waits in the same way while the lease is not fresh: the mirror may
//     have been stopped since.
//   - Offsets in responses about stopped mirrors are made logical.
//
// Version notes: v8 adds an error message; v10 node endpoints, so all responses are inspected; v13
// topic ids.
func init() { register(int16(kmsg.Produce), (*session).produce) }

func (s *session) produce(h protocol.RequestHeader, frame []byte) Decision {
	asked := s.coordinates()
	sn := asked.then
	p := protocol.ReadProduceRequest(frame, h)
	var (
		refused   = newRefusals(frame)
		translate bool
		stale     bool // a mirror in the request may have been stopped since
		missing   [][16]byte
	)
	for p.Topic() {
		if !sn.Complete {
			continue // read on to the end, so that a malformed request is closed without waiting
		}
		topic, known := s.topicName(sn, p.Name, p.ID)
		code, message := kerr.UnknownTopicID, ""
		switch {
		case known && topic == "" && p.Name == nil && sn.unidentified:
			// The id was known not to exist, but may exist now: it could belong to the mirror whose
			// id is not known yet.
		case known:
			if m := sn.Mirrors[topic]; m != nil {
				translate = translate || !m.ReadOnly
				stale = stale || m.ReadOnly && !s.router.lease.Fresh()
			}
			if code, message = refuseProduce(sn, topic); code == nil {
				continue
			}
		case s.parked == 0:
			if len(missing) <= maxUnknownIDs {
				missing = append(missing, p.ID)
			}
			continue
		}
		if message == "" {
			message = code.Description
		}
		if err := refused.add(&p, code, message); err != nil {
			return closing(err)
		}
	}
	if err := p.Err(); err != nil {
		return closeMalformed(h, err)
	}
	wait := min(time.Duration(max(p.TimeoutMillis, 0))*time.Millisecond, snapshotWait)
	switch {
	case !sn.Complete:
		return s.awaitMirrors(wait, func() Decision { return refuseAll(h, frame, s.router.unknown()) })
	case stale:
		return s.awaitFresh(wait, func() Decision { return refuseAll(h, frame, errStale) })
	case missing != nil:
		return s.learnTopics(missing, func(err error) Decision { return refuseAll(h, frame, err) })
	case refused.topics == nil:
		return s.forwardProduce(h, frame, p.Acks, translate, nil, asked)
	}
	all := len(refused.topics) == p.Topics()
	s.router.rejected.Add(int64(refused.partitions - len(refused.topics)))
	switch {
	case p.Acks == 0:
		return closing(fmt.Errorf("%w: %s", errRefused, refused.why))
	case all:
		return Decision{Action: Answer, Frame: protocol.AppendRefusedProduce(nil, h, refused.byIndex)}
	}
	return s.forwardProduce(h, p.Cut(refused.topics), p.Acks, translate, refused.byIndex, asked)
}

// refuseAll answers that nothing was written, and why, with an error that makes the producer retry.
// It is called off the event loop, after the request has waited in vain. So it reads the request
// anew: what a refusal needs would take memory for each request that waits.
func refuseAll(h protocol.RequestHeader, frame []byte, why error) Decision {
	p := protocol.ReadProduceRequest(frame, h)
	if p.Acks == 0 {
		return Decision{Action: Close, Err: why}
	}
	return refuseAllProduce(h, frame, p, kerr.NotLeaderForPartition, why.Error())
}

// refuseAllProduce refuses all partitions of a request with one error. Of p no topic has been read.
func refuseAllProduce(h protocol.RequestHeader, frame []byte, p protocol.ProduceRequest, code *kerr.Error, message string) Decision {
	refused := newRefusals(frame)
	for p.Topic() {
		if err := refused.add(&p, code, message); err != nil {
			return closing(err)
		}
	}
	switch err := p.Err(); {
	case err != nil:
		return closeMalformed(h, err)
	case p.Acks == 0:
		return closing(fmt.Errorf("%w: %s", errRefused, message))
	}
	return Decision{Action: Answer, Frame: protocol.AppendRefusedProduce(nil, h, refused.byIndex)}
}

// errRefused closes the connection of a refused producer that asked for no response.
var errRefused = errors.New("produce with acks=0 refused")

// forwardProduce forwards a request whose refused topics have been cut out.
func (s *session) forwardProduce(h protocol.RequestHeader, frame []byte, acks int16, translate bool, refused []*protocol.RefusedProduce, asked coordinates) Decision {
	d := Decision{Action: Forward, Frame: frame}
	switch {
	case acks == 0:
		d.NoResponse = true
	case translate || refused != nil || h.Version >= 10:
		d.Whole = s.produceCall(h, refused, asked).whole
	}
	return d
}

// produceCall is a Produce request that waits for its response. Calls are reused, so that
// forwarding a request does not allocate.
type produceCall struct {
	coordinates
	h       protocol.RequestHeader
	refused []*protocol.RefusedProduce
	whole   func([]byte) Decision // c.done
	next    *produceCall          // in session.produceCalls
}

func (s *session) produceCall(h protocol.RequestHeader, refused []*protocol.RefusedProduce, asked coordinates) *produceCall {
	c := s.produceCalls
	if c == nil {
		c = &produceCall{}
		c.whole = c.done
	} else {
		s.produceCalls, c.next = c.next, nil
	}
	c.h, c.refused, c.coordinates = kept(h), refused, asked
	return c
}

// done handles the response.
func (c *produceCall) done(frame []byte) Decision {
	s, h, refused := c.s, c.h, c.refused
	p := protocol.ReadProduceResponse(frame, h)
	for p.Topic(&c.coordinates) {
	}
	c.refused, c.coordinates = nil, coordinates{}
	c.next, s.produceCalls = s.produceCalls, c

	err := p.Err()
	if err == nil && p.HasEndpoints() {
		// An endpoint without an address at klink is left out: clients then ask for Metadata, and
		// klink learns the address there.
		frame, _, err = protocol.RewriteProduceEndpoints(frame, h, s)
	}
	if err == nil && refused != nil {
		frame, err = protocol.MergeRefusedProduce(frame, h, refused)
	}
	if err != nil {
		return closeResponse(h, err)
	}
	return Decision{Action: Answer, Frame: frame}
}
