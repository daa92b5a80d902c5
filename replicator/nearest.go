package replicator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"klink/internal/retry"
	"klink/replicator/core"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sync/errgroup"
)

// With client.rack a partition is fetched from the follower that its leader prefers for the rack
// (KIP-392). Fetches do not name the rack, so a leader always answers with records. Instead, klink
// asks the leaders for their preferred replicas every now and then. The leader stays the authority:
// core/follower.go says for what, and why a follower's batches are not simply believed.
//
// A preference holds for one leader epoch. Whatever a follower does but answer with records sends
// the partition back to its leader. The leader is asked again once a penalty is over, which grows
// while the follower keeps failing. So without any follower that works, a link with a rack is a
// link without one.

const (
	// minAsk and maxAsk bound the time between two questions to a leader; within the bounds it is
	// half of metadata.max.age.ms.
	minAsk = 100 * time.Millisecond
	maxAsk = time.Minute
	// askTimeout bounds one question.
	askTimeout = 5 * time.Second
	// askPartitions is how many partitions one question is about at most.
	askPartitions = 1000
	// maxPenalty bounds how long a partition stays with its leader after its follower has failed.
	maxPenalty = 5 * time.Minute
	// askAtOnce is how many leaders are asked at the same time.
	askAtOnce = 16
)

// nearest is the replica of a partition that its leader prefers.
type nearest struct {
	replica int32 // a follower; -1 = the leader
	epoch   int32 // of the leader that prefers it
	until   time.Time
	penalty retry.Backoff
}

// fetchFrom returns the broker to fetch a partition from; s.mu is held.
func (s *source) fetchFrom(w *worker, leader, epoch int32) int32 {
	if n := s.nearest[w]; n != nil && n.replica >= 0 && n.epoch == epoch && s.live[n.replica] {
		return n.replica
	}
	return leader
}

// setLive notes which brokers metadata shows; s.mu is held. Those of a foreign cluster are not
// asked.
func (s *source) setLive(resp *kmsg.MetadataResponse, foreign bool) {
	s.live = nil
	if s.cfg.Rack == "" || foreign {
		return
	}
	s.live = make(map[int32]bool, len(resp.Brokers))
	for i := range resp.Brokers {
		s.live[resp.Brokers[i].NodeID] = true
	}
}

// backToLeader ends the preference for a follower. err is what the follower did, nil = nothing: the
// leader has to answer first for another reason.
func (s *source) backToLeader(w *worker, follower int32, err error) {
	s.mu.Lock()
	if n := s.nearest[w]; n != nil && n.replica == follower {
		n.replica = -1
		if err != nil {
			n.until = time.Now().Add(n.penalty.Next())
		}
	}
	s.mu.Unlock()
	if err != nil {
		s.log.Debug("could not fetch a partition from a follower, going back to its leader", "topic", w.m.sourceTopic, "partition", w.id, "broker", follower, "error", err)
	}
	s.refresh()
}

// askAbout is a partition that a leader is asked about.
type askAbout struct {
	w      *worker
	id     [16]byte // of the topic
	epoch  int32
	offset int64
}

// partKey names a partition by its topic's name, or by its id.
type partKey struct {
	topic     string
	id        [16]byte
	partition int32
}

// watchNearest asks the leaders for their preferred replicas until ctx ends.
func (s *source) watchNearest(ctx context.Context) {
	if s.cfg.Rack == "" {
		return
	}
	interval := min(max(s.cfg.MetadataMaxAge/2, minAsk), maxAsk)
	for pause := (retry.Backoff{Low: interval, High: interval}); retry.Sleep(ctx, pause.Next()) == nil; {
		s.leaveSilent(time.Now())
		var asking errgroup.Group
		asking.SetLimit(askAtOnce)
		for leader, all := range s.toAskAbout(time.Now(), interval) {
			asking.Go(func() error {
				for some := range slices.Chunk(all, askPartitions) {
					if err := s.askNearest(ctx, leader, some); err != nil && ctx.Err() == nil {
						s.log.Debug("could not ask a leader for its preferred replicas, will retry", "broker", leader, "error", err)
					}
				}
				return nil
			})
		}
		_ = asking.Wait()
	}
}

// toAskAbout returns the partitions to ask about, by leader, and forgets those that are gone.
func (s *source) toAskAbout(now time.Time, interval time.Duration) map[int32][]askAbout {
	byLeader := map[int32][]askAbout{}
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.nearest
	s.nearest = map[*worker]*nearest{}
	for m := range s.mirrors {
		t, ok := s.topics[m.sourceTopic]
		if !ok || !m.mayFetch() {
			continue
		}
		for _, w := range m.all() {
			n := before[w]
			if n == nil {
				n = &nearest{replica: -1, penalty: retry.Backoff{Low: interval, High: max(interval, maxPenalty)}}
			}
			s.nearest[w] = n
			leader, epoch := t.of(w.id)
			if leader < 0 || !s.live[leader] || now.Before(n.until) {
				continue
			}
			w.mu.Lock()
			may, offset := w.core.MayFollow(epoch), w.core.FetchAt
			w.mu.Unlock()
			if may {
				byLeader[leader] = append(byLeader[leader], askAbout{w, t.id, epoch, offset})
			}
		}
	}
	return byLeader
}

// askNearest asks a leader which replica it prefers for each partition. The question is a fetch of
// next to nothing, outside of sessions. The leader answers with a replica in place of records, and
// tells its end offsets and log start, or sends one batch at most. Brokers below Fetch v11 ignore
// the rack.
func (s *source) askNearest(ctx context.Context, leader int32, about []askAbout) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	slices.SortFunc(about, func(a, b askAbout) int {
		return cmp.Or(cmp.Compare(a.w.m.sourceTopic, b.w.m.sourceTopic), cmp.Compare(a.w.id, b.w.id), cmp.Compare(a.offset, b.offset))
	})
	req := kmsg.NewPtrFetchRequest()
	req.ReplicaID, req.SessionEpoch, req.IsolationLevel, req.Rack = -1, -1, 1, s.cfg.Rack
	req.MaxWaitMillis, req.MinBytes, req.MaxBytes = 0, 0, 1
	asked := map[partKey][]askAbout{} // several if several mirrors have the topic
	for _, a := range about {
		name := a.w.m.sourceTopic
		byName, byID := partKey{topic: name, partition: a.w.id}, partKey{id: a.id, partition: a.w.id}
		asked[byName] = append(asked[byName], a)
		asked[byID] = asked[byName]
		if len(asked[byName]) > 1 {
			continue
		}
		if n := len(req.Topics); n == 0 || req.Topics[n-1].Topic != name {
			t := kmsg.NewFetchRequestTopic()
			t.Topic, t.TopicID = name, a.id
			req.Topics = append(req.Topics, t)
		}
		p := kmsg.NewFetchRequestTopicPartition()
		p.Partition, p.CurrentLeaderEpoch, p.FetchOffset, p.PartitionMaxBytes = a.w.id, a.epoch, a.offset, 1
		t := &req.Topics[len(req.Topics)-1]
		t.Partitions = append(t.Partitions, p)
	}
	resp, err := req.RequestWith(ctx, s.client.Broker(int(leader)))
	if err == nil {
		err = kerr.ErrorForCode(resp.ErrorCode)
	}
	if err != nil {
		return err
	}
	changed := false
	for i := range resp.Topics {
		t := &resp.Topics[i]
		for k := range t.Partitions {
			p := &t.Partitions[k]
			key := partKey{t.Topic, t.TopicID, p.Partition}
			if t.Topic != "" {
				key.id = [16]byte{}
			}
			for _, a := range asked[key] {
				changed = s.prefers(leader, a, p) || changed
			}
		}
	}
	if changed {
		s.refresh()
	}
	return nil
}

// prefers notes a leader's answer about one partition. It reports whether that changes who is
// fetched from.
func (s *source) prefers(leader int32, a askAbout, p *kmsg.FetchResponseTopicPartition) (changed bool) {
	replica := int32(-1)
	if p.ErrorCode == 0 && p.PreferredReadReplica != leader {
		replica = p.PreferredReadReplica
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.nearest[a.w]
	if n == nil || time.Now().Before(n.until) {
		return false
	}
	changed = n.replica != replica || n.epoch != a.epoch
	if !changed && replica >= 0 {
		n.penalty.Reset() // the follower has served since the last question
		a.w.mu.Lock()
		a.w.core.LeaderSaid(a.epoch, p.HighWatermark, p.LastStableOffset, p.LogStartOffset)
		a.w.mu.Unlock()
	}
	n.replica, n.epoch = replica, a.epoch
	return changed
}

// errSilent: a follower has left a fetch without an answer.
var errSilent = errors.New("the broker does not answer a fetch")

// leaveSilent sends partitions back to their leaders if a follower does not answer: the time-out of
// its connection is far longer. Its fetcher is ended, so that it lets go of the partitions.
func (s *source) leaveSilent(now time.Time) {
	s.mu.Lock()
	var of []*worker
	var brokers []int32
	for broker, f := range s.fetchers {
		if sent := f.sentAt.Load(); sent == 0 || now.Sub(time.Unix(0, sent)) < s.cfg.MaxWait+askTimeout {
			continue
		}
		before := len(of)
		for _, t := range *f.topics.Load() {
			for _, p := range t.parts {
				if p.leader != broker {
					of, brokers = append(of, p.w), append(brokers, broker)
				}
			}
		}
		if len(of) > before {
			s.end(f)
		}
	}
	s.mu.Unlock()
	for i, w := range of {
		s.backToLeader(w, brokers[i], errSilent)
	}
}

// follows reports whether a job is, or was begun as, a fetch from a follower.
func (f *fetcher) follows(j *fetchJob) bool { return j.begun.leader != f.broker }

// leave gives a partition back to its leader: this broker, a follower, is asked no more.
func (f *fetcher) leave(j *fetchJob, err error) {
	if !j.left {
		j.left = true
		f.s.backToLeader(j.w, f.broker, err)
	}
}

// leaveAll gives all partitions that the broker does not lead back to their leaders.
func (f *fetcher) leaveAll(err error) {
	for i := range f.session.topics {
		for n := range f.session.topics[i].jobs {
			if j := &f.session.topics[i].jobs[n]; j.part.leader != f.broker {
				f.leave(j, err)
			}
		}
	}
}

// endLeftOut ends, outside of a session, the jobs that the response left out.
func (f *fetcher) endLeftOut() {
	for i := range f.session.topics {
		for n := range f.session.topics[i].jobs {
			j := &f.session.topics[i].jobs[n]
			if !j.out {
				continue
			}
			j.out = false
			j.failed()
			if f.follows(j) {
				f.leave(j, errLeftOut)
			}
		}
	}
}

// unproven handles an answer of a follower that was not taken: it asks the leader about the leader
// epochs of the batches, or gives the partition back to the leader, as err says.
func (f *fetcher) unproven(ctx context.Context, j *fetchJob, ask []core.EpochEnd, err error) {
	if err != nil {
		f.leave(j, err)
		return
	}
	later := *j // the fetcher reuses j
	f.s.r.spawn(func(context.Context) {
		ends, err := f.s.haveEpochs(ctx, later.begun, ask)
		if err != nil {
			if ctx.Err() == nil {
				f.s.backToLeader(later.w, f.broker, err)
			}
			later.failed()
			return
		}
		later.w.mu.Lock()
		later.w.core.Proven(later.gen, later.leader, ends)
		later.w.mu.Unlock()
		f.wake()
	})
}

// haveEpochs asks a leader up to where it has some former leader epochs. An error says, too, that
// it does not have one of them so far.
func (s *source) haveEpochs(ctx context.Context, part fetchedPart, want []core.EpochEnd) (ends []core.EpochEnd, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	for _, e := range want {
		req := kmsg.NewPtrOffsetForLeaderEpochRequest()
		req.ReplicaID = -1
		t, p := kmsg.NewOffsetForLeaderEpochRequestTopic(), kmsg.NewOffsetForLeaderEpochRequestTopicPartition()
		t.Topic = part.w.m.sourceTopic
		p.Partition, p.CurrentLeaderEpoch, p.LeaderEpoch = part.w.id, part.epoch, e.Epoch
		t.Partitions = append(t.Partitions, p)
		req.Topics = append(req.Topics, t)
		resp, err := req.RequestWith(ctx, s.client.Broker(int(part.leader)))
		if err != nil {
			return nil, err
		}
		if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
			return nil, fmt.Errorf("the OffsetForLeaderEpoch response for %s-%d has %d topics", t.Topic, p.Partition, len(resp.Topics))
		}
		got := resp.Topics[0].Partitions[0]
		if err := kerr.ErrorForCode(got.ErrorCode); err != nil {
			return nil, err
		}
		has := core.EpochEnd{Epoch: got.LeaderEpoch, End: got.EndOffset}
		if !has.Covers(e) {
			return nil, fmt.Errorf("the follower has leader epoch %d up to offset %d at least, but its leader has epoch %d up to offset %d", e.Epoch, e.End, has.Epoch, has.End)
		}
		ends = append(ends, has)
	}
	return ends, nil
}
