package replicator

import (
	"context"
	"errors"
	"fmt"
	"time"

	"klink/admin"
	"klink/protocol/batch"
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

// stream appends what partitions have for one broker of the destination, over several connections (lanes): a broker handles
// one request of a connection at a time. What goes in a request is the combiner's decision.
type stream struct {
	d      *destination
	broker int32
	units  *combiner
}

// appendJob is one unit in a request.
type appendJob struct {
	w    *worker
	i    item // frame is only set if it was joined
	next int  // of the same topic, -1 = none; see lane.group
	done bool // its result has been delivered
	// joined is how many batches the item was joined of, 0 = it is as it came; before is how many
	// bytes they had.
	joined, before int
}

// lane is one connection of a stream: it sends one request after the other and delivers their results. Nothing is allocated
// per request or batch in the steady state: all that a request needs is used again for the next one.
type lane struct {
	s       *stream
	to      *kgo.Broker // for markers
	link    brokerLink
	wait    backoff // after a failure to connect
	jobs    []appendJob
	topics  []laneTopic
	byTopic map[*mirror]int
	names   order
	places  []int // in jobs, in the order of names
	request wire.ProduceRequest
	answer  wire.ProduceResponse
	body    []byte
	recoder batch.Recoder // joins
	joining [][]byte
}

// laneTopic is the jobs of a topic in a request.
type laneTopic struct {
	m           *mirror
	first, last int // in jobs
	n           int
}

func newLane(s *stream, cl *kgo.Client) *lane {
	return &lane{
		s: s, to: cl.Broker(int(s.broker)), byTopic: map[*mirror]int{},
		wait: backoff{low: 50 * time.Millisecond, high: time.Second},
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
		if l.take(r); len(l.jobs) > 0 && r.kind == markerUnits {
			l.s.writeMarkers(l.s.d.r.owner.appends(), l.to, l.jobs, func() { units.answered(r) })
		} else if len(l.jobs) > 0 {
			l.produce(l.s.d.r.owner.appends(), r)
			l.release()
		}
		units.done(r)
	}
}

// take takes the units of a request. There may be fewer than workers, as some have none any more.
func (l *lane) take(r *request) {
	clear(l.jobs) // what is done holds no memory
	l.jobs = l.jobs[:0]
	room := maxProduceBytes // for joined batches: the queue's first ones go in any case
	for _, w := range r.workers {
		if j, ok := w.take(l, r.kind, joinRule{most: max(room, 0)}); ok {
			room -= len(j.i.bytes)
			l.jobs = append(l.jobs, j)
		}
	}
	clear(l.joining[:cap(l.joining)])
}

// release gives the memory of joined batches back.
func (l *lane) release() {
	for n := range l.jobs {
		if f := l.jobs[n].i.frame; f != nil {
			l.jobs[n].i.frame = nil
			f.release()
		}
	}
}

// produce appends one batch of each job and delivers every result.
func (l *lane) produce(ctx context.Context, r *request) {
	l.group()
	body, err := l.exchange(ctx)
	l.s.units.answered(r)
	if err != nil {
		lingering := !neverSent(err)
		for n := range l.jobs {
			l.s.uncertain(&l.jobs[n], lingering, err)
		}
		return
	}
	l.s.d.r.metrics.produces.Add(1)
	version := l.request.Version()
	for l.answer.Reset(version, body); l.answer.Next(); {
		p := &l.answer.ProducePartition
		if at := l.names.find(l.answer.Topic, &l.answer.TopicID, version >= wire.FirstProduceWithIDs, p.Partition); at >= 0 {
			if j := &l.jobs[l.places[at]]; !j.done {
				l.s.deliver(j, p)
			}
		}
	}
	err = l.answer.Err()
	if err != nil {
		l.link.close()
	} else {
		l.link.conn.Throttle(l.answer.ThrottleMillis)
		err = errLeftOut
	}
	for n := range l.jobs {
		if j := &l.jobs[n]; !j.done {
			l.s.uncertain(j, false, err)
		}
	}
}

var errLeftOut = errors.New("the response leaves it out")

// exchange sends the request and gives the body of its answer, which is valid until the next.
func (l *lane) exchange(ctx context.Context) ([]byte, error) {
	conn, err := l.link.send(ctx, l, produceTimeoutMs*time.Millisecond)
	if err != nil {
		if ctx.Err() == nil && neverSent(err) {
			sleep(ctx, l.wait.next()) // else a broker that cannot be reached would be tried without a pause
		}
		return nil, err
	}
	l.wait.reset()
	size, err := conn.Receive()
	if err == nil && size > maxAnswer {
		err = fmt.Errorf("%w: Produce was answered with %d bytes", wire.ErrMalformed, size)
	}
	if err == nil {
		if size > cap(l.body) {
			l.body = make([]byte, size)
		}
		err = conn.Read(l.body[:size])
	}
	if err != nil {
		l.link.close()
		return nil, err
	}
	return l.body[:size], nil
}

// maxAnswer bounds the answer to a produce request in bytes: maxProducePartitions with an error message each.
const maxAnswer = 4 << 20

// group finds the topics of the jobs. A request names each once.
func (l *lane) group() {
	clear(l.topics)
	l.topics = l.topics[:0]
	clear(l.byTopic)
	for n := range l.jobs {
		m := l.jobs[n].w.m
		at, ok := l.byTopic[m]
		if !ok {
			l.byTopic[m] = len(l.topics)
			l.topics = append(l.topics, laneTopic{m, n, n, 1})
			continue
		}
		t := &l.topics[at]
		l.jobs[t.last].next = n
		t.last, t.n = n, t.n+1
	}
}

// prepare builds the request of the jobs, for a connection.
func (l *lane) prepare(conn *wire.Conn) (wire.Request, error) {
	ids := true
	for i := range l.topics {
		ids = ids && l.topics[i].m.topicID != [16]byte{}
	}
	version, err := conn.ProduceVersion(ids)
	if err != nil {
		return nil, err
	}
	l.names.reset()
	l.places = l.places[:0]
	r := &l.request
	r.Begin(version, l.s.d.dialer.ClientID(), produceTimeoutMs, len(l.topics))
	for i := range l.topics {
		t := &l.topics[i]
		r.Topic(t.m.topic, &t.m.topicID, t.n)
		l.names.addTopic(t.m.topic, t.m.topicID)
		for n := t.first; n >= 0; n = l.jobs[n].next {
			j := &l.jobs[n]
			r.Partition(j.w.id, j.i.bytes)
			l.names.add(j.w.id)
			l.places = append(l.places, n)
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
			j.w.step(func(c *partition) effects { return c.rewritten(f) })
		}
		return
	}
	detail := ""
	if len(p.Message) > 0 {
		detail = ": " + string(p.Message)
	}
	switch {
	case err == kerr.TopicAuthorizationFailed || err == kerr.ClusterAuthorizationFailed:
		// An ACL can be put right; failing the mirror could not.
		j.w.denied()
	case err == kerr.NotEnoughReplicas || err == kerr.NotEnoughReplicasAfterAppend:
		j.w.shortOfReplicas(true)
	case err == kerr.InvalidTimestamp && batch.Header(j.i.bytes).LogAppendTime():
		// An old broker, most likely. Fetched once more, the batch comes without the bit, and is appended or refused for good.
		if !s.d.noAppendTime.Swap(true) {
			s.d.r.log.Info("the destination refuses batches with the LogAppendTime bit: each record gets the time of its append for its own",
				"topic", j.w.m.topic, "partition", j.w.id, "offset", j.i.base, "broker", s.broker)
		}
		s.uncertain(j, false, err)
		return
	case err == kerr.UnknownServerError:
		// So old brokers answer a batch that they cannot put into the topic's older format. Nothing is lost, and it is no final
		// answer; but the topic's configs are to be looked at now.
		j.w.refusedForConfig(j.i.base, failf(admin.ErrUnsupportedFormat, "%s-%d: the destination fails on a batch", j.w.m.topic, j.w.id))
	case err == kerr.CorruptMessage && j.w.corrupted(j.i.base) < corruptionsToBelieve:
		// Fetched once more, it may be whole.
	case err == kerr.CorruptMessage:
		err = errDamaged
	}
	if f := refusal(j, err, detail); f != nil && j.joined > 0 {
		// It is not known which of the batches is meant. One by one they are appended, but for that
		// one.
		j.w.refusedJoined(j, err)
		s.uncertain(j, false, fmt.Errorf("%w%s", err, detail))
		return
	} else if f != nil && (!mayBeForConfig(err) || j.w.refusedForConfig(j.i.base, f)) {
		j.done = true
		j.w.step(func(c *partition) effects { return c.rejected(f) })
		return
	}
	s.uncertain(j, false, fmt.Errorf("%w%s", err, detail))
}

// refusal is the failure of a batch that was not appended and never can be, as long as the topic's configs are what they are; nil
// if another attempt may succeed, or if it may have been appended after all.
func refusal(j *appendJob, err error, detail string) *failure {
	at := fmt.Sprintf("%s-%d: the destination refuses the batch of source offsets %d to %d", j.w.m.topic, j.w.id, j.i.base, j.i.end()-1)
	switch err {
	case kerr.MessageTooLarge, kerr.RecordListTooLarge:
		return failf(admin.ErrRecordTooLarge, "%s: its %d bytes are more than max.message.bytes of topic %q allows; raise it, and delete and re-create the mirror",
			at, len(j.i.bytes), j.w.m.topic)
	case kerr.PolicyViolation:
		return failf(admin.ErrPolicyViolation, "%s: %v%s", at, err, detail)
	case kerr.InvalidRecord, kerr.InvalidTimestamp, kerr.UnsupportedForMessageFormat, kerr.UnsupportedCompressionType, kerr.InvalidRequest, kerr.InvalidTopicException:
		return failf(admin.ErrUnsupportedFormat, "%s: %v%s", at, err, detail)
	case errDamaged:
		return failf(admin.ErrUnsupportedFormat, "%s: its checksum does not fit, each of the %d times that it was fetched: it is damaged at the source%s", at, corruptionsToBelieve, detail)
	}
	return nil
}

// errDamaged: the checksum of a batch was wrong too often to be the network's fault.
var errDamaged = errors.New("damaged batch")

// corruptionsToBelieve is how often a batch has to be refused for its checksum to count as damaged at the source.
const corruptionsToBelieve = 3

func (s *stream) uncertain(j *appendJob, lingering bool, err error) {
	j.done = true
	s.d.r.log.Debug("an append was not confirmed, reading the log back",
		"topic", j.w.m.topic, "partition", j.w.id, "offset", j.i.base, "broker", s.broker, "error", err)
	j.w.m.counters.Settled.Add(1)
	j.w.step(func(c *partition) effects { return c.uncertain(lingering) })
}
