package replicator

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"klink/admin/model"
	"klink/internal/kafkaclient"
	"klink/internal/retry"
	"klink/replicator/core"
	"klink/replicator/memory"
	"klink/replicator/wire"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	// minPartitionQueue and maxPartitionQueue bound the number of queued bytes at which a partition
	// stops fetching. A short queue is better than a long one: batches that were just read are
	// appended from the processor's caches.
	minPartitionQueue = 16 << 10
	maxPartitionQueue = 1 << 20
	// minReservation is the least budget that a fetch reserves, in bytes.
	minReservation = 64 << 10
	// minPartitionFetch is the least that a fetch asks for of one partition, in bytes. A broker
	// returns one batch of any size for the first partition that has data (KIP-74). For the others
	// it returns nothing if their next batch is larger than the fetch asked for.
	minPartitionFetch = 128 << 10
	// maxFetchBytes is the most that a fetch asks for, farFetchBytes the most for a distant source
	// (reach). Measured with 12 partitions of 127 KB batches: 16 MiB with queues of 4 MiB cost 0.94
	// CPU s/GB, 4 MiB with queues of 1 MiB cost 0.66.
	maxFetchBytes = 4 << 20
	farFetchBytes = 32 << 20
	// partitionRoom is how many bytes a response needs for a partition, besides its records and
	// aborted transactions.
	partitionRoom = 64
	// maxWaitBusy replaces the maximum wait of a fetch that leaves out partitions which may soon
	// want to be fetched: while the broker waits for data of the others it would hold these up.
	maxWaitBusy = 20 * time.Millisecond
	// maxWaitFull replaces it for a fetch that leaves out partitions because their queues are full.
	// A queue stays full for some milliseconds. (A mirror of one partition with batches of 127 KB
	// grew from 90 to 320 MB/s.) The wait grows by waitPerPartition for each partition, up to
	// maxWaitBusy, because a broker looks at all partitions of a session for each fetch.
	maxWaitFull      = 2 * time.Millisecond
	waitPerPartition = 10 * time.Microsecond
)

// fetcher fetches from one broker of a source for the partitions it leads, and for those that it is
// the nearest follower of. One fetch is in flight at a time; its result is queued, and the next
// fetch goes out while the streams append.
//
// The response is read into a frame, and its batches are stamped and queued where they lie. Nothing
// is allocated per fetch, partition or batch in the steady state.
type fetcher struct {
	s       *source
	broker  int32
	topics  atomic.Pointer[[]fetcherTopic] // replaced as leaders change
	kick    chan struct{}
	first   int // rotates, so that no partition is always served last
	cancel  context.CancelFunc
	wait    retry.Backoff
	tools   core.FetchTools
	link    brokerLink
	reach   core.Reach
	session fetchSession
	request wire.FetchRequest
	answer  wire.FetchResponse
	asks    fetchAsks
	// answeredAt is when the last fetch was answered, in Unix nanoseconds; see worker.heard.
	answeredAt atomic.Int64
	waits      atomic.Bool   // a fetch is to be answered: its answer, or none, tells of the broker's health
	sentAt     atomic.Int64  // when the fetch was sent whose answer has not begun, in Unix nanoseconds; 0 = none
	frame      *memory.Frame // holds the response that is being delivered
	inSession  bool          // Replicator.sessions counts this fetcher's session
	leftOut    time.Time     // since when fetches leave partitions out and bring nothing; zero = not so
}

// fetcherTopic is the partitions of a topic that a fetcher fetches. twin is set if another mirror
// copies the same source topic. A fetch names each partition once, so twins take turns.
type fetcherTopic struct {
	m     *mirror
	parts []fetchedPart
	twin  bool
}

// fetchedPart is a partition as the last metadata had it. If the broker that is fetched from is not
// the leader, it is a follower. Leader and epoch belong together: a follower that knows the epoch
// answers a fetch, too, and it must never be taken for the leader.
type fetchedPart struct {
	w      *worker
	leader int32 // broker
	epoch  int32 // of the leader, -1 = unknown
}

// fetchAsks is what a fetch asks for, and which topic and partition it names first.
type fetchAsks struct {
	total, partition int32
	wait             time.Duration
	first            int
}

func newFetcher(s *source, broker int32) *fetcher {
	f := &fetcher{
		s: s, broker: broker, kick: make(chan struct{}, 1), reach: 1,
		wait: retry.Backoff{Low: 100 * time.Millisecond, High: 2 * time.Second},
		link: brokerLink{dialer: s.dialer, at: &s.at, node: broker},
	}
	f.topics.Store(&[]fetcherTopic{})
	f.tools.Recoder.Account = s.r.recoding.Account()
	f.tools.Keep = func(b []byte, alias bool) *memory.Frame {
		if alias {
			f.frame.Keep()
			return f.frame
		}
		return s.r.budget.Frame(0, int64(len(b)))
	}
	return f
}

// wake makes the fetcher look for partitions that want to be fetched.
func (f *fetcher) wake() {
	select {
	case f.kick <- struct{}{}:
	default:
	}
}

func (f *fetcher) run(ctx context.Context) {
	defer func() {
		f.session.end()
		f.countSession()
		f.link.close()
	}()
	for ctx.Err() == nil {
		// Wait out throttling before reserving. Otherwise a source that throttles for long would
		// hold memory that other links wait for.
		if f.link.rest(ctx) != nil {
			return
		}
		reserve := f.s.r.reservation(f.reach.Times(maxFetchBytes, farFetchBytes))
		if f.s.r.budget.Reserve(ctx, reserve) != nil {
			return
		}
		compares, wait := f.collect()
		wait = f.nextWait(wait, time.Now())
		if len(compares) > 0 {
			if err := f.compare(ctx, compares); err != nil && ctx.Err() == nil {
				f.s.r.log.Debug("could not get the ends of leader epochs from the source, retrying", "link", f.s.name, "broker", f.broker, "error", err)
				f.s.refresh()
				_ = retry.Sleep(ctx, f.wait.Next())
			}
			f.wake()
		}
		if f.session.out == 0 {
			f.s.r.budget.Put(reserve)
			f.waits.Store(false)
			f.rest(ctx, wait < f.s.cfg.MaxWait)
			continue
		}
		f.waits.Store(true)
		if err := f.fetch(ctx, reserve, wait); err != nil && ctx.Err() == nil {
			f.leaveAll(err)
			f.s.r.log.Debug("could not fetch from the source, retrying", "link", f.s.name, "broker", f.broker, "error", err)
			f.s.refresh()
			_ = retry.Sleep(ctx, f.wait.Next())
		}
	}
}

// rest waits until a partition may want to be fetched. Partitions that wait out an error do not
// call wake, so a timer ends the wait, too.
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

// collect starts a fetch for each partition that wants one. A partition that must first compare
// what it has seen gets a compare job instead. wait is how long the fetch may wait for data: less
// than maxWait if some partitions are left out only for now.
func (f *fetcher) collect() (compares []*fetchJob, wait time.Duration) {
	wait = f.s.cfg.MaxWait
	s := &f.session
	s.adopt(f.topics.Load())
	limit := int(f.reach.Times(int64(f.s.r.queueLimit(1)), int64(f.s.r.queueLimit(core.MaxReach))))
	now := time.Now()
	f.first++
	s.out = 0
	n, full := 0, false
	for i := range s.topics {
		t := &s.topics[(i+f.first)%len(s.topics)]
		n += len(t.jobs)
		if t.twin && s.asked(t) {
			wait = min(wait, maxWaitBusy)
			for n := range t.jobs {
				t.jobs[n].out = false
			}
			continue
		}
		for n := range t.jobs {
			j := &t.jobs[n]
			got := j.collect(f.broker, limit, now)
			switch got {
			case toLeader:
				f.leave(j, nil)
			case toFetch:
				s.out++
			case toCompare:
				again := *j
				compares = append(compares, &again)
			case fullNow:
				full = true
			}
			if got != toFetch && got != never && got != toLeader {
				wait = min(wait, maxWaitBusy)
			}
		}
	}
	if full {
		wait = min(wait, maxWaitFull+time.Duration(n)*waitPerPartition)
	}
	return compares, wait
}

// nextWait returns the maximum wait of the next fetch, given the one that collect returned.
// Partitions that are left out for longer, such as those without a leader, must not keep the source
// busy: the wait grows to a quarter of the time in which partitions were left out and no data came.
func (f *fetcher) nextWait(wait time.Duration, now time.Time) time.Duration {
	most := f.s.cfg.MaxWait
	if wait >= most {
		f.leftOut = time.Time{}
		return wait
	}
	if f.leftOut.IsZero() {
		f.leftOut = now
	}
	return min(most, max(wait, now.Sub(f.leftOut)/4))
}

// collected is what collect decides about one partition.
type collected uint8

const (
	toFetch   collected = iota // a fetch of it is in flight, started earlier or just now
	toCompare                  // it must compare first
	fullNow                    // its queue is full
	notNow                     // it wants no fetch now
	never                      // it will never want a fetch again
	toLeader                   // a follower cannot be fetched from now
)

// collect starts a fetch of one partition if it wants one.
func (j *fetchJob) collect(broker int32, limit int, now time.Time) collected {
	w := j.w
	if j.left {
		return toLeader
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if j.out && j.gen == w.core.Gen && w.core.Fetching {
		return toFetch
	}
	j.out = false
	offset, ok := w.core.WantsFetch(limit)
	switch {
	case !ok && (w.core.Ended() || w.core.Doomed != nil):
		return never
	case !ok && w.core.State == core.StateRunning && w.core.Queued >= limit:
		return fullNow
	case !ok || now.Before(w.notBefore):
		return notNow
	case j.part.leader != broker && !w.core.MayFollow(j.part.epoch):
		return toLeader
	}
	j.gen, j.offset, j.leader, j.largest, j.answer = w.core.BeginFetch(), offset, j.part.epoch, w.core.Largest, false
	j.begun = j.part
	w.askedAt = now
	if w.core.MustCompare(j.leader) {
		j.seen = w.core.Seen
		return toCompare
	}
	j.out = true
	return toFetch
}

// fetch sends one fetch and delivers its results. The reservation becomes a frame or returns to the
// budget.
func (f *fetcher) fetch(ctx context.Context, reserved int64, wait time.Duration) (err error) {
	s := &f.session
	defer func() {
		if err != nil {
			s.end()
			f.link.close()
		}
		f.countSession()
	}()
	queue := f.reach.Times(int64(f.s.r.queueLimit(1)), int64(f.s.r.queueLimit(core.MaxReach)))
	limit := min(f.reach.Times(int64(f.s.cfg.PartitionBytes), reserved), max(queue, minPartitionFetch))
	f.asks = fetchAsks{
		total: int32(max(reserved-int64(partitionRoom*(s.out+1)), reserved/2)), partition: int32(limit), wait: wait, first: f.first,
	}
	sent := time.Now()
	f.sentAt.Store(sent.UnixNano())
	defer f.sentAt.Store(0)
	conn, err := f.link.send(ctx, f, f.asks.wait)
	if err != nil {
		f.s.r.budget.Put(reserved)
		return err
	}
	size, err := conn.Receive()
	if err != nil {
		f.s.r.budget.Put(reserved)
		return err
	}
	first := time.Now()
	f.sentAt.Store(0)
	fr, err := f.read(conn, reserved, size)
	defer fr.Release()
	if err != nil {
		return err
	}
	transfer := time.Since(first)
	f.answer.Reset(s.version, fr.Mem[:size])
	conn.Throttle(f.answer.ThrottleMillis)
	if err := kerr.ErrorForCode(f.answer.ErrorCode); err != nil {
		if s.granted() && sessionError(err) {
			s.end() // the broker has evicted the session in favour of others
			return nil
		}
		return err
	}
	s.answered(f.answer.SessionID, &f.asks)
	f.answeredAt.Store(first.Add(transfer).UnixNano())
	f.wait.Reset()
	f.s.counters.Fetches.Add(1)
	f.frame = fr
	full, bytes := false, int64(0)
	for f.answer.Next() {
		p := &f.answer.FetchPartition
		n := int64(len(p.Records))
		bytes, full = bytes+n, full || n >= limit*3/4
		f.s.counters.FetchedBytes.Add(n)
		if j := s.find(f.answer.Topic, &f.answer.TopicID, s.version >= wire.FirstFetchWithIDs, p.Partition); j != nil {
			j.out = false
			f.deliver(ctx, j, p)
		}
	}
	f.frame = nil
	if bytes > 0 {
		f.leftOut = time.Time{}
	}
	f.reach.Learn(full || bytes >= int64(f.asks.total)*3/4, first.Sub(sent), transfer)
	if !s.granted() {
		f.endLeftOut()
	}
	return f.answer.Err()
}

// countSession keeps the count of fetch sessions.
func (f *fetcher) countSession() {
	if in := f.session.granted(); in != f.inSession {
		f.inSession = in
		if in {
			f.s.r.sessions.Add(1)
		} else {
			f.s.r.sessions.Add(-1)
		}
	}
}

// read reads a response of size bytes into a frame. The caller releases the frame, even if there is
// an error. Beyond the reservation, read takes memory only as bytes arrive, so a false length costs
// nothing.
func (f *fetcher) read(conn *wire.Conn, reserved int64, size int) (*memory.Frame, error) {
	memory := min(int64(size), max(reserved, maxTrusted))
	if memory > reserved/2 && memory < reserved {
		memory = reserved // one size for all nearly full ones: the pool has a frame of that size
	}
	fr := f.s.r.budget.Read(reserved, memory)
	for used := 0; ; {
		to := min(size, len(fr.Mem))
		if err := conn.Read(fr.Mem[used:to]); err != nil {
			return fr, err
		}
		if used = to; used == size {
			return fr, nil
		}
		fr.Grow(int64(used), int64(min(size, 2*used)))
	}
}

// maxTrusted is how many bytes read allocates on the word of a source, before they arrive. No batch
// of usual size is longer.
const maxTrusted = 1 << 20

// prepare builds the fetch for a connection.
func (f *fetcher) prepare(conn *wire.Conn) (wire.Request, error) {
	version, err := conn.FetchVersion(f.session.ids())
	if err != nil {
		return nil, err
	}
	f.session.prepare(conn, version, f.asks.partition)
	f.session.build(&f.request, f.s.dialer.ClientID(), &f.asks)
	return &f.request, nil
}

// deliver hands one partition's result to its worker.
func (f *fetcher) deliver(ctx context.Context, j *fetchJob, p *wire.FetchPartition) {
	w := j.w
	if p.ErrorCode != 0 {
		f.refused(ctx, j, kerr.ErrorForCode(p.ErrorCode))
		return
	}
	fetched := core.Fetched{
		Records: p.Records, HighWater: p.HighWatermark, Stable: p.LastStable, LogStart: p.LogStart,
		Epoch: j.leader, Aborted: p.Aborted, Tools: &f.tools,
	}
	w.mu.Lock()
	w.heard()
	now := time.Now()
	before, current := len(w.core.Queue), j.gen == w.core.Gen
	f.tools.NoAppendTime = f.s.r.dest.noAppendTime.Load()
	if f.follows(j) {
		e, ask, err := w.core.FetchedFromFollower(j.gen, fetched)
		w.apply(e)
		if err != nil || len(ask) > 0 {
			w.mu.Unlock()
			f.unproven(ctx, j, ask, err)
			return
		}
		f.s.counters.FollowerBytes.Add(int64(len(p.Records)))
	} else {
		w.apply(w.core.Fetched(j.gen, fetched))
	}
	f.s.counters.FetchedBatches.Add(int64(max(0, len(w.core.Queue)-before)))
	first := w.lastFetch.IsZero()
	w.lastFetch = now
	if current { // a stale result says nothing about what has happened since its fetch was sent
		w.notBefore = time.Time{}
		w.fetchWait.Reset()
	}
	w.noteCaughtUp(now)
	w.mu.Unlock()
	w.m.setDenied(nil)
	if first {
		w.m.r.wake()
	}
}

// refused handles an error that the source answers for one partition.
func (f *fetcher) refused(ctx context.Context, j *fetchJob, err error) {
	w := j.w
	switch {
	case f.follows(j):
		j.lost()
		f.leave(j, err)
	case errors.Is(err, kerr.OffsetOutOfRange):
		later := *j // the fetcher reuses j
		w.m.r.spawn(func(context.Context) { f.outOfRange(ctx, &later) })
	case errors.Is(err, kerr.TopicAuthorizationFailed):
		w.m.setDenied(core.Failf(model.ErrAuthorization,
			"the source refuses to let the link read topic %q: grant the link's principal READ on it", w.m.sourceTopic))
		j.failed()
	default:
		// A leader that moved, a topic that is gone, a disk that failed: metadata will tell.
		f.s.r.log.Debug("could not fetch a partition, retrying", "link", f.s.name, "topic", w.m.sourceTopic, "partition", w.id, "error", err)
		j.failed()
		f.s.refresh()
	}
}

// lost gives up the fetch because the broker did not answer. The partition does not wait, because
// the fetcher itself waits before it asks again. So after an outage all partitions go on as soon as
// the broker answers.
func (j *fetchJob) lost() {
	j.answer = true
	j.w.mu.Lock()
	defer j.w.mu.Unlock()
	j.w.core.FetchFailed(j.gen)
}

// failed gives up the fetch and makes the partition wait before the next one.
func (j *fetchJob) failed() {
	j.answer = true
	j.w.mu.Lock()
	defer j.w.mu.Unlock()
	j.w.core.FetchFailed(j.gen)
	j.w.notBefore = time.Now().Add(j.w.fetchWait.Next())
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
		f.s.r.log.Debug("could not get a partition's offsets from the source, retrying", "link", f.s.name, "topic", m.sourceTopic, "partition", j.w.id, "error", err)
		f.s.refresh()
		j.failed()
		return
	}
	j.w.step(func(p *core.Partition) core.Effects { return p.OutOfRange(j.gen, start, end) })
	j.w.mu.Lock()
	j.w.notBefore = time.Now().Add(j.w.fetchWait.Next())
	j.w.mu.Unlock()
	f.wake()
}

// Special timestamps in ListOffsets.
const (
	timestampLatest   = -1
	timestampEarliest = -2
)

// listOffset asks a broker for one offset of a partition it leads.
func (s *source) listOffset(ctx context.Context, broker int32, topic string, partition int32, timestamp int64) (int64, error) {
	of := kafkaclient.OnePartition{Topic: topic, Partition: partition, Epoch: kafkaclient.AnyEpoch}
	return listOffset(ctx, s.client.Broker(int(broker)), -1, timestamp, of)
}

// requester sends requests to a broker.
type requester interface {
	Request(context.Context, kmsg.Request) (kmsg.Response, error)
}

// listOffset asks for one offset. replica is the replica id of the request, -1 for a client.
func listOffset(ctx context.Context, to requester, replica int32, timestamp int64, of kafkaclient.OnePartition) (int64, error) {
	r, err := of.ListOffset(ctx, to, replica, kafkaclient.ReadUncommitted, timestamp)
	switch {
	case r == nil:
		return 0, err
	case err != nil:
		return 0, fmt.Errorf("ListOffsets for %s-%d: %w", of.Topic, of.Partition, err)
	case r.Offset < 0:
		return 0, fmt.Errorf("ListOffsets for %s-%d returned offset %d", of.Topic, of.Partition, r.Offset)
	}
	return r.Offset, nil
}
