package router

import (
	"klink/protocol"
	"klink/protocol/timeline"
)

// coordinates is what klink knew of mirrors when it decided on a request, kept for the response.
//
// Offsets in a request are made physical, or left alone, by what is known when it is forwarded; the
// broker answers with records that begin there. So the response may be shown only while the same is
// true:
//
//  1. A partition is translated by the timeline that translated the request, with the shift it had
//     then.
//  2. Where that is not so any more (the topic has become a mirror, or is none any more, or another
//     one; its timeline has become known, or was corrected) the partition is hidden: the client is
//     told to ask again, and nothing has happened. To translate such a response by what is known
//     now could skip records without a word.
//  3. A fetch session remembers physical offsets at the broker (KIP-227). It may be used only as
//     long as everything that translated them is as it was when the session began; see
//     fetchSession. So what holds for the request holds for every partition of its session, also
//     for those that the request does not list.
//
// It implements protocol.Resolver. It costs nothing per partition: snapshots are immutable, and
// timelines know when their shift was changed last.
type coordinates struct {
	s *session
	// then is the snapshot that decided on the request. The clock was read before anything else.
	then  *Snapshot
	clock uint64
	// blind: the request has a topic id that could be a mirror's without klink having known. Every
	// mirror is hidden.
	blind bool
	// deny hides klink's own topics: their records hold the secrets of links.
	deny bool
	// dry: what is missing is collected there, and nothing is changed; see seek.go.
	dry *probes
	// failed are partitions of which something is missing that could not be learned: they are
	// hidden.
	failed map[at]bool

	// The topic at hand: the mirror that it was then, and is now.
	was, is *Mirror
}

var (
	_ protocol.Resolver = (*coordinates)(nil)
	_ protocol.Mirror   = (*coordinates)(nil)
)

// coordinates are those of a request at hand.
func (s *session) coordinates() coordinates {
	clock := timeline.Clock()
	return coordinates{s: s, then: s.snapshot(), clock: clock}
}

// moment tells two sets of coordinates apart. Equal moments translate everything in the same way.
type moment struct {
	generation uint64 // of the snapshot
	clock      uint64 // of the timelines
}

func (c *coordinates) moment() moment { return moment{c.then.generation, c.clock} }

// Topic implements protocol.Resolver.
func (c *coordinates) Topic(name []byte, id [16]byte) (m protocol.Mirror, known bool) {
	now := c.s.newest()
	topic, known := c.s.topicName(now, name, id)
	if c.deny && isInternal(topic) {
		return deniedTopic{}, true
	}
	c.is = now.Mirrors[topic]
	if c.was = c.then.byID[id]; name != nil || c.was == nil {
		c.was = c.then.Mirrors[topic]
	}
	if c.was == nil && c.is == nil {
		// An id that no mirror has is that of another topic. klink looked it up when it was asked
		// for, and sees its own topics always.
		return nil, known || !c.then.unidentified && !now.unidentified
	}
	return c, true
}

// View implements protocol.Mirror, for the topic at hand.
func (c *coordinates) View(partition int32) protocol.View {
	v := c.view(partition)
	if c.dry != nil {
		c.dry.watch(&v, c.is, partition)
	}
	return v
}

func (c *coordinates) view(partition int32) protocol.View {
	hidden := protocol.View{Hidden: true}
	if c.blind || c.was == nil || c.is == nil {
		return hidden
	}
	was, is := c.was.View(partition), c.is.View(partition)
	switch {
	case was.Hidden || is.Hidden || was.Timeline != is.Timeline:
		return hidden
	case is.Timeline != nil && is.Timeline.ChangedSince(c.clock):
		return hidden
	}
	if c.failed != nil && c.failed[at{c.is.Topic, partition}] {
		return hidden
	}
	is.Stamped = is.Stamped && was.Stamped
	return is
}

// Address implements protocol.Resolver.
func (c *coordinates) Address(broker int32) (host string, port int32, ok bool) {
	return c.s.Address(broker)
}

// deniedTopic is a topic that clients may not read.
type deniedTopic struct{}

func (deniedTopic) View(int32) protocol.View { return protocol.View{Hidden: true, Denied: true} }
