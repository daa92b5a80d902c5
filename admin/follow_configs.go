package admin

import (
	"context"
	"errors"
	"fmt"
)

// followLooks bounds how many mirrors' configs are looked at out of turn at once, over a connection
// to a source each.
const followLooks = 4

// FollowConfigs makes the configs of a mirror those of its source's topic at once, as
// topicConfigTask does at its interval, and in whichever instance. right says that they were that
// already: what the destination refuses then, it refuses for another reason, once its brokers have
// heard of the last change.
//
// It fails where a cluster does not answer or refuses, and for a mirror that does not run; then
// nothing is known.
func (s *Service) FollowConfigs(ctx context.Context, topic string) (right bool, err error) {
	select {
	case s.following <- struct{}{}:
		defer func() { <-s.following }()
	case <-ctx.Done():
		return false, ctx.Err()
	}
	st := s.State()
	m := st.Mirrors[topic]
	if m == nil || st.Links[m.Link] == nil || !appends(m) {
		return false, errNotMirrored
	}
	l := st.Links[m.Link]
	var src *source
	if e := reachSource(ctx, s.cfg.LinkFiles, l, &src); e != nil {
		return false, fmt.Errorf("%s: %s", e.Code, e.Message)
	}
	defer src.close()
	defer src.closeAfter(ctx)()
	known, err := s.topicConfigs(ctx, StateTopic)
	if err != nil {
		return false, fmt.Errorf("configs of the destination: %w", err)
	}
	from, err := describeTopicConfigs(ctx, src.admin, m.SourceTopic)
	if err != nil {
		return false, src.failed(fmt.Sprintf("describe the configs of topic '%s'", m.SourceTopic), err)
	}
	to, err := s.topicConfigs(ctx, topic)
	if err != nil {
		return false, fmt.Errorf("configs of mirror topic '%s': %w", topic, err)
	}
	return s.followConfigs(ctx, l, topic, from, to, known, appends)
}

// errNotMirrored: a mirror is gone, or stands still.
var errNotMirrored = errors.New("the topic is not being mirrored now")

// appends says whether a mirror may be appended to, so that its configs are to let its source's
// records in. The first batch of one that is PENDING may come before it counts as ACTIVE.
func appends(m *Mirror) bool { return followsNow(m) || m.Created && m.State == MirrorPending }
