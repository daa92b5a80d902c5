package replicator

import (
	"context"
	"errors"
	"fmt"
	"net"

	"klink/admin"
	"klink/protocol/batch"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
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

// appendJob is one batch in a produce request.
type appendJob struct {
	w    *worker
	i    item
	done bool // its result has been delivered
}

// lane sends one request after the other and delivers their results, until the context ends.
func (s *stream) lane(ctx context.Context, to *kgo.Broker) {
	for {
		r := s.units.next(ctx)
		if r == nil {
			return
		}
		answered := func() { s.units.answered(r) }
		if jobs := s.jobs(r); len(jobs) > 0 && r.kind == markerUnits {
			s.writeMarkers(s.d.r.owner.appends(), to, jobs, answered)
		} else if len(jobs) > 0 {
			s.produce(s.d.r.owner.appends(), to, jobs, answered)
		}
		s.units.done(r)
	}
}

// jobs takes the units of a request. There may be fewer than workers, as some have none any more.
func (s *stream) jobs(r *request) []*appendJob {
	jobs := make([]*appendJob, 0, len(r.workers))
	for _, w := range r.workers {
		if i, ok := w.take(s, r.kind); ok {
			jobs = append(jobs, &appendJob{w: w, i: i})
		}
	}
	return jobs
}

// produce appends one batch of each job and delivers every result; answered is called before.
func (s *stream) produce(ctx context.Context, to *kgo.Broker, jobs []*appendJob, answered func()) {
	req, index := s.request(jobs)
	kresp, err := to.Request(ctx, req)
	answered()
	if err != nil {
		lingering := !neverSent(err)
		for _, j := range jobs {
			s.uncertain(j, lingering, err)
		}
		return
	}
	c := s.d.r.metrics
	c.produces.Add(1)
	resp := kresp.(*kmsg.ProduceResponse)
	for i := range resp.Topics {
		t := &resp.Topics[i]
		for k := range t.Partitions {
			p := &t.Partitions[k]
			if j := index[produceKey(req.Version, t.Topic, t.TopicID, p.Partition)]; j != nil && !j.done {
				s.deliver(j, p)
			}
		}
	}
	for _, j := range jobs {
		if !j.done {
			s.uncertain(j, false, errors.New("the response leaves it out"))
		}
	}
}

// produceKey is the key of a partition in a Produce of this version; ids replace names from v13 on (KIP-516).
func produceKey(version int16, topic string, id [16]byte, partition int32) partitionKey {
	if version >= 13 {
		return partitionKey{id: id, partition: partition}
	}
	return partitionKey{topic: topic, partition: partition}
}

// request builds the request. The version is negotiated when it is sent, so partitions are indexed by both their names.
func (s *stream) request(jobs []*appendJob) (*kmsg.ProduceRequest, map[partitionKey]*appendJob) {
	req := kmsg.NewPtrProduceRequest()
	req.Acks = -1
	req.TimeoutMillis = produceTimeoutMs
	index := make(map[partitionKey]*appendJob, 2*len(jobs))
	byTopic := make(map[*mirror]int)
	for _, j := range jobs {
		m := j.w.m
		at, ok := byTopic[m]
		if !ok {
			at = len(req.Topics)
			byTopic[m] = at
			t := kmsg.NewProduceRequestTopic()
			t.Topic, t.TopicID = m.topic, m.topicID
			req.Topics = append(req.Topics, t)
		}
		t := &req.Topics[at]
		p := kmsg.NewProduceRequestTopicPartition()
		p.Partition = j.w.id
		p.Records = j.i.bytes
		t.Partitions = append(t.Partitions, p)
		index[partitionKey{topic: t.Topic, partition: p.Partition}] = j
		index[partitionKey{id: t.TopicID, partition: p.Partition}] = j
	}
	return req, index
}

// deliver hands the result of one append to its worker.
func (s *stream) deliver(j *appendJob, p *kmsg.ProduceResponseTopicPartition) {
	err := kerr.ErrorForCode(p.ErrorCode)
	if err == nil {
		j.done = true
		j.w.appended(p.BaseOffset, len(j.i.bytes))
		return
	}
	detail := ""
	if p.ErrorMessage != nil {
		detail = ": " + *p.ErrorMessage
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
	case err == kerr.CorruptMessage && j.w.corrupted(j.i.base) < corruptionsToBelieve:
		// Fetched once more, it may be whole.
	case err == kerr.CorruptMessage:
		err = errDamaged
	}
	if f := refusal(j, err, detail); f != nil && (!mayBeForConfig(err) || j.w.refusedForConfig(j.i.base, f)) {
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

// neverSent says that a request failed before any of it was sent.
func neverSent(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}
