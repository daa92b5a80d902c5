package admin

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"klink/admin/filter"
	"klink/admin/linkconfig"
	"klink/admin/model"
	"klink/internal/kafkatest"
	"klink/protocol/linkapi"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
)

// autoCreate returns the configs of a link that creates mirrors automatically. Filters are in the
// form of topicFilters.
func autoCreate(filters ...string) []string {
	return []string{linkconfig.ConfigMetadataMaxAge + "=100", linkconfig.ConfigAutoCreate + "=true", linkconfig.ConfigAutoCreateFilters + "=" + topicFilters(filters...)}
}

// taskOf returns a task of a link as shown to people.
func (w *world) taskOf(link, name string) model.TaskStatus {
	for _, status := range w.service.linkTasks(w.service.State().Links[link]) {
		if status.Name == name {
			return status
		}
	}
	w.t.Fatalf("link %s has no task %s", link, name)
	return model.TaskStatus{}
}

// runs waits until a task has run three times from now on: the first may have begun before the
// call, and the second with the configs before the last change.
func (w *world) runs(link, name string) model.TaskStatus {
	w.t.Helper()
	for range 3 {
		before := w.taskOf(link, name).LastRun
		require.Eventually(w.t, func() bool { return w.taskOf(link, name).LastRun.After(before) }, 20*time.Second, 5*time.Millisecond)
	}
	return w.taskOf(link, name)
}

func (w *world) alterLink(link string, configs ...string) {
	w.t.Helper()
	l := linkapi.AlterLink{Name: link}
	for _, c := range configs {
		name, value, _ := strings.Cut(c, "=")
		l.Configs = append(l.Configs, linkapi.AlterConfig{Name: name, Op: linkapi.ConfigSet, Value: &value})
	}
	r := w.service.HandleLink(context.Background(), &linkapi.AlterLinkConfigsRequest{Links: []linkapi.AlterLink{l}}).(*linkapi.AlterLinkConfigsResponse).Results[0]
	require.Zero(w.t, r.ErrorCode, text(r.ErrorMessage))
}

// mirrorTopics lists all mirrors, as "topic:link".
func (w *world) mirrorTopics() []string {
	var topics []string
	for topic, m := range w.service.State().Mirrors {
		topics = append(topics, topic+":"+m.Link)
	}
	return topics
}

// TestAutoCreate: source topics get mirrors as the filters say, also topics that are created later.
// Internal topics never do, and existing topics are not touched.
func TestAutoCreate(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t)
	w.replicator()
	for _, topic := range []string{"app-1", "app-2", "app-test", "other", "__internal", "_klink_x", "_klinkish", "ordinary", "stopped", "foreign"} {
		w.sourceTopic(topic, 2, map[string]string{"retention.ms": "86400000"})
	}
	_, err := w.destAdmin.CreateTopic(ctx, 1, 1, nil, "ordinary")
	require.NoError(t, err)
	require.Zero(t, w.link("hand").ErrorCode)
	require.Zero(t, w.mirror("foreign", "hand").ErrorCode)

	require.Zero(t, w.link("l", linkconfig.ConfigMetadataMaxAge+"=100").ErrorCode)
	require.Equal(t, model.TaskNotConfigured, w.taskOf("l", "AutoCreateMirror").State)
	require.Zero(t, w.mirror("stopped", "l").ErrorCode)
	require.Zero(t, w.alter("stopped", linkapi.MirrorFailover).ErrorCode)
	w.alterLink("l", linkconfig.ConfigAutoCreate+"=true")
	require.Equal(t, model.TaskNotConfigured, w.taskOf("l", "AutoCreateMirror").State, "without filters there is nothing to do")

	w.alterLink("l", autoCreate("INCLUDE PREFIXED app-", "EXCLUDE LITERAL app-test")...)
	status := w.runs("l", "AutoCreateMirror")
	require.Equal(t, model.TaskActive, status.State, status.Errors)
	require.Equal(t, 100*time.Millisecond, status.Interval)
	require.NotZero(t, status.LastSuccess)
	require.ElementsMatch(t, []string{"app-1:l", "app-2:l", "stopped:l", "foreign:hand"}, w.mirrorTopics())
	require.EqualValues(t, 2, w.service.State().Mirrors["app-1"].Partitions)
	require.Equal(t, "86400000", w.configsOf("app-1")["retention.ms"])

	w.sourceTopic("app-3", 1, nil)
	require.Empty(t, w.runs("l", "AutoCreateMirror").Errors)
	require.Equal(t, "l", w.service.State().Mirrors["app-3"].Link)

	// Everything: existing topics stay, and are reported if they are in the way.
	w.alterLink("l", autoCreate("INCLUDE LITERAL *")...)
	status = w.runs("l", "AutoCreateMirror")
	require.Equal(t, model.TaskInError, status.State)
	require.Len(t, status.Errors, 1)
	require.Equal(t, model.ErrTopicExists, status.Errors[0].Code)
	require.Contains(t, status.Errors[0].Message, "'ordinary' exists at the destination")
	require.ElementsMatch(t, []string{"app-1:l", "app-2:l", "app-3:l", "app-test:l", "other:l", "stopped:l", "foreign:hand"}, w.mirrorTopics())
	require.Equal(t, model.MirrorStopped, w.service.State().Mirrors["stopped"].State)
	details, err := w.destAdmin.ListTopics(ctx, "ordinary")
	require.NoError(t, err)
	require.Len(t, details["ordinary"].Partitions, 1)

	// Deleting a topic at the source leaves its mirror as it is.
	_, err = w.sourceAdmin.DeleteTopics(ctx, "app-3")
	require.NoError(t, err)
	w.runs("l", "AutoCreateMirror")
	require.NotNil(t, w.service.State().Mirrors["app-3"])

	// A paused link creates nothing, and continues when resumed. Without the ordinary topic nothing
	// is in the way.
	w.alterLink("l", linkconfig.ConfigLinkPaused+"=true")
	require.Equal(t, model.TaskPaused, w.taskOf("l", "AutoCreateMirror").State)
	w.sourceTopic("late", 1, nil)
	_, err = w.destAdmin.DeleteTopics(ctx, "ordinary")
	require.NoError(t, err)
	w.besides()()
	require.Nil(t, w.service.State().Mirrors["late"])
	w.alterLink("l", linkconfig.ConfigLinkPaused+"=false")
	status = w.runs("l", "AutoCreateMirror")
	require.Equal(t, model.TaskActive, status.State, status.Errors)
	require.Equal(t, "l", w.service.State().Mirrors["late"].Link)
	require.Equal(t, "l", w.service.State().Mirrors["ordinary"].Link)
}

// TestAutoCreateTwoInstances: two klinks create the same mirrors at the same time. Each mirror is
// created once, and neither reports an error.
func TestAutoCreateTwoInstances(t *testing.T) {
	w := newWorld(t)
	other := &world{t: t, service: w.start()}
	const topics = 40
	for i := range topics {
		w.sourceTopic("many-"+string(rune('a'+i/26))+string(rune('a'+i%26)), 1, nil)
	}
	require.Zero(t, w.link("l", autoCreate("INCLUDE PREFIXED many-")...).ErrorCode)
	awaitState(t, other.service, "the link", func(s *model.State) bool { return s.Links["l"] != nil })
	for _, w := range []*world{w, other} {
		awaitState(t, w.service, "all mirrors", func(s *model.State) bool {
			created := 0
			for _, m := range s.Mirrors {
				if m.Created {
					created++
				}
			}
			return created == topics
		})
		status := w.runs("l", "AutoCreateMirror")
		require.Empty(t, status.Errors)
	}
}

// TestAutoCreateSourceGone: an unreachable source is an error of the task, which disappears with
// its cause.
func TestAutoCreateSourceGone(t *testing.T) {
	w := newWorld(t)
	gone := kafkatest.Embedded(t, 1, kfake.ClusterID("gone"))
	require.Zero(t, w.link("l", append(autoCreate("INCLUDE LITERAL *"), linkconfig.ConfigBootstrapServers+"="+gone.ListenAddrs()[0])...).ErrorCode)
	require.Empty(t, w.runs("l", "AutoCreateMirror").Errors)
	gone.Close()
	require.Eventually(t, func() bool { return w.taskOf("l", "AutoCreateMirror").State == model.TaskInError }, 30*time.Second, 10*time.Millisecond)
	status := w.taskOf("l", "AutoCreateMirror")
	require.NotZero(t, status.LastSuccess)
	require.Contains(t, []model.Error{model.ErrBootstrapConnection, model.ErrTimeout}, status.Errors[0].Code, status.Errors[0].Message)
}

// topicFilters is the JSON of filters written as "INCLUDE PREFIXED name".
func topicFilters(filters ...string) string {
	var list []string
	for _, f := range filters {
		words := strings.SplitN(f, " ", 3)
		list = append(list, fmt.Sprintf(`{"name":%q,"patternType":%q,"filterType":%q}`, words[2], words[1], words[0]))
	}
	return fmt.Sprintf(`{%q:[%s]}`, filter.TopicField, strings.Join(list, ","))
}
