package replicator

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"klink/admin"
	"klink/protocol/batch"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	// minPartitionQueue and maxPartitionQueue bound how many bytes a partition queues before its fetching pauses.
	minPartitionQueue = 16 << 10
	maxPartitionQueue = 4 << 20
	// minReservation is the least that a fetch asks for.
	minReservation = 64 << 10
	// minPartitionFetch is the least that a fetch asks for of one partition. A broker gives one batch of any size for the
	// first partition that has data (KIP-74), and for the others nothing if their next batch is larger than was asked for.
	minPartitionFetch = 128 << 10
	// maxFetchBytes is the most that a fetch asks for.
	maxFetchBytes = 16 << 20
	// readCommitted is the isolation level of the fetches: nothing above the last stable offset is seen.
	readCommitted = 1
	// maxWaitBusy replaces the maximum wait of a fetch while partitions are left out that may soon want to be fetched: a
	// fetch that waits for others' data would hold them up.
	maxWaitBusy = 20 * time.Millisecond
)

// fetcher fetches from one broker of a source for the partitions it leads. One fetch is in flight at a time; its result is
// queued, and the next fetch goes out while the streams append.
type fetcher struct {
	s       *source
	broker  int32
	workers atomic.Pointer[[]*worker] // replaced as leaders change
	kick    chan struct{}
	first   int // rotates, so that no partition is always served last
	cancel  context.CancelFunc
	wait    backoff
	tools   fetchTools
	aborted []batch.AbortedTransaction // reused
}

func newFetcher(s *source, broker int32) *fetcher {
	f := &fetcher{
		s: s, broker: broker, kick: make(chan struct{}, 1),
		wait: backoff{low: 100 * time.Millisecond, high: 2 * time.Second},
	}
	f.workers.Store(&[]*worker{})
	return f
}

// wake lets the fetcher look for partitions that want to be fetched.
func (f *fetcher) wake() {
	select {
	case f.kick <- struct{}{}:
	default:
	}
}

// fetchJob is one partition in a fetch.
type fetchJob struct {
	w      *worker
	gen    uint32
	offset int64
	leader int32    // the source's leader epoch that it is made under, -1 = unknown
	seen   epochEnd // of a job that does not fetch but compare: what with
	answer bool     // its result has been delivered
}

func (f *fetcher) run(ctx context.Context) {
	for ctx.Err() == nil {
		reserve := f.s.r.reservation(maxFetchBytes)
		if f.s.r.budget.reserve(ctx, reserve) != nil {
			return
		}
		jobs, compares, busy := f.collect()
		if len(compares) > 0 {
			if err := f.compare(ctx, compares); err != nil && ctx.Err() == nil {
				f.s.r.log.Debug("asking the source for the ends of leader epochs failed, retrying", "link", f.s.name, "broker", f.broker, "error", err)
				f.s.refresh()
				sleep(ctx, f.wait.next())
			}
			f.wake()
		}
		if len(jobs) == 0 {
			f.s.r.budget.put(reserve)
			f.rest(ctx, busy)
			continue
		}
		if err := f.fetch(ctx, jobs, reserve, busy); err != nil && ctx.Err() == nil {
			f.s.r.log.Debug("fetch from the source failed, retrying", "link", f.s.name, "broker", f.broker, "error", err)
			f.s.refresh()
			sleep(ctx, f.wait.next())
		}
	}
}

// rest waits until a partition may want to be fetched. Those that wait out an error do not wake, hence the timer.
func (f *fetcher) rest(ctx context.Context, busy bool) {
	d := time.Second
	if busy {
		d = 50 * time.Millisecond
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-f.kick:
	case <-t.C:
	case <-ctx.Done():
	}
}

// collect begins a fetch for every partition that wants one, or, where what was seen has to be compared first, that. busy says
// that some are left out only for now.
func (f *fetcher) collect() (jobs, compares []*fetchJob, busy bool) {
	workers := *f.workers.Load()
	limit := f.s.r.queueLimit()
	now := time.Now()
	f.first++
	for n := range workers {
		w := workers[(n+f.first)%len(workers)]
		w.mu.Lock()
		offset, ok := w.core.wantsFetch(limit)
		if ok && now.Before(w.notBefore) {
			ok, busy = false, true
		} else if !ok && !w.core.ended() && w.core.doomed == nil {
			busy = true
		}
		if ok {
			j := &fetchJob{w: w, gen: w.core.beginFetch(), offset: offset, leader: w.leader.Load()}
			if w.core.mustCompare(j.leader) {
				j.seen = w.core.seen
				compares, busy = append(compares, j), true
			} else {
				jobs = append(jobs, j)
			}
		}
		w.mu.Unlock()
	}
	return jobs, compares, busy
}

// fetch sends one fetch and delivers what it brings. The reservation becomes a frame or is given back.
func (f *fetcher) fetch(ctx context.Context, jobs []*fetchJob, reserved int64, busy bool) error {
	answered := false
	defer func() {
		for _, j := range jobs {
			switch {
			case j.answer:
			case answered:
				j.failed()
			default:
				j.lost()
			}
		}
	}()
	req, index := f.request(jobs, reserved, busy)
	kresp, err := f.s.client.Broker(int(f.broker)).Request(ctx, req)
	if err != nil {
		f.s.r.budget.put(reserved)
		return err
	}
	resp := kresp.(*kmsg.FetchResponse)
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		f.s.r.budget.put(reserved)
		return err
	}
	answered = true
	f.wait.reset()
	var size int64
	for i := range resp.Topics {
		for j := range resp.Topics[i].Partitions {
			size += int64(len(resp.Topics[i].Partitions[j].RecordBatches))
		}
	}
	fr := f.s.r.budget.frame(reserved, size)
	defer fr.release()
	f.s.counters.Fetches.Add(1)
	f.s.counters.FetchedBytes.Add(size)
	for i := range resp.Topics {
		t := &resp.Topics[i]
		for k := range t.Partitions {
			p := &t.Partitions[k]
			if j := index[fetchKey(req.Version, t.Topic, t.TopicID, p.Partition)]; j != nil && !j.answer {
				j.answer = true
				f.deliver(ctx, j, p, fr)
			}
		}
	}
	return nil
}

// partitionKey names a partition in a request or response: by topic name, or by topic id in the versions that have it.
type partitionKey struct {
	topic     string
	id        [16]byte
	partition int32
}

// fetchKey is the key of a partition in a Fetch of this version; ids replace names from v13 on (KIP-516).
func fetchKey(version int16, topic string, id [16]byte, partition int32) partitionKey {
	if version >= 13 {
		return partitionKey{id: id, partition: partition}
	}
	return partitionKey{topic: topic, partition: partition}
}

// request builds the fetch. The version is negotiated when it is sent, so partitions are indexed by both their names.
func (f *fetcher) request(jobs []*fetchJob, reserved int64, busy bool) (*kmsg.FetchRequest, map[partitionKey]*fetchJob) {
	req := kmsg.NewPtrFetchRequest()
	req.ReplicaID = -1
	req.MaxWaitMillis = int32(f.s.cfg.maxWait.Milliseconds())
	if busy {
		req.MaxWaitMillis = int32(min(f.s.cfg.maxWait, maxWaitBusy).Milliseconds())
	}
	req.MinBytes = 1
	req.MaxBytes = int32(reserved)
	req.IsolationLevel = readCommitted
	req.SessionEpoch = -1 // no session
	index := make(map[partitionKey]*fetchJob, 2*len(jobs))
	byTopic := make(map[*mirror]int)
	limit := min(int(f.s.cfg.partitionBytes), max(f.s.r.queueLimit(), minPartitionFetch))
	for _, j := range jobs {
		m := j.w.m
		at, ok := byTopic[m]
		if !ok {
			at = len(req.Topics)
			byTopic[m] = at
			t := kmsg.NewFetchRequestTopic()
			t.Topic, t.TopicID = m.sourceTopic, m.id()
			req.Topics = append(req.Topics, t)
		}
		t := &req.Topics[at]
		p := kmsg.NewFetchRequestTopicPartition()
		p.Partition = j.w.id
		p.FetchOffset = j.offset
		p.CurrentLeaderEpoch = j.leader
		j.w.mu.Lock()
		p.PartitionMaxBytes = int32(max(limit, j.w.core.largest))
		j.w.mu.Unlock()
		t.Partitions = append(t.Partitions, p)
		index[partitionKey{topic: t.Topic, partition: p.Partition}] = j
		index[partitionKey{id: t.TopicID, partition: p.Partition}] = j
	}
	return req, index
}

// deliver hands one partition's result to its worker.
func (f *fetcher) deliver(ctx context.Context, j *fetchJob, p *kmsg.FetchResponseTopicPartition, fr *frame) {
	w := j.w
	switch err := kerr.ErrorForCode(p.ErrorCode); err {
	case nil:
		w.mu.Lock()
		now := time.Now()
		before, current := len(w.core.queue), j.gen == w.core.gen
		aborted := f.aborted[:0]
		for _, a := range p.AbortedTransactions {
			aborted = append(aborted, batch.AbortedTransaction{ProducerID: a.ProducerID, FirstOffset: a.FirstOffset})
		}
		f.aborted = aborted
		f.tools.keep = func(b []byte, alias bool) *frame {
			if alias {
				fr.keep()
				return fr
			}
			return f.s.r.budget.frame(0, int64(len(b)))
		}
		f.tools.noAppendTime = f.s.r.dest.noAppendTime.Load()
		w.apply(w.core.fetched(j.gen, fetched{
			records: p.RecordBatches, highWater: p.HighWatermark, stable: p.LastStableOffset, logStart: p.LogStartOffset,
			epoch: j.leader, aborted: aborted, tools: &f.tools,
		}))
		f.s.counters.FetchedBatches.Add(int64(max(0, len(w.core.queue)-before)))
		first := w.lastFetch.IsZero()
		w.lastFetch = now
		if current { // else it says nothing of what has happened since it was sent
			w.notBefore = time.Time{}
			w.fetchWait.reset()
		}
		w.noteCaughtUp(now)
		w.mu.Unlock()
		w.m.setDenied(nil)
		if first {
			w.m.r.wake()
		}
	case kerr.OffsetOutOfRange:
		w.m.r.spawn(func(life context.Context) { f.outOfRange(ctx, j) })
	case kerr.TopicAuthorizationFailed:
		w.m.setDenied(failf(admin.ErrAuthorization,
			"the source refuses to let topic %q be read: grant the link's principal READ on it", w.m.sourceTopic))
		j.failed()
	default:
		// A leader that moved, a topic that is gone, a disk that failed: metadata will tell.
		f.s.r.log.Debug("fetch of a partition failed, retrying", "link", f.s.name, "topic", w.m.sourceTopic, "partition", w.id, "error", err)
		j.failed()
		f.s.refresh()
	}
}

// lost gives the fetch up because the broker did not answer. The fetcher waits before it asks again, and the partition has
// not to wait in addition: after an outage all partitions go on as soon as the broker answers.
func (j *fetchJob) lost() {
	j.answer = true
	j.w.mu.Lock()
	defer j.w.mu.Unlock()
	j.w.core.fetchFailed(j.gen)
}

// failed gives the fetch up and lets the partition wait before the next.
func (j *fetchJob) failed() {
	j.answer = true
	j.w.mu.Lock()
	defer j.w.mu.Unlock()
	j.w.core.fetchFailed(j.gen)
	j.w.notBefore = time.Now().Add(j.w.fetchWait.next())
}

// outOfRange asks where the source's log begins and ends, and tells the worker.
func (f *fetcher) outOfRange(ctx context.Context, j *fetchJob) {
	m := j.w.m
	start, err := f.s.listOffset(ctx, f.broker, m.sourceTopic, j.w.id, timestampEarliest)
	var end int64
	if err == nil {
		end, err = f.s.listOffset(ctx, f.broker, m.sourceTopic, j.w.id, timestampLatest)
	}
	if err != nil {
		f.s.r.log.Debug("asking a source for a partition's offsets failed, retrying", "link", f.s.name, "topic", m.sourceTopic, "partition", j.w.id, "error", err)
		f.s.refresh()
		j.failed()
		return
	}
	j.w.step(func(p *partition) effects { return p.outOfRange(j.gen, start, end) })
	j.w.mu.Lock()
	j.w.notBefore = time.Now().Add(j.w.fetchWait.next())
	j.w.mu.Unlock()
	f.wake()
}

// The timestamps with a meaning in ListOffsets.
const (
	timestampLatest   = -1
	timestampEarliest = -2
)

// listOffset asks a broker for one offset of a partition it leads.
func (s *source) listOffset(ctx context.Context, broker int32, topic string, partition int32, timestamp int64) (int64, error) {
	p := kmsg.NewListOffsetsRequestTopicPartition()
	p.Partition = partition
	p.CurrentLeaderEpoch = -1
	p.Timestamp = timestamp
	p.MaxNumOffsets = 1
	return listOffset(ctx, s.client.Broker(int(broker)), -1, topic, p)
}

// requester is a broker to send to.
type requester interface {
	Request(context.Context, kmsg.Request) (kmsg.Response, error)
}

// listOffset asks for one offset as replica, -1 for a client.
func listOffset(ctx context.Context, to requester, replica int32, topic string, p kmsg.ListOffsetsRequestTopicPartition) (int64, error) {
	req := kmsg.NewPtrListOffsetsRequest()
	req.ReplicaID = replica
	t := kmsg.NewListOffsetsRequestTopic()
	t.Topic = topic
	t.Partitions = append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	kresp, err := to.Request(ctx, req)
	if err != nil {
		return 0, err
	}
	resp := kresp.(*kmsg.ListOffsetsResponse)
	if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
		return 0, fmt.Errorf("ListOffsets for %s-%d was answered for %d topics", topic, p.Partition, len(resp.Topics))
	}
	r := resp.Topics[0].Partitions[0]
	if err := kerr.ErrorForCode(r.ErrorCode); err != nil {
		return 0, fmt.Errorf("ListOffsets for %s-%d: %w", topic, p.Partition, err)
	}
	if r.Offset < 0 {
		return 0, fmt.Errorf("ListOffsets for %s-%d answered offset %d", topic, p.Partition, r.Offset)
	}
	return r.Offset, nil
}
