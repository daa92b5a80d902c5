package replicator

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"klink/admin/linkconfig"
	"klink/internal/kafkaclient"
	"klink/internal/retry"
	"klink/replicator/core"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// canAlign decides whether the partition's offsets are to be aligned, and notes that in e.
func (w *worker) canAlign(ctx context.Context, e *core.LogEnd) error {
	w.mu.Lock()
	e.NoAlign = w.noAlign
	w.mu.Unlock()
	if e.NoAlign == "" {
		no, err := w.m.noAlign(ctx)
		if err != nil {
			return err
		}
		e.NoAlign = no
	}
	e.Align = e.NoAlign == ""
	return nil
}

// noAlign returns why the mirror's partitions are not aligned, "" if they are.
func (m *mirror) noAlign(ctx context.Context) (string, error) {
	if !m.wantsAlign() {
		return "offset.alignment is off", nil
	}
	m.mu.Lock()
	policy := m.policy
	m.mu.Unlock()
	if policy == "" {
		asked, err := m.r.dest.cleanupPolicy(ctx, m.topic)
		if err != nil {
			return "", err
		}
		m.mu.Lock()
		if m.policy == "" { // else the control plane was faster, and knows a coming change
			m.policy = asked
		}
		policy = m.policy
		m.mu.Unlock()
	}
	if appendOnly(policy) {
		return "", nil
	}
	return fmt.Sprintf("cleanup.policy of the topic is %s; klink aligns only logs that are not compacted", policy), nil
}

// wantsAlign reports whether the link has offsets aligned where that is possible.
func (m *mirror) wantsAlign() bool {
	link := m.r.cfg.Control.State().Links[m.link]
	return link != nil && linkconfig.ReplicationOf(link.Configs).Align
}

// appendOnly reports whether logs with this cleanup.policy are never compacted.
func appendOnly(policy string) bool { return policy == "delete" }

// setPolicy sets the mirror's cleanup.policy. policy is the one that the topic has now, or the one
// that it is about to get if that one compacts it; "" = the control plane does not know. If the
// change decides whether holes are filled, the partitions read their logs anew.
func (m *mirror) setPolicy(policy string) {
	m.mu.Lock()
	before := m.policy
	if policy != "" {
		m.policy = policy
	}
	workers := m.workers
	m.mu.Unlock()
	if policy == "" || before == "" || appendOnly(policy) == appendOnly(before) || !m.wantsAlign() {
		return
	}
	m.r.log.Info("the cleanup policy of a mirror has changed", "topic", m.topic, "from", before, "to", policy)
	for _, w := range workers {
		w.step((*core.Partition).Realign)
	}
}

// cleanupPolicy returns the cleanup.policy of a topic at the destination, "unknown ..." if klink
// may not see it.
func (d *destination) cleanupPolicy(ctx context.Context, topic string) (string, error) {
	value, err := d.topicConfig(ctx, topic, "cleanup.policy")
	switch {
	case errors.Is(err, kerr.TopicAuthorizationFailed), errors.Is(err, kerr.ClusterAuthorizationFailed):
		return "unknown (klink's principal lacks DESCRIBE_CONFIGS)", nil
	case err != nil:
		return "", err
	case value == nil:
		return "delete", nil // Kafka's default, where a destination does not know the config
	}
	return strings.TrimSpace(*value), nil
}

// topicConfig returns a config of a topic at the destination, nil if the destination does not know
// it.
func (d *destination) topicConfig(ctx context.Context, topic, name string) (*string, error) {
	req := kmsg.NewPtrDescribeConfigsRequest()
	r := kmsg.NewDescribeConfigsRequestResource()
	r.ResourceType, r.ResourceName, r.ConfigNames = kmsg.ConfigResourceTypeTopic, topic, []string{name}
	req.Resources = append(req.Resources, r)
	resp, err := req.RequestWith(ctx, d.clients[0])
	if err != nil {
		return nil, kafkaclient.NotOffered(err, kmsg.DescribeConfigs)
	}
	if len(resp.Resources) != 1 {
		return nil, fmt.Errorf("the DescribeConfigs response for topic %q has %d resources", topic, len(resp.Resources))
	}
	if err := kerr.ErrorForCode(resp.Resources[0].ErrorCode); err != nil {
		return nil, fmt.Errorf("configs of topic %q: %w", topic, err)
	}
	for _, c := range resp.Resources[0].Configs {
		if c.Name == name {
			return c.Value, nil
		}
	}
	return nil, nil
}

// burn uses up the physical offsets below to, and reports the result to the core. ctx ends it
// early.
func (w *worker) burn(ctx context.Context, to int64) {
	r := w.m.r
	max := int64(0)
	if link := r.cfg.Control.State().Links[w.m.link]; link != nil {
		max = linkconfig.ReplicationOf(link.Configs).AlignMax
	}
	w.mu.Lock()
	lingering := w.lateBurn
	w.mu.Unlock()
	err := r.newBurn(w.log(), to, max).run(ctx, lingering)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.endBurn = nil
	w.lateBurn = err != nil
	var why *notAligned
	var failed *core.Failure
	switch {
	case err == nil:
		w.apply(w.core.Aligned(to))
	case errors.As(err, &why):
		w.noAlign = why.Error()
		r.log.Warn("cannot align the offsets of a mirror partition: it continues with a shift", "topic", w.m.topic, "partition", w.id, "reason", why)
		w.apply(w.core.NotAligned(w.noAlign, true))
	case errors.As(err, &failed):
		w.apply(w.core.Fail(failed))
	default:
		w.apply(w.core.NotAligned("", true))
	}
}

// newBurn returns a burn of the offsets below to; limit is offset.alignment.max.
func (r *Replicator) newBurn(log *mirrorLog, to, limit int64) *burn {
	return &burn{
		log: log, name: log.name(), to: to, limit: limit, pace: r.burnPace, room: r.fillers, grace: r.grace,
		wait: retry.Backoff{Low: 100 * time.Millisecond, High: 5 * time.Second},
	}
}

// storeShift stores from which offset on the partition is shifted, for people.
func (w *worker) storeShift(ctx context.Context, s core.Shifted) {
	wait := retry.Backoff{Low: 100 * time.Millisecond, High: 5 * time.Second}
	for range 5 {
		err := w.m.r.cfg.Control.SetAlignment(ctx, w.m.topic, w.id, s.Began, s.Reason)
		if err == nil {
			return
		}
		w.m.r.log.Warn("could not store where the shift of a mirror partition began", "topic", w.m.topic, "partition", w.id, "error", err)
		if retry.Sleep(ctx, wait.Next()) != nil {
			return
		}
	}
}
