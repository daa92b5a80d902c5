package router

import (
	"klink/protocol"
	"klink/protocol/timeline"
)

// coordinates holds what klink knew about mirrors when it decided on a request, for the response.
//
// klink translates the offsets of a request to physical ones, or leaves them alone, by what it
// knows when it forwards the request. The broker answers with records that begin there. So klink
// may show the response only while the same translation holds:
//
//  1. A partition is translated by the timeline that translated the request, with the shift it had
//     then.
//  2. If that has changed, the partition is hidden: the client is told to ask again, and loses
//     nothing. It changes when the topic becomes a mirror, stops being one or becomes another one,
//     and when its timeline becomes known or is corrected. Translating such a response by the new
//     knowledge could silently skip records.
//  3. A broker remembers physical offsets in a fetch session (KIP-227). The session may be used
//     only as long as everything that translated those offsets is unchanged since the session
//     began; see fetchSession. So what holds for the request holds for every partition of its
//     session, also for those that the request does not list.
//
// coordinates implements protocol.Resolver. It costs nothing per partition: snapshots are
// immutable, and timelines know when their shift last changed.
type coordinates struct {
	s *session
	// then is the snapshot by which the request was decided. clock was read before the snapshot.
	then  *Snapshot
	clock uint64
	// blind: the request names a topic id that klink cannot resolve. It may be a mirror's, so every
	// mirror is hidden.
	blind bool
	// deny hides klink's own topics: their records hold the secrets of links.
	deny bool
	// dry, if set, collects the offsets that must be looked for; nothing is translated then. See
	// seek.go.
	dry *probes
	// failed are partitions for which klink could not learn an offset: they are hidden.
	failed map[at]bool

	// The current topic of the response: the mirror that it was at the request, and is now.
	was, is *Mirror
}

var (
	_ protocol.Resolver = (*coordinates)(nil)
	_ protocol.Mirror   = (*coordinates)(nil)
)

// coordinates returns the coordinates for a new request.
func (s *session) coordinates() coordinates {
	clock := timeline.Clock()
	return coordinates{s: s, then: s.snapshot(), clock: clock}
}

// moment identifies a translation: equal moments translate all offsets in the same way.
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
		// No mirror has this id, so it is another topic's. klink looked it up when the client asked
		// for it, and always recognises its own topics.
		return nil, known || !c.then.unidentified && !now.unidentified
	}
	return c, true
}

// View implements protocol.Mirror, for the current topic.
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
