package replicator

import (
	"context"
	"errors"
	"fmt"
	"time"

	"klink/admin/model"
	"klink/replicator/core"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// metadata sends a Metadata request to the source, and returns when ctx ends at the latest. The
// client itself may take longer, while it connects to a silent broker. What it still waits for then
// ends by its own time-outs.
func (s *source) metadata(ctx context.Context, req *kmsg.MetadataRequest) (*kmsg.MetadataResponse, error) {
	type answer struct {
		resp *kmsg.MetadataResponse
		err  error
	}
	got := make(chan answer, 1)
	go func() {
		resp, err := req.RequestWith(ctx, s.client)
		got <- answer{resp, err}
	}()
	select {
	case a := <-got:
		return a.resp, a.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// check asks the source for metadata: of all mirrored topics if full, else of none, which shows
// only that the source answers. again says that a finding has to be confirmed soon.
func (s *source) check(ctx context.Context, full bool, spawn func(*fetcher)) (again bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	var mirrors []*mirror
	if full {
		mirrors = s.mirrorsNow()
	}
	req := kmsg.NewPtrMetadataRequest()
	req.Topics = []kmsg.MetadataRequestTopic{} // none; null would be all
	asked := map[string]bool{}
	for _, m := range mirrors {
		if !asked[m.sourceTopic] {
			asked[m.sourceTopic] = true
			t := kmsg.NewMetadataRequestTopic()
			t.Topic = kmsg.StringPtr(m.sourceTopic)
			req.Topics = append(req.Topics, t)
		}
	}
	elsewhere, none := s.mirroredElsewhere(asked)
	for topic := range elsewhere {
		if full {
			t := kmsg.NewMetadataRequestTopic()
			t.Topic = kmsg.StringPtr(topic)
			req.Topics = append(req.Topics, t)
		}
	}
	resp, err := s.metadata(ctx, req)
	if err != nil {
		return false, err
	}
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		return false, err
	}
	clusterID := ""
	if resp.ClusterID != nil {
		clusterID = *resp.ClusterID
	}
	s.at.learn(resp.Brokers)
	s.ok(clusterID)
	if !full {
		return false, nil
	}
	answers := map[string]*kmsg.MetadataResponseTopic{}
	for i := range resp.Topics {
		if t := &resp.Topics[i]; t.Topic != nil {
			answers[*t.Topic] = t
		}
	}
	// bootstrap.servers may lead to another cluster than the one mirrored so far, and that one may
	// have topics of the same names. The next report gives Control the cluster's id, and Control
	// then fails the link.
	foreign := false
	if link := s.r.cfg.Control.State().Links[s.name]; link != nil {
		foreign = link.SourceClusterID != "" && clusterID != "" && clusterID != link.SourceClusterID
	}
	for _, m := range mirrors {
		if foreign {
			break
		}
		again = s.observe(ctx, m, answers[m.sourceTopic]) || again
	}
	if !foreign {
		s.setBrokers(resp, none)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.setLive(resp, foreign)
	s.assign(spawn, foreign)
	return again || foreign, nil
}

// observe examines the metadata of one mirror's topic. again says that a finding has to be
// confirmed soon.
func (s *source) observe(ctx context.Context, m *mirror, t *kmsg.MetadataResponseTopic) (again bool) {
	if t == nil {
		return true
	}
	switch err := kerr.ErrorForCode(t.ErrorCode); {
	case err == nil, errors.Is(err, kerr.LeaderNotAvailable):
	case errors.Is(err, kerr.UnknownTopicOrPartition):
		return m.suspect(core.Failf(model.ErrSourceTopicMayBeDeleted,
			"the source has no topic %q: it may have been deleted, or the link's principal may not DESCRIBE it", m.sourceTopic))
	case errors.Is(err, kerr.TopicAuthorizationFailed):
		m.setDenied(core.Failf(model.ErrAuthorization,
			"the source refuses access to topic %q: grant the link's principal READ and DESCRIBE on it", m.sourceTopic))
		return false
	default:
		s.log.Debug("could not get the metadata of a topic, retrying", "topic", m.sourceTopic, "error", err)
		return true
	}
	if len(t.Partitions) == 0 {
		return true // the topic is being created
	}
	if f := m.compare(t.TopicID, len(t.Partitions)); f != nil {
		return m.suspect(f)
	}
	m.clear(t.TopicID)
	st := sourceTopic{id: t.TopicID, leaders: make([]int32, len(t.Partitions)), epochs: make([]int32, len(t.Partitions))}
	for i := range st.leaders {
		st.leaders[i], st.epochs[i] = -1, -1
	}
	for i := range t.Partitions {
		p := &t.Partitions[i]
		if p.Partition < 0 || int(p.Partition) >= len(st.leaders) {
			return true
		}
		if p.ErrorCode == 0 {
			st.leaders[p.Partition], st.epochs[p.Partition] = p.Leader, p.LeaderEpoch
		} else {
			again = true
		}
	}
	s.mu.Lock()
	s.topics[m.sourceTopic] = st
	s.mu.Unlock()
	if len(t.Partitions) > max(m.partitions(), len(s.r.cfg.Control.State().Timelines[m.topic])) && s.r.OwnsTopic(m.topic) {
		s.growMirror(m, len(t.Partitions))
	}
	return again
}

// growMirror adds to a mirror the partitions that only the source has. They begin where the
// source's partitions begin.
func (s *source) growMirror(m *mirror, to int) {
	if !m.growing.CompareAndSwap(false, true) {
		return
	}
	s.r.spawn(func(ctx context.Context) {
		defer m.growing.Store(false)
		ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
		defer cancel()
		starts, err := s.starts(ctx, m, to)
		if err == nil {
			err = s.r.cfg.Control.GrowMirror(ctx, m.topic, starts)
		}
		if err != nil {
			s.log.Warn("could not add partitions to a mirror, will retry", "topic", m.topic, "partitions", to, "error", err)
		}
		// The new partitions come back with the state; until then each round of metadata tries
		// again.
	})
}

// starts asks the source for the log starts of the partitions that the mirror does not have yet.
func (s *source) starts(ctx context.Context, m *mirror, to int) ([]model.Start, error) {
	s.mu.Lock()
	leaders := s.topics[m.sourceTopic].leaders
	s.mu.Unlock()
	var starts []model.Start
	for id := m.partitions(); id < to; id++ {
		if id >= len(leaders) || leaders[id] < 0 {
			return nil, fmt.Errorf("partition %d of %q has no leader at the source", id, m.sourceTopic)
		}
		offset, err := s.listOffset(ctx, leaders[id], m.sourceTopic, int32(id), timestampEarliest)
		if err != nil {
			return nil, err
		}
		starts = append(starts, model.Start{Partition: int32(id), Logical: offset, Floor: offset})
	}
	return starts, nil
}
