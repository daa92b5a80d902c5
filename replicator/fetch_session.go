package replicator

import (
	"slices"
	"time"

	"klink/replicator/core"
	"klink/replicator/wire"

	"github.com/twmb/franz-go/pkg/kerr"
)

// sessionAge is how long a session is used. If a broker ever forgets a partition in a session, the
// partition waits no longer than that.
const sessionAge = 10 * time.Minute

// fetchSession holds what a fetcher asks a broker for, and what the broker already knows of that
// (KIP-227): a fetch names only the partitions whose position has changed, and its response only
// those with news. So the cost of a fetch depends on the partitions that move, not on all that are
// mirrored. If the broker has no sessions, or grants none, each fetch names all partitions.
//
// A job that is out waits for an answer, over as many fetches as it takes. Whatever ends the
// session also ends all jobs that are out: a lost connection, or partitions that come or go. The
// next fetch starts another session.
//
// Two mirrors of one topic take turns (askedTopic.twin). In a session one of them could wait for
// ever, and the other would get no turn. So there is no session if there are twins.
//
// Only the fetcher's goroutine uses it.
type fetchSession struct {
	adopted *[]fetcherTopic // what topics was made of
	topics  []askedTopic
	twins   bool

	id, epoch int32 // epoch 0: the next fetch asks for a session; below: it does not
	version   int16
	conn      *wire.Conn // that the session was started on
	began     time.Time
	out       int // jobs that are out

	topic int // index of the topic where find starts
}

// askedTopic is a topic and its jobs.
type askedTopic struct {
	m      *mirror
	twin   bool
	name   string
	id     [16]byte
	jobs   []fetchJob // as fetcherTopic.parts
	at     []int32    // by partition: the index of its job, -1 = there is none
	naming int        // jobs that the next fetch names
	leave  []int32    // partitions that the next fetch removes from the session
}

// fetchJob is one partition in a fetch.
type fetchJob struct {
	w       *worker
	part    fetchedPart // as of now
	begun   fetchedPart // as of when the job started
	left    bool        // its leader takes the partition over from this broker, a follower
	gen     uint32
	offset  int64
	leader  int32         // the source's leader epoch when the job started, -1 = unknown
	largest int           // bytes of the largest batch met
	seen    core.EpochEnd // of a job that compares: the batch to compare
	out     bool          // waits for an answer
	answer  bool          // of a job that compares: it has one

	known bool // the broker has it in the session, as:
	as    sessionEntry
}

// sessionEntry is what a broker knows of a partition in a session.
type sessionEntry struct {
	offset   int64
	leader   int32
	maxBytes int32
}

// adopt makes the session ask for these topics. If they differ from those before in more than the
// epochs of the leaders, it ends the session and starts over.
func (s *fetchSession) adopt(of *[]fetcherTopic) {
	if s.adopted == of {
		return
	}
	s.adopted = of
	topics := *of
	same := slices.EqualFunc(s.topics, topics, func(a askedTopic, t fetcherTopic) bool {
		return a.m == t.m && a.twin == t.twin && a.id == t.m.id() &&
			slices.EqualFunc(a.jobs, t.parts, func(j fetchJob, p fetchedPart) bool { return j.w == p.w })
	})
	if same {
		for i, t := range topics {
			for n, p := range t.parts {
				s.topics[i].jobs[n].part, s.topics[i].jobs[n].left = p, false
			}
		}
		return
	}
	s.end()
	s.topics, s.twins = make([]askedTopic, len(topics)), false
	for i, t := range topics {
		a := askedTopic{m: t.m, twin: t.twin, name: t.m.sourceTopic, id: t.m.id(), jobs: make([]fetchJob, len(t.parts))}
		for n, p := range t.parts {
			a.jobs[n].w, a.jobs[n].part = p.w, p
			for int(p.w.id) >= len(a.at) {
				a.at = append(a.at, -1)
			}
			a.at[p.w.id] = int32(n)
		}
		s.twins = s.twins || t.twin
		s.topics[i] = a
	}
}

// end ends the session and the jobs that wait in it, without a result.
func (s *fetchSession) end() {
	for i := range s.topics {
		for n := range s.topics[i].jobs {
			j := &s.topics[i].jobs[n]
			j.known = false
			if j.out {
				j.out = false
				j.lost()
			}
		}
	}
	s.restart()
}

// restart makes the next fetch start another session, in place of the one that id names.
func (s *fetchSession) restart() { s.epoch, s.out = 0, 0 }

// asked reports whether a twin of t, another mirror of the same source topic, waits for answers.
func (s *fetchSession) asked(t *askedTopic) bool {
	for i := range s.topics {
		if o := &s.topics[i]; o != t && o.name == t.name && slices.ContainsFunc(o.jobs, func(j fetchJob) bool { return j.out }) {
			return true
		}
	}
	return false
}

// ids reports whether every topic has an id.
func (s *fetchSession) ids() bool {
	return !slices.ContainsFunc(s.topics, func(t askedTopic) bool { return t.id == [16]byte{} })
}

// prepare decides what the next fetch, over conn, has to name. limit is how many bytes of one
// partition it asks for.
func (s *fetchSession) prepare(conn *wire.Conn, version int16, limit int32) {
	if s.conn != conn {
		s.id, s.epoch, s.conn = 0, 0, conn
	}
	if s.version != version || s.epoch > 0 && time.Since(s.began) > sessionAge {
		s.epoch, s.version = 0, version
	}
	if s.epoch == 0 {
		s.began = time.Now()
	}
	if s.twins {
		s.id, s.epoch = 0, -1
	}
	for i := range s.topics {
		t := &s.topics[i]
		t.naming, t.leave = 0, t.leave[:0]
		for n := range t.jobs {
			j := &t.jobs[n]
			if s.epoch <= 0 {
				j.known = false
			}
			as := sessionEntry{j.offset, j.leader, max(limit, int32(j.largest))}
			switch {
			case j.out && (!j.known || j.as != as):
				t.naming++
			case !j.out && j.known:
				t.leave = append(t.leave, j.w.id)
			}
		}
	}
}

// build builds the request that was prepared.
func (s *fetchSession) build(r *wire.FetchRequest, clientID string, asks *fetchAsks) {
	p := wire.FetchParams{
		MaxWaitMillis: int32(asks.wait.Milliseconds()), MinBytes: 1, MaxBytes: asks.total, ReadCommitted: true,
		SessionID: s.id, SessionEpoch: s.epoch,
	}
	naming, leaving := 0, 0
	for i := range s.topics {
		naming += min(1, s.topics[i].naming)
		leaving += min(1, len(s.topics[i].leave))
	}
	r.Begin(s.version, clientID, p, naming)
	for i := range s.topics {
		t := &s.topics[(i+asks.first)%len(s.topics)]
		if t.naming == 0 {
			continue
		}
		r.Topic(t.name, &t.id, t.naming)
		for n := range t.jobs {
			j := &t.jobs[(n+asks.first)%len(t.jobs)]
			if as := (sessionEntry{j.offset, j.leader, max(asks.partition, int32(j.largest))}); j.out && (!j.known || j.as != as) {
				r.Partition(j.w.id, as.leader, as.offset, as.maxBytes)
			}
		}
	}
	r.Forget(leaving)
	for i := range s.topics {
		if t := &s.topics[i]; len(t.leave) > 0 {
			r.ForgetTopic(t.name, &t.id, t.leave)
		}
	}
	r.End()
}

// answered records a successful response. id is that of the session, 0 if the broker granted none.
// In a session, the broker now knows the partitions that the fetch named.
func (s *fetchSession) answered(id int32, asks *fetchAsks) {
	switch {
	case s.epoch < 0 || s.epoch == 0 && id == 0 || s.version < 7:
		s.epoch = min(s.epoch, 0) // the next fetch names all partitions
		return
	case s.epoch == 0:
		s.id, s.epoch = id, 1
	case s.epoch == 1<<31-1:
		s.epoch = 1
	default:
		s.epoch++
	}
	for i := range s.topics {
		t := &s.topics[i]
		if t.naming == 0 && len(t.leave) == 0 {
			continue
		}
		for n := range t.jobs {
			j := &t.jobs[n]
			j.known = j.out
			if j.out {
				j.as = sessionEntry{j.offset, j.leader, max(asks.partition, int32(j.largest))}
			}
		}
	}
}

// granted reports whether there is a session.
func (s *fetchSession) granted() bool { return s.epoch > 0 }

// find returns the job that an answer is for, nil = no such job is out. Answers mostly come topic
// by topic, so find starts at the topic of the last one.
func (s *fetchSession) find(name []byte, id *[16]byte, byID bool, partition int32) *fetchJob {
	for n := range s.topics {
		i := (s.topic + n) % len(s.topics)
		t := &s.topics[i]
		if byID && t.id != *id || !byID && t.name != string(name) || partition < 0 || int(partition) >= len(t.at) {
			continue
		}
		if at := t.at[partition]; at >= 0 && t.jobs[at].out { // else it may be for a twin
			s.topic = i
			return &t.jobs[at]
		}
	}
	return nil
}

// sessionError reports whether the error of a whole fetch concerns only its session, so that a new
// session helps.
func sessionError(err error) bool {
	return isOneOf(err, kerr.FetchSessionIDNotFound, kerr.InvalidFetchSessionEpoch, kerr.FetchSessionTopicIDError)
}
