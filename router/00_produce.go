package router

import (
	"fmt"
	"time"

	"klink/protocol"

	"github.com/twmb/franz-go/pkg/kerr"
)

// Produce: v0-13
//
// Behavior:
//   - Partitions of read-only mirrors are refused with INVALID_REQUEST, those of klink's own topics with
//     TOPIC_AUTHORIZATION_FAILED. The others are forwarded in a smaller request, and the answers merged.
//   - With acks=0 there is no response to say so: the connection is closed, as a broker does on any error then. Nothing
//     of a partly refused request is forwarded, so that what was written does not depend on timing.
//   - Before the mirrors are known nothing is forwarded. The request waits, up to its own time-out, and is then refused
//     with NOT_LEADER_OR_FOLLOWER: every producer retries that, and it says that nothing was written.
//   - Offsets in responses about stopped mirrors are made logical.
//
// Version notes: v8 has an error message; v10 node endpoints, so that all responses are looked at; v13 topic ids.
func init() { register(0, (*session).produce) }

func (s *session) produce(h protocol.RequestHeader, frame []byte) Decision {
	sn := s.snapshot()
	p := protocol.ReadProduceRequest(frame, h)
	var (
		refused   []*protocol.RefusedProduce // by topic; nil while none is
		count     int
		translate bool
		missing   [][16]byte
	)
	for p.Topic() {
		if !sn.Complete {
			continue // read to its end, so that garbage does not wait
		}
		topic, known := s.topicName(sn, p.Name, p.ID)
		code, message := kerr.UnknownTopicID, ""
		switch {
		case known:
			if m := sn.Mirrors[topic]; m != nil && !m.ReadOnly {
				translate = true
			}
			if code, message = refuseProduce(sn, topic); code == nil {
				continue
			}
		case s.parked == 0:
			missing = append(missing, p.ID)
			continue
		}
		if refused == nil {
			refused = make([]*protocol.RefusedProduce, p.Topics())
		}
		refused[p.Index()] = refusal(&p, code, message)
		count++
	}
	if err := p.Err(); err != nil {
		return closeMalformed(h, err)
	}
	switch {
	case !sn.Complete:
		wait := time.Duration(max(p.TimeoutMillis, 0)) * time.Millisecond
		return s.awaitMirrors(min(wait, snapshotWait), func() Decision { return refuseAll(h, frame, errNoSnapshot) })
	case missing != nil:
		return s.learnTopics(missing, func(err error) Decision { return refuseAll(h, frame, err) })
	case count == 0:
		return s.forwardProduce(h, frame, p.Acks, translate, nil)
	}
	s.router.countRejected(refused)
	switch {
	case p.Acks == 0:
		return closeRefused(refused)
	case count == p.Topics():
		return Decision{Action: Answer, Frame: protocol.AppendRefusedProduce(nil, h, refused)}
	}
	drop := make([]bool, len(refused))
	for i := range refused {
		drop[i] = refused[i] != nil
	}
	return s.forwardProduce(h, protocol.CutProduceTopics(frame, h, drop), p.Acks, translate, refused)
}

// refuseProduce says why clients may not write to a topic; nil = they may.
func refuseProduce(sn *Snapshot, topic string) (*kerr.Error, string) {
	if isInternal(topic) {
		return kerr.TopicAuthorizationFailed, fmt.Sprintf("Topic '%s' belongs to klink and cannot be written by clients", topic)
	}
	if m := sn.Mirrors[topic]; m != nil && m.ReadOnly {
		return kerr.InvalidRequest, fmt.Sprintf("Cannot append records to read-only mirror topic '%s'", m.Topic)
	}
	return nil, ""
}

// refusal is the refused topic at hand.
func refusal(p *protocol.ProduceRequest, code *kerr.Error, message string) *protocol.RefusedProduce {
	if message == "" {
		message = code.Description
	}
	return &protocol.RefusedProduce{
		Name:       append([]byte(nil), p.Name...),
		ID:         p.ID,
		Partitions: p.Partitions(),
		Code:       code.Code,
		Message:    message,
	}
}

// refuseAll answers that nothing was written, why, and that the producer has to try again. It is called off the event loop.
func refuseAll(h protocol.RequestHeader, frame []byte, why error) Decision {
	p := protocol.ReadProduceRequest(frame, h)
	if p.Acks == 0 {
		return Decision{Action: Close, Err: why}
	}
	var refused []*protocol.RefusedProduce
	for p.Topic() {
		refused = append(refused, refusal(&p, kerr.NotLeaderForPartition, why.Error()))
	}
	return Decision{Action: Answer, Frame: protocol.AppendRefusedProduce(nil, h, refused)}
}

// closeRefused closes the connection of a producer that asked for no response.
func closeRefused(refused []*protocol.RefusedProduce) Decision {
	for _, t := range refused {
		if t != nil {
			return Decision{Action: Close, Err: fmt.Errorf("produce with acks=0 refused: %s", t.Message)}
		}
	}
	return Decision{Action: Close}
}

// forwardProduce forwards a request whose refused topics have been cut out.
func (s *session) forwardProduce(h protocol.RequestHeader, frame []byte, acks int16, translate bool, refused []*protocol.RefusedProduce) Decision {
	d := Decision{Action: Forward, Frame: frame}
	switch {
	case acks == 0:
		d.NoResponse = true
	case translate || refused != nil || h.Version >= 10:
		d.Whole = s.produceCall(h, refused).whole
	}
	return d
}

// produceCall is a Produce request that waits for its response. Calls are used again, so that forwarding a request does
// not allocate.
type produceCall struct {
	s       *session
	h       protocol.RequestHeader
	refused []*protocol.RefusedProduce
	whole   func([]byte) Decision // c.done
	next    *produceCall          // in session.produceCalls
}

func (s *session) produceCall(h protocol.RequestHeader, refused []*protocol.RefusedProduce) *produceCall {
	c := s.produceCalls
	if c == nil {
		c = &produceCall{s: s}
		c.whole = c.done
	} else {
		s.produceCalls, c.next = c.next, nil
	}
	c.h, c.refused = kept(h), refused
	return c
}

// done is given the response.
func (c *produceCall) done(frame []byte) Decision {
	s, h, refused := c.s, c.h, c.refused
	c.refused, c.next, s.produceCalls = nil, s.produceCalls, c

	p := protocol.ReadProduceResponse(frame, h)
	for p.Topic(s) {
	}
	err := p.Err()
	if err == nil && p.HasEndpoints() {
		// An endpoint without an address is left out: clients then ask for Metadata, where klink learns it.
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
