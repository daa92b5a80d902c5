package replicator

import (
	"context"
	"errors"
	"fmt"
	"time"

	"klink/admin/model"
	"klink/internal/retry"
	"klink/protocol/batch"
	"klink/replicator/core"
	"klink/replicator/wire"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	// maxProduceBytes is where a produce request ends: the batch that reaches it is its last.
	maxProduceBytes = 4 << 20
	// maxProducePartitions bounds the partitions in a produce request.
	maxProducePartitions = 2000
	// produceTimeoutMs is how long a broker waits for the in-sync replicas.
	produceTimeoutMs = 10_000
)

// stream sends appends to one broker of the destination, over several connections (lanes), since a
// broker handles one request of a connection at a time. The combiner decides what goes into a
// request.
type stream struct {
	d      *destination
	broker int32
	units  *combiner
}

// appendJob is one unit in a request.
type appendJob struct {
	w    *worker
	i    core.Item // its frame is set only if it was joined
	next int       // index of the next job of the topic, -1 = none; see lane.group
	done bool      // its result has been delivered
	// joined is how many batches were joined to the item, 0 = it is as it came from the source;
	// before is how many bytes those batches had.
	joined, before int
	kind           uint16 // of the batch; see kindOf
	novel          bool   // the last of its window: it may be refused; see accepted
	place          int64  // physical offset at which it has to land
	// of is the number of appends in its window, nth the index of this one. result is set only in a
	// window of several.
	of, nth int
	result  appendResult
}

// lane is one connection of a stream. It sends one request after the other and delivers their
// results. In the steady state it allocates nothing per request or batch: each request reuses the
// memory of the one before.
type lane struct {
	s       *stream
	to      *kgo.Broker // for requests without batches
	link    brokerLink
	wait    retry.Backoff // after a failure to connect
	jobs    []appendJob   // those of a window are adjacent
	rounds  []round
	round   int             // index of the round that prepare builds the request of
	byTopic map[topicIn]int // index in round.topics
	windows []window
	request wire.ProduceRequest
	answer  wire.ProduceResponse
	body    []byte
	recoder batch.Recoder // joins
	joining [][]byte
}

// round is one of the requests that a lane sends without a pause. It has at most one append of each
// partition.
type round struct {
	topics []laneTopic
	names  wire.Order
	places []int // indexes in jobs, in the order of names
}

// laneTopic lists the jobs of a topic in a request, linked by appendJob.next.
type laneTopic struct {
	m           *mirror
	first, last int // indexes in jobs
	n           int
}

func newLane(s *stream, cl *kgo.Client) *lane {
	return &lane{
		s: s, to: cl.Broker(int(s.broker)), byTopic: map[topicIn]int{},
		wait: retry.Backoff{Low: 50 * time.Millisecond, High: time.Second},
		link: brokerLink{dialer: s.d.dialer, at: &s.d.at, node: s.broker},
	}
}

// run works until the context ends.
func (l *lane) run(ctx context.Context) {
	defer l.link.close()
	units := l.s.units
	for {
		r := units.next(ctx)
		if r == nil {
			return
		}
		if l.take(r); len(l.jobs) > 0 && r.kind == core.MarkerUnits {
			l.s.writeMarkers(l.s.d.r.owner.appends(), l.to, l.jobs, func() { units.answered(r) })
		} else if len(l.jobs) > 0 {
			l.produce(l.s.d.r.owner.appends(), r)
			l.release()
		}
		units.done(r)
	}
}

// take fills jobs with the appends of the workers in r. Some of the workers may have none any more.
func (l *lane) take(r *request) {
	clear(l.jobs) // so that finished jobs keep no memory
	l.jobs = l.jobs[:0]
	room := maxProduceBytes // for joined batches; the first batch of each queue goes in any case
	for _, w := range r.workers {
		j, ok := w.take(l, r.kind, core.JoinRule{Most: max(room, 0)})
		if !ok {
			continue
		}
		room -= len(j.i.Bytes)
		l.jobs = append(l.jobs, j)
		if r.kind == core.BatchUnits {
			l.takeWindow(len(r.workers))
		}
	}
	clear(l.joining[:cap(l.joining)])
}

// release frees the memory of joined batches.
func (l *lane) release() {
	for n := range l.jobs {
		if f := l.jobs[n].i.Frame; f != nil {
			l.jobs[n].i.Frame = nil
			f.Release()
		}
	}
}

// produce appends the batches of all jobs and delivers every result.
func (l *lane) produce(ctx context.Context, r *request) {
	l.plan()
	conn, err := l.sendAll(ctx)
	lingering := !wire.NeverSent(err)
	for n := 0; err == nil && n < len(l.rounds); n++ {
		var body []byte
		if body, err = l.receive(conn); err == nil {
			if len(l.rounds) == 1 {
				l.s.units.answered(r)
			}
			err = l.read(&l.rounds[n], body)
		}
	}
	if err == nil {
		conn.Throttle(l.answer.ThrottleMillis)
		err, lingering = errLeftOut, false
	} else {
		l.link.close()
	}
	l.settleWindows(ctx, r, lingering, err)
	l.s.units.answered(r)
	for n := range l.jobs {
		if j := &l.jobs[n]; !j.done {
			l.s.uncertain(j, lingering, err)
		}
	}
}

// read delivers the results in a response. It keeps those of windows in their jobs, until
// settleWindows.
func (l *lane) read(r *round, body []byte) error {
	l.s.d.r.metrics.produces.Add(1)
	version := l.request.Version()
	for l.answer.Reset(version, body); l.answer.Next(); {
		p := &l.answer.ProducePartition
		at := r.names.Find(l.answer.Topic, &l.answer.TopicID, version >= wire.FirstProduceWithIDs, p.Partition)
		if at < 0 {
			continue
		}
		switch j := &l.jobs[r.places[at]]; {
		case j.of > 1:
			j.result.take(p)
		case !j.done:
			l.s.deliver(j, p)
		}
	}
	return l.answer.Err()
}

var errLeftOut = errors.New("the response has no result for it")

// sendAll sends the requests of all rounds. An error is an *wire.UnsentError if the broker cannot
// have got any of them.
func (l *lane) sendAll(ctx context.Context) (*wire.Conn, error) {
	l.round = 0
	conn, err := l.link.send(ctx, l, produceTimeoutMs*time.Millisecond)
	if err != nil {
		if ctx.Err() == nil && wire.NeverSent(err) {
			_ = retry.Sleep(ctx, l.wait.Next()) // a broker that cannot be reached gets a pause
		}
		return nil, err
	}
	l.wait.Reset()
	for l.round = 1; l.round < len(l.rounds); l.round++ {
		request, err := l.prepare(conn)
		if err == nil {
			err = conn.SendMore(ctx, request, produceTimeoutMs*time.Millisecond)
		}
		if err != nil {
			// Not %w: an UnsentError would be about this request alone, and those before it were
			// sent.
			return nil, fmt.Errorf("request %d of %d without a pause: %v", l.round+1, len(l.rounds), err) //nolint:errorlint // see above
		}
	}
	return conn, nil
}

// receive returns the body of the next response. It is valid until the next call.
func (l *lane) receive(conn *wire.Conn) ([]byte, error) {
	size, err := conn.Receive()
	if err == nil && size > maxAnswer {
		err = fmt.Errorf("%w: the response to Produce has %d bytes", wire.ErrMalformed, size)
	}
	if err == nil {
		if size > cap(l.body) {
			l.body = make([]byte, size)
		}
		err = conn.Read(l.body[:size])
	}
	if err != nil {
		return nil, err
	}
	return l.body[:size], nil
}

// maxAnswer bounds the answer to a produce request in bytes: maxProducePartitions with an error
// message each.
const maxAnswer = 4 << 20

// topicIn is the key of a topic in a round, whose request names each topic once.
type topicIn struct {
	round int
	m     *mirror
}

// group adds job n to a round.
func (l *lane) group(round, n int) {
	r, key := &l.rounds[round], topicIn{round, l.jobs[n].w.m}
	at, ok := l.byTopic[key]
	if !ok {
		l.byTopic[key] = len(r.topics)
		r.topics = append(r.topics, laneTopic{key.m, n, n, 1})
		return
	}
	t := &r.topics[at]
	l.jobs[t.last].next = n
	t.last, t.n = n, t.n+1
}

// prepare builds the request of the current round, in a version that conn supports.
func (l *lane) prepare(conn *wire.Conn) (wire.Request, error) {
	round := &l.rounds[l.round]
	ids := true
	for i := range round.topics {
		ids = ids && round.topics[i].m.topicID != [16]byte{}
	}
	version, err := conn.ProduceVersion(ids)
	if err != nil {
		return nil, err
	}
	round.names.Reset()
	round.places = round.places[:0]
	r, acks := &l.request, acksAll
	if l.round < len(l.rounds)-1 {
		acks = acksLeader
	}
	r.Begin(version, l.s.d.dialer.ClientID(), acks, produceTimeoutMs, len(round.topics))
	for i := range round.topics {
		t := &round.topics[i]
		r.Topic(t.m.topic, &t.m.topicID, t.n)
		round.names.AddTopic(t.m.topic, t.m.topicID)
		for n := t.first; n >= 0; n = l.jobs[n].next {
			j := &l.jobs[n]
			r.Partition(j.w.id, j.i.Bytes)
			round.names.Add(j.w.id)
			round.places = append(round.places, n)
		}
	}
	r.End()
	return r, nil
}

// deliver hands the result of one append to its worker.
func (s *stream) deliver(j *appendJob, p *wire.ProducePartition) {
	err := kerr.ErrorForCode(p.ErrorCode)
	if err == nil {
		j.done = true
		j.w.appended(j, p.BaseOffset)
		if p.AppendTime >= 0 {
			f := timeRewritten(j)
			j.w.step(func(c *core.Partition) core.Effects { return c.Rewritten(f) })
		}
		return
	}
	detail := ""
	if len(p.Message) > 0 {
		detail = ": " + string(p.Message)
	}
	switch {
	case j.w.hindered(err):
	case errors.Is(err, kerr.InvalidTimestamp) && batch.Header(j.i.Bytes).LogAppendTime():
		// Most likely this is an old broker. When the batch is fetched again it comes without the
		// bit, and is then appended, or refused for good.
		if !s.d.noAppendTime.Swap(true) {
			s.d.r.log.Info("the destination refuses batches with the LogAppendTime bit: klink writes the append time into each record instead",
				"topic", j.w.m.topic, "partition", j.w.id, "offset", j.i.Base, "broker", s.broker)
		}
		s.uncertain(j, false, err)
		return
	case errors.Is(err, kerr.UnknownServerError):
		// Old brokers answer this to a batch that they cannot convert to the topic's older message
		// format. Nothing is lost, and another attempt may succeed, but the topic's configs must be
		// checked now.
		j.w.refusedForConfig(j.i.Base, core.Failf(model.ErrUnsupportedFormat, "%s-%d: the destination fails to append a batch", j.w.m.topic, j.w.id))
	case errors.Is(err, kerr.CorruptMessage) && j.w.corrupted(j.i.Base) < corruptionsToBelieve:
		// The batch may be intact when it is fetched again.
	case errors.Is(err, kerr.CorruptMessage):
		err = errDamaged
	}
	if f := refusal(j, err, detail); f != nil && j.joined > 0 {
		// The broker does not say which of the joined batches it refuses. From now on they are
		// appended one by one, so that it refuses only that one.
		j.w.refusedJoined(j, err)
		s.uncertain(j, false, fmt.Errorf("%w%s", err, detail))
		return
	} else if f != nil && (!mayBeForConfig(err) || j.w.refusedForConfig(j.i.Base, f)) {
		j.done = true
		j.w.step(func(c *core.Partition) core.Effects { return c.Rejected(f) })
		return
	}
	s.uncertain(j, false, fmt.Errorf("%w%s", err, detail))
}

// refusal returns the failure for a batch that was not appended, and never can be while the topic's
// configs stay as they are. It returns nil if another attempt may succeed, or if the batch may have
// been appended after all.
func refusal(j *appendJob, err error, detail string) *core.Failure {
	at := fmt.Sprintf("%s-%d: the destination refuses the batch of source offsets %d to %d", j.w.m.topic, j.w.id, j.i.Base, j.i.End()-1)
	switch {
	case isOneOf(err, kerr.MessageTooLarge, kerr.RecordListTooLarge):
		return core.Failf(model.ErrRecordTooLarge, "%s: its %d bytes are more than max.message.bytes of topic %q allows; raise it, and delete and re-create the mirror",
			at, len(j.i.Bytes), j.w.m.topic)
	case errors.Is(err, kerr.PolicyViolation):
		return core.Failf(model.ErrPolicyViolation, "%s: %v%s", at, err, detail)
	case isOneOf(err, kerr.InvalidRecord, kerr.InvalidTimestamp, kerr.UnsupportedForMessageFormat, kerr.UnsupportedCompressionType,
		kerr.InvalidRequest, kerr.InvalidTopicException):
		return core.Failf(model.ErrUnsupportedFormat, "%s: %v%s", at, err, detail)
	case errors.Is(err, errDamaged):
		return core.Failf(model.ErrUnsupportedFormat, "%s: its checksum was wrong each of the %d times that klink fetched it: it is damaged at the source%s", at, corruptionsToBelieve, detail)
	}
	return nil
}

// errDamaged: the checksum of a batch was wrong too often for the network to be the cause.
var errDamaged = errors.New("damaged batch")

// corruptionsToBelieve is how often a batch has to be refused for its checksum before it counts as
// damaged at the source.
const corruptionsToBelieve = 3

func (s *stream) uncertain(j *appendJob, lingering bool, err error) {
	j.done = true
	s.d.r.log.Debug("an append was not confirmed, reading the log back",
		"topic", j.w.m.topic, "partition", j.w.id, "offset", j.i.Base, "broker", s.broker, "error", err)
	j.w.m.counters.Settled.Add(1)
	j.w.step(func(c *core.Partition) core.Effects { return c.Uncertain(lingering) })
}
