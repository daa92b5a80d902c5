package router

import (
	"context"
	"errors"

	"klink/protocol"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Fetch: v0-18
//
// Behavior:
//   - Offsets of mirrors are made physical in the request and logical in the response, which is
//     streamed.
//   - klink walks every response, even while there are no mirrors, because an empty topic may
//     become a mirror while a Fetch waits. If the request and the response would be translated
//     differently, the partition is hidden; see coordinates.
//   - A hidden partition is answered NOT_LEADER_OR_FOLLOWER, and its records are blanked. So is a
//     partition of a read-only mirror whose timeline is not known yet. Its offset cannot be
//     translated, so no fetch session may remember it (KIP-227): an incremental request is told
//     that its session is gone, and a full request begins none.
//   - If the timeline of a mirror does not know an offset, klink looks for it first (seek.go),
//     provided that the client may read the topic (rights.go). If the look fails, klink uses a
//     lower bound: the client gets records that it skips, and the batches that pass teach the
//     timeline. If there were too many looks (looks.go), the partition is hidden.
//   - Batches of a mirror without a stamp, or not at the place in their stamp, are void
//     (protocol.FetchResponse).
//   - Partitions of klink's own topics are answered TOPIC_AUTHORIZATION_FAILED, and their records
//     are blanked, however they came into the response: by name, by id or through a fetch session.
//     Other partitions are not affected.
//
// Version notes: v7 sessions; v13 topic ids; v16 node endpoints.
func init() { register(int16(kmsg.Fetch), (*session).fetch) }

// fetchSession is the last fetch session that began on this connection. The offsets that the broker
// remembers in it are right as long as the moment is the one at which the session began. An
// incremental request of any other session (an earlier one, or one begun on another connection)
// gives no such guarantee, and is told that its session is gone.
type fetchSession struct {
	id    int32 // 0 = none
	begun moment
}

func (s *session) fetch(h protocol.RequestHeader, frame []byte) Decision {
	asked := s.coordinates()
	asked.deny = true
	f := protocol.ReadFetchRequest(frame, h)
	look := s.lookAtFetch(asked.then, &f)
	defer s.dropMoves()
	replica, err := f.End()
	switch {
	case err != nil:
		return closeMalformed(h, err)
	case replica >= 0:
		return closeFollower(h, replica)
	case !asked.then.Complete:
		return s.awaitMirrorsOrClose()
	case look.missing != nil && s.parked == 0:
		return s.learnTopics(look.missing, func(err error) Decision { return Decision{Action: Close, Err: err} })
	}
	asked.blind = look.blind
	if s.sought {
		asked.failed, s.unsought = s.unsought, nil
	}
	hidden := look.blind || look.hidden || asked.failed != nil
	if look.incremental && (hidden || look.session == 0 || s.fetched != fetchSession{look.session, asked.moment()}) {
		return Decision{Action: Answer, Frame: protocol.AppendFetchSessionGone(nil, h)}
	}
	if len(look.seek) > 0 {
		return s.seekFetch(h, frame, look.seek)
	}
	for _, m := range s.moves {
		f.SetOffset(m.place, m.physical)
	}
	if hidden {
		f.NoSession()
	}
	return Decision{Action: Forward, Frame: frame, Stream: s.fetchStream(h.Version, asked, look.begins && !hidden)}
}

// fetchLook is what klink learns from a Fetch request before it changes anything in it. The look
// also fills session.moves.
type fetchLook struct {
	session             int32
	incremental, begins bool // the request continues, or begins, a session
	hidden              bool // a partition of a mirror has no timeline
	blind               bool // see coordinates
	missing             [][16]byte
	seek                []probe    // offsets to look for, one per partition
	sought              map[at]int // their index in seek
}

// miss adds an offset to look for. If the request lists a partition twice, the last offset counts,
// as at the broker.
func (l *fetchLook) miss(p probe) {
	if i, ok := l.sought[p.at]; ok {
		l.seek[i] = p
		return
	}
	if l.sought == nil {
		l.sought = map[at]int{}
	}
	l.sought[p.at] = len(l.seek)
	l.seek = append(l.seek, p)
}

// hit removes the entry of miss for a partition whose last listed offset is known.
func (l *fetchLook) hit(partition at) {
	i, ok := l.sought[partition]
	if !ok {
		return
	}
	last := len(l.seek) - 1
	l.seek[i] = l.seek[last]
	l.sought[l.seek[i].at] = i
	l.seek = l.seek[:last]
	delete(l.sought, partition)
}

// move is an offset of a mirror that a Fetch request asks for, made physical.
type move struct {
	place    int // in the request
	physical int64
}

// keptMoves is how many moves a session has room for between two requests. A request with more is
// rare: of a fetch session it lists only what changes.
const keptMoves = 1024

// dropMoves keeps the room for the moves of the next request, unless it is large.
func (s *session) dropMoves() {
	if cap(s.moves) > keptMoves {
		s.moves = nil
	}
}

// lookAtFetch reads the topics of a request, once for each decision. It looks at none of them until
// the mirrors are known.
func (s *session) lookAtFetch(sn *Snapshot, f *protocol.FetchRequest) (look fetchLook) {
	s.moves = s.moves[:0]
	if !sn.Complete {
		return look
	}
	look.session, look.incremental, look.begins = f.Session(), f.Incremental(), f.BeginsSession()
	for f.Topic() {
		topic, known := s.topicName(sn, f.Name, f.ID)
		if !known && len(look.missing) <= maxUnknownIDs {
			look.missing = append(look.missing, f.ID)
		}
		m := sn.Mirrors[topic]
		if m == nil {
			look.blind = look.blind || topic == "" && f.Name == nil && sn.unidentified
			continue
		}
		for f.Partition() {
			v := m.View(f.Index)
			look.hidden = look.hidden || v.Hidden
			if v.Timeline == nil {
				continue
			}
			partition, logical := at{m.Topic, f.Index}, f.Offset()
			physical, _, ok := v.Timeline.FindPhysical(logical, 0)
			switch {
			case s.sought:
				if s.unsought[partition] {
					physical = -1 // hidden: the broker need not read its records
				}
			case !ok:
				look.miss(probe{at: partition, line: v.Timeline, logical: logical})
			case look.sought != nil:
				look.hit(partition)
			}
			s.moves = append(s.moves, move{f.Place(), physical})
		}
	}
	return look
}

// seekFetch looks for the offsets that a request asks for, and then decides on the request again.
// If the client may not read a topic, klink does not look, because the broker will refuse the
// client. If klink knows not even a lower bound for a partition, it closes the connection instead
// of answering OFFSET_OUT_OF_RANGE, which would make the client start elsewhere.
func (s *session) seekFetch(h protocol.RequestHeader, frame []byte, list []probe) Decision {
	permitted, refused, unasked := s.permitted(list, kmsg.ACLOperationRead)
	if unasked != nil && !s.asked {
		return s.askRights(h, frame, unasked)
	}
	s.asked, s.sought, s.unsought = false, true, nil
	for _, p := range refused {
		s.unseek(p.at)
	}
	if permitted == nil {
		return s.fetch(h, frame)
	}
	r := s.router
	return Decision{Action: Run, Run: func(ctx context.Context) Decision {
		failed := r.learn(ctx, &s.share, permitted)
		for _, p := range permitted {
			err := failed[p.at]
			switch {
			case err == nil:
			case errors.Is(err, errNoLook):
				s.unseek(p.at)
			default:
				if physical, _, ok := p.line.FindPhysical(p.logical, maxProbes); !ok && physical < 0 {
					return Decision{Action: Close, Err: err}
				}
			}
		}
		return Decision{Action: Retry}
	}}
}

// unseek records that klink did not look for the offset of a partition. The partition is hidden, so
// that its client asks again, unless the broker refuses it.
func (s *session) unseek(p at) {
	if s.unsought == nil {
		s.unsought = map[at]bool{}
	}
	s.unsought[p] = true
}

// fetchStream rewrites one response. Streams are reused, so that forwarding a request does not
// allocate.
type fetchStream struct {
	protocol.FetchResponse
	coordinates
	begins bool         // the response begins a fetch session, if the broker has room for one
	next   *fetchStream // in session.fetchStreams
}

func (s *session) fetchStream(version int16, asked coordinates, begins bool) *fetchStream {
	f := s.fetchStreams
	if f == nil {
		f = &fetchStream{}
		f.Voided = func(protocol.View, int64) { s.router.voided.Add(1) }
	} else {
		s.fetchStreams, f.next = f.next, nil
	}
	f.coordinates, f.begins = asked, begins
	f.Reset(version, &f.coordinates)
	return f
}

// Next implements Stream. The result of the last call stays valid until a later request reuses the
// stream.
func (f *fetchStream) Next(p []byte) (head, tail []byte, err error) {
	head, tail, err = f.FetchResponse.Next(p)
	if err == nil && f.Finished() {
		s := f.s
		if f.begins {
			s.fetched = fetchSession{f.Session(), f.moment()}
		}
		f.coordinates = coordinates{} // holds a snapshot
		f.next, s.fetchStreams = s.fetchStreams, f
	}
	return head, tail, err
}
