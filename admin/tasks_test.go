package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"klink/admin/linkconfig"
	"klink/admin/model"
	"klink/admin/sources"
	"klink/internal/kafkaclient"
	"klink/internal/kafkatest"
	"klink/protocol"
	"klink/protocol/linkapi"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"
)

// tasks lists the tasks of a link as a client does.
func (w *world) tasks(link string) []linkapi.LinkTask {
	w.t.Helper()
	resp := w.service.HandleLink(context.Background(), &linkapi.ListLinkTasksRequest{Link: &link}).(*linkapi.ListLinkTasksResponse)
	require.Zero(w.t, resp.ErrorCode, text(resp.ErrorMessage))
	require.Len(w.t, resp.Links, 1)
	require.Zero(w.t, resp.Links[0].ErrorCode, text(resp.Links[0].ErrorMessage))
	return resp.Links[0].Tasks
}

// task returns one of them.
func (w *world) task(link, name string) linkapi.LinkTask {
	w.t.Helper()
	for _, task := range w.tasks(link) {
		if task.Name == name {
			return task
		}
	}
	w.t.Fatalf("link %s has no task %s", link, name)
	return linkapi.LinkTask{}
}

// awaitTask waits until a run that began after the call has put a task into a state. A status tells
// only when the last run ended. The next run to end may have begun before the call; the one after
// it has not.
func (w *world) awaitTask(link, name string, state model.TaskState) (task linkapi.LinkTask) {
	w.t.Helper()
	since, ended := time.Now().UnixMilli(), 0
	kafkatest.WaitFor(w.t, 30*time.Second, fmt.Sprintf("task %s of link %s to be %s", name, link, state), func() (bool, string) {
		task = w.task(link, name)
		if task.LastRunTimeMs > since {
			since = task.LastRunTimeMs
			ended++
		}
		return task.State == string(state) && (state == model.TaskPaused || ended >= 2), fmt.Sprintf("%+v", task)
	})
	return task
}

// setLink changes configs of a link, given as key=value.
func (w *world) setLink(name string, configs ...string) {
	w.t.Helper()
	link := linkapi.AlterLink{Name: name}
	for _, c := range configs {
		key, value, _ := strings.Cut(c, "=")
		link.Configs = append(link.Configs, linkapi.AlterConfig{Name: key, Op: linkapi.ConfigSet, Value: &value})
	}
	resp := w.service.HandleLink(context.Background(), &linkapi.AlterLinkConfigsRequest{Links: []linkapi.AlterLink{link}}).(*linkapi.AlterLinkConfigsResponse)
	require.Zero(w.t, resp.Results[0].ErrorCode, text(resp.Results[0].ErrorMessage))
}

// besides makes a link to another source, whose tasks have the interval of 100 ms, and waits until
// they have run. The runner has applied all changes of links that were made before, and is done
// with the runs that they ended. Each call of the function that it returns waits for more runs: any
// other link with this interval that is at work would have run, too.
func (w *world) besides() (more func()) {
	w.t.Helper()
	const link = "beside"
	at := kafkatest.Embedded(w.t, 1).ListenAddrs()[0]
	require.Zero(w.t, w.link(link, linkconfig.ConfigBootstrapServers+"="+at, linkconfig.ConfigTopicSyncMs+"=100").ErrorCode)
	more = func() {
		w.t.Helper()
		w.runs(link, "TopicConfigsSync")
	}
	more()
	return more
}

// faultySource makes a source of one broker that advertises the address of a proxy with faults.
func (w *world) faultySource(opts ...kfake.Opt) *kafkatest.Faults {
	w.t.Helper()
	var once sync.Once
	var faults *kafkatest.Faults
	w.source = kafkatest.Embedded(w.t, 1, append(opts, kfake.ClusterID("faulty"), kfake.ListenFn(func(network, addr string) (net.Listener, error) {
		l, err := net.Listen(network, addr)
		if err != nil {
			return nil, err
		}
		once.Do(func() { faults = kafkatest.NewFaults(w.t, l.Addr().String()) })
		a, err := net.ResolveTCPAddr("tcp", faults.Addr())
		return advertised{l, a}, err
	}))...)
	w.sourceAdmin = kadm.NewClient(kafkatest.NewClient(w.t, kgo.SeedBrokers(faults.Addr())))
	return faults
}

// advertised is a listener that claims to be at another address.
type advertised struct {
	net.Listener
	addr net.Addr
}

func (a advertised) Addr() net.Addr { return a.addr }

// TestTaskStates: a task is ACTIVE; IN_ERROR while the source is away, with the error and its time;
// then ACTIVE again on its own; and PAUSED with its link.
func TestTaskStates(t *testing.T) {
	w := newWorld(t)
	faults := w.faultySource()
	const task = "TopicConfigsSync"
	require.Zero(t, w.link("l", linkconfig.ConfigTopicSyncMs+"=100").ErrorCode)
	w.plainMirror("orders", 1)
	ok := w.awaitTask("l", task, model.TaskActive)
	require.EqualValues(t, 100, ok.IntervalMs)
	require.Empty(t, ok.Errors)
	require.Equal(t, ok.LastRunTimeMs, ok.LastSuccessTimeMs)

	faults.Cut()
	bad := w.awaitTask("l", task, model.TaskInError)
	require.Len(t, bad.Errors, 1)
	require.Equal(t, string(model.ErrBootstrapConnection), bad.Errors[0].Code)
	require.True(t, strings.HasPrefix(bad.Errors[0].Message, "source "+faults.Addr()+` of link "l": could not `), bad.Errors[0].Message)
	require.Less(t, bad.LastSuccessTimeMs, bad.LastRunTimeMs)
	require.GreaterOrEqual(t, bad.LastSuccessTimeMs, ok.LastSuccessTimeMs)

	// The replicator's finding changes nothing here, although it makes the mirrors unavailable.
	w.report(model.Event{Kind: model.EventLinkDown, Link: "l", Error: model.ErrBootstrapConnection, Message: "down"})
	require.Equal(t, model.MirrorSourceUnavailable, w.service.State().Mirrors["orders"].State)
	again := w.awaitTask("l", task, model.TaskInError)
	require.Equal(t, bad.LastSuccessTimeMs, again.LastSuccessTimeMs)

	faults.Resume()
	w.awaitTask("l", task, model.TaskActive)
	w.report(model.Event{Kind: model.EventLinkUp, Link: "l"})
	w.awaitTask("l", task, model.TaskActive)

	w.setLink("l", linkconfig.ConfigLinkPaused+"=true")
	w.awaitTask("l", task, model.TaskPaused)
	more := w.besides() // a run that was in progress is over
	paused := w.task("l", task)
	var asked atomic.Int64
	w.source.Control(func(kmsg.Request) (kmsg.Response, error, bool) {
		w.source.KeepControl()
		asked.Add(1)
		return nil, nil, false
	})
	more()
	require.Zero(t, asked.Load(), "the source is left alone")
	require.Equal(t, paused.LastRunTimeMs, w.task("l", task).LastRunTimeMs)
	w.setLink("l", linkconfig.ConfigLinkPaused+"=false")
	w.awaitTask("l", task, model.TaskActive)
	require.NotZero(t, asked.Load())
}

// TestTasksOfALinkWithoutMirrors: a task with nothing to do is not ACTIVE while the source is away.
func TestTasksOfALinkWithoutMirrors(t *testing.T) {
	w := newWorld(t)
	faults := w.faultySource()
	require.Zero(t, w.link("l", linkconfig.ConfigTopicSyncMs+"=100").ErrorCode)
	w.awaitTask("l", "TopicConfigsSync", model.TaskActive)
	faults.Cut()
	bad := w.awaitTask("l", "TopicConfigsSync", model.TaskInError)
	require.Equal(t, string(model.ErrBootstrapConnection), bad.Errors[0].Code)
	faults.Resume()
	w.awaitTask("l", "TopicConfigsSync", model.TaskActive)
}

// TestListLinkTasks lists the tasks of all links, of one, and of one that does not exist.
func TestListLinkTasks(t *testing.T) {
	w := newWorld(t)
	require.Zero(t, w.link("b").ErrorCode)
	require.Zero(t, w.link("a", linkconfig.ConfigLinkPaused+"=true").ErrorCode)
	list := func(link *string) *linkapi.ListLinkTasksResponse {
		return w.service.HandleLink(context.Background(), &linkapi.ListLinkTasksRequest{Link: link}).(*linkapi.ListLinkTasksResponse)
	}
	all := list(nil).Links
	require.Len(t, all, 2)
	require.Equal(t, []string{"a", "b"}, []string{all[0].Name, all[1].Name})
	never := linkapi.LinkTask{Name: "TopicConfigsSync", State: "PAUSED", IntervalMs: 5000, LastRunTimeMs: -1, LastSuccessTimeMs: -1}
	require.Contains(t, all[0].Tasks, never)
	require.Len(t, all[1].Tasks, len(tasks))
	nosuch := "nosuch"
	resp := list(&nosuch)
	require.Zero(t, resp.ErrorCode)
	require.Len(t, resp.Links, 1)
	require.Equal(t, kerr.ResourceNotFound.Code, resp.Links[0].ErrorCode)
	require.Contains(t, text(resp.Links[0].ErrorMessage), `"nosuch"`)

	byLink := w.service.LinkTasks()
	require.Len(t, byLink, 2)
	require.Equal(t, model.TaskPaused, byLink["a"][0].State)

	unready := w.unready("127.0.0.1:1")
	defer unready.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	r := unready.HandleLink(ctx, &linkapi.ListLinkTasksRequest{}).(*linkapi.ListLinkTasksResponse)
	require.Equal(t, kerr.CoordinatorLoadInProgress.Code, r.ErrorCode)
	require.Empty(t, unready.LinkTasks())
}

// TestReachSource names what is wrong with a source.
func TestReachSource(t *testing.T) {
	w := newWorld(t)
	faults := w.faultySource()
	configs := map[string]string{linkconfig.ConfigBootstrapServers: faults.Addr()}
	link := &model.Link{Name: "l", Configs: configs}
	var src *sources.Source
	require.Nil(t, reachSource(t.Context(), kafkaclient.Files{}, link, &src))
	first := src
	require.NotNil(t, first)
	require.Nil(t, reachSource(t.Context(), kafkaclient.Files{}, link, &src))
	require.Same(t, first, src, "a connection that works is kept")

	err := reachSource(t.Context(), kafkaclient.Files{}, &model.Link{Name: "l", Configs: configs, SourceClusterID: "another"}, &src)
	require.Equal(t, &model.TaskError{Code: model.ErrSourceClusterChanged, Message: "bootstrap.servers points to cluster faulty, but the link was created for cluster another"}, err)
	require.Nil(t, src)

	require.Nil(t, reachSource(t.Context(), kafkaclient.Files{}, link, &src))
	faults.Stall()
	silent, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	err = reachSource(silent, kafkaclient.Files{}, link, &src)
	require.NotNil(t, err)
	require.Equal(t, model.ErrTimeout, err.Code, err.Message)
	require.Nil(t, src)
	faults.Resume()
	require.Nil(t, reachSource(t.Context(), kafkaclient.Files{}, link, &src))
	src.Close()

	guarded := kafkatest.Embedded(t, 1, kfake.EnableSASL(), kfake.Superuser("PLAIN", "u", "right"))
	src = nil
	err = reachSource(t.Context(), kafkaclient.Files{}, &model.Link{Name: "l", Configs: map[string]string{
		linkconfig.ConfigBootstrapServers: guarded.ListenAddrs()[0], "security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN",
		"sasl.jaas.config": `org.apache.kafka.common.security.plain.PlainLoginModule required username="u" password="wrong";`,
	}}, &src)
	require.NotNil(t, err)
	require.Equal(t, model.ErrAuthentication, err.Code, err.Message)
	require.NotContains(t, err.Message, "AUTHENTICATION_ERROR", "the code stands beside it")
}

func TestTaskError(t *testing.T) {
	for _, c := range []struct {
		err  error
		want model.TaskError
	}{
		{protocol.Errorf(kerr.BrokerNotAvailable, "BOOTSTRAP_TCP_CONNECTION_FAILED_ERROR: the source is down"), model.TaskError{Code: model.ErrBootstrapConnection, Message: "the source is down"}},
		{protocol.Errorf(kerr.InvalidConfig, "AUTHENTICATION_ERROR: who are you"), model.TaskError{Code: model.ErrAuthentication, Message: "who are you"}},
		{protocol.Errorf(kerr.TopicAuthorizationFailed, "no"), model.TaskError{Code: model.ErrAuthorization, Message: "no"}},
		{protocol.Errorf(kerr.RequestTimedOut, "late"), model.TaskError{Code: model.ErrTimeout, Message: "late"}},
		{fmt.Errorf("set: %w", kafkaclient.WithMessage(kerr.PolicyViolation, "too long")), model.TaskError{Code: model.ErrPolicyViolation, Message: "set: " + kafkaclient.WithMessage(kerr.PolicyViolation, "too long").Error()}},
		{fmt.Errorf("set: %w", kerr.InvalidConfig), model.TaskError{Code: model.ErrPolicyViolation, Message: "set: " + kerr.InvalidConfig.Error()}},
		{fmt.Errorf("ask: %w", kerr.ClusterAuthorizationFailed), model.TaskError{Code: model.ErrAuthorization, Message: "ask: " + kerr.ClusterAuthorizationFailed.Error()}},
		{fmt.Errorf("ask: %w", context.DeadlineExceeded), model.TaskError{Code: model.ErrTimeout, Message: "ask: context deadline exceeded"}},
		{fmt.Errorf("ask: %w", io.EOF), model.TaskError{Code: model.ErrBootstrapConnection, Message: "ask: EOF"}},
		{errors.New("odd"), model.TaskError{Code: model.ErrInternal, Message: "odd"}},
	} {
		require.Equal(t, c.want, taskError(c.err), "%v", c.err)
	}
}

// TestRunOfATask: a panic is an error of the run. Of very many errors klink keeps the first and
// counts the rest. An error keeps the time of the last success.
func TestRunOfATask(t *testing.T) {
	w := newWorld(t)
	require.Zero(t, w.link("l").ErrorCode)
	l := w.service.State().Links["l"]
	runner := newTaskRunner(w.service)
	var src *sources.Source
	defer func() { src.Close() }()
	run := func(f func() []model.TaskError) *model.TaskStatus {
		fake := &task{name: "fake", interval: linkconfig.ConfigTopicSyncMs, run: func(context.Context, *Service, *taskRun) []model.TaskError { return f() }}
		runner.note(l, fake, runner.runOnce(t.Context(), fake, &taskRun{link: l}, &src))
		return runner.status[l.ID]["fake"]
	}
	good := run(func() []model.TaskError { return nil })
	require.Empty(t, good.Errors)
	bad := run(func() []model.TaskError { panic("oh") })
	require.Equal(t, []model.TaskError{{Code: model.ErrInternal, Message: "internal error: oh"}}, bad.Errors)
	require.Equal(t, good.LastSuccess, bad.LastSuccess)
	many := run(func() (errs []model.TaskError) {
		for i := range 1000 {
			errs = append(errs, model.TaskError{Code: model.ErrTimeout, Message: fmt.Sprint(i)})
		}
		return errs
	})
	require.Len(t, many.Errors, maxTaskErrors+1)
	require.Equal(t, model.TaskError{Code: model.ErrTimeout, Message: "and 980 more errors"}, many.Errors[maxTaskErrors])
	require.Equal(t, good.LastSuccess, many.LastSuccess)
	runner.forget(nil)
	require.Empty(t, runner.status)
}

// TestCloseEndsTasks: closing a service while a task waits for its source does not wait, and
// leaves no goroutine.
func TestCloseEndsTasks(t *testing.T) {
	w := &world{t: t, destination: kafkatest.Embedded(t, 1)}
	faults := w.faultySource()
	before := goleak.IgnoreCurrent()
	w.service = w.start()
	require.Zero(t, w.link("l", linkconfig.ConfigTopicSyncMs+"=100", linkconfig.ConfigRequestTimeout+"=900000").ErrorCode)
	w.awaitTask("l", "TopicConfigsSync", model.TaskActive)
	w.plainMirror("orders", 1)
	var asked atomic.Bool
	w.source.ControlKey(int16(kmsg.DescribeConfigs), func(kmsg.Request) (kmsg.Response, error, bool) {
		w.source.KeepControl()
		faults.StallAnswers()
		asked.Store(true)
		return nil, nil, false
	})
	kafkatest.WaitFor(t, time.Minute, "a task to wait for its source, for minutes", func() (bool, string) { return asked.Load(), "" })
	closed := make(chan struct{})
	go func() {
		w.service.Close()
		close(closed)
	}()
	select {
	case <-closed:
	case <-time.After(time.Minute):
		t.Fatal("closing waits for a source that does not answer")
	}
	faults.Reset()
	verifyNoneLeft(t, before)
}
