package admin

import (
	"context"
	"errors"
	"fmt"

	"klink/admin/model"
	"klink/admin/sources"
	"klink/admin/store"
	"klink/admin/topicconfig"
)

// followLooks bounds how many calls of FollowConfigs run at once. Each has its own connection to a
// source.
const followLooks = 4

// FollowConfigs gives a mirror the configs of its source's topic at once. topicConfigTask does the
// same at its interval. Any instance may call it. right reports that the configs were right
// already. If the destination still refuses a batch once its brokers have heard of the last change,
// the configs are not the reason.
//
// It returns an error if a cluster does not answer or refuses, and if the mirror does not run; then
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
	var src *sources.Source
	if e := reachSource(ctx, s.cfg.LinkFiles, l, &src); e != nil {
		return false, fmt.Errorf("%s: %s", e.Code, e.Message)
	}
	defer src.Close()
	defer src.CloseAfter(ctx)()
	known, err := topicconfig.Describe(ctx, s.admin, store.StateTopic)
	if err != nil {
		return false, fmt.Errorf("could not read the configs of the destination: %w", err)
	}
	from, err := topicconfig.Describe(ctx, src.Admin, m.SourceTopic)
	if err != nil {
		return false, src.Failed(fmt.Sprintf("describe the configs of topic '%s'", m.SourceTopic), err)
	}
	to, err := topicconfig.Describe(ctx, s.admin, topic)
	if err != nil {
		return false, fmt.Errorf("could not read the configs of mirror topic '%s': %w", topic, err)
	}
	return s.followConfigs(ctx, l, topic, from, to, known, appends)
}

// errNotMirrored: the mirror or its link is gone, or the mirror is not running.
var errNotMirrored = errors.New("the topic is not being mirrored now")

// appends reports whether klink may append to a mirror, so that its configs must accept its
// source's records. The first batch of a PENDING mirror may come before the mirror becomes ACTIVE.
func appends(m *model.Mirror) bool {
	return followsNow(m) || m.Created && m.State == model.MirrorPending
}
