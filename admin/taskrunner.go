package admin

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"klink/admin/linkconfig"
	"klink/admin/model"
	"klink/admin/sources"
	"klink/internal/kafkaclient"
	"klink/internal/retry"
	"klink/protocol"
)

// taskRunner runs the tasks of all links. Each link has one goroutine and one connection to its
// source; the goroutine runs the link's tasks one after the other, each at its own interval.
//
// Invariants:
//  1. At most one task of a link runs at a time in this process. Once the link is paused, changed,
//     deleted or owned by another instance, its task finishes at most the request in flight.
//  2. A run uses the link configs that its tasks began with (task.begin), even if the link changes
//     during the run.
//  3. Tasks are level-triggered: a run compares the whole wanted state with the whole actual state.
//     So it does no harm to cut a run off or to repeat it.
type taskRunner struct {
	s *Service

	mu     sync.Mutex
	status map[string]map[string]*model.TaskStatus // by link id and task
}

// taskTick is how often a link's goroutine checks which tasks are due.
const taskTick = 50 * time.Millisecond

// taskTimeout bounds one run.
const taskTimeout = 2 * time.Minute

// taskBeginAgain is how long a task waits after a failed begin before it tries again.
const taskBeginAgain = 200 * time.Millisecond

// taskConnectTimeout is how long a run waits for the source to answer.
const taskConnectTimeout = 10 * time.Second

// taskRetry is the longest wait between a run with errors and the next, even if the task's interval
// is longer.
const taskRetry = 30 * time.Second

func newTaskRunner(s *Service) *taskRunner {
	return &taskRunner{s: s, status: map[string]map[string]*model.TaskStatus{}}
}

// linkRun is a link whose tasks are being run.
type linkRun struct {
	link   *model.Link
	cancel context.CancelFunc
	done   chan struct{}
}

// Run keeps one goroutine for each owned link that is neither paused nor failed, until ctx ends.
func (t *taskRunner) run(ctx context.Context) {
	changes, end := t.s.Subscribe()
	defer end()
	running := map[string]*linkRun{}
	defer func() {
		for _, r := range running {
			r.cancel()
			<-r.done
		}
	}()
	for {
		links := t.s.State().Links
		for name, r := range running {
			if l := links[name]; l == nil || !sameForTasks(l, r.link) || !t.s.ownsLink(name) {
				r.cancel()
				<-r.done
				delete(running, name)
			}
		}
		for name, l := range links {
			if running[name] != nil || l.State == model.LinkPaused || l.State == model.LinkFailed || l.ID == "" || !t.s.ownsLink(name) {
				continue
			}
			linkCtx, cancel := context.WithCancel(ctx)
			r := &linkRun{link: l, cancel: cancel, done: make(chan struct{})}
			running[name] = r
			go func() {
				defer close(r.done)
				t.runLink(linkCtx, l)
			}()
		}
		t.forget(links)
		select {
		case <-ctx.Done():
			return
		case <-changes:
		}
	}
}

// sameForTasks reports whether the running tasks of a link can go on. They can if its source
// becomes unavailable or available: a run then fails, and its status shows it.
func sameForTasks(now, then *model.Link) bool {
	stands := func(l *model.Link) bool { return l.State == model.LinkPaused || l.State == model.LinkFailed }
	return now.ID == then.ID && stands(now) == stands(then) && maps.Equal(now.Configs, then.Configs)
}

// forget drops the status of links that no longer exist.
func (t *taskRunner) forget(links map[string]*model.Link) {
	t.mu.Lock()
	defer t.mu.Unlock()
	ids := map[string]bool{}
	for _, l := range links {
		ids[l.ID] = true
	}
	maps.DeleteFunc(t.status, func(id string, _ map[string]*model.TaskStatus) bool { return !ids[id] })
}

// runLink runs the tasks of one link until ctx ends.
func (t *taskRunner) runLink(ctx context.Context, l *model.Link) {
	var src *sources.Source
	defer func() {
		if src != nil {
			src.Close()
		}
	}()
	due := map[*task]time.Time{}
	memory, begun := map[*task]any{}, map[*task]bool{}
	for {
		for _, task := range tasks {
			if ctx.Err() != nil {
				return
			}
			if time.Now().Before(due[task]) {
				continue
			}
			if task.begin != nil && !begun[task] {
				if err := t.beginTask(ctx, task, l); err != nil {
					due[task] = time.Now().Add(taskBeginAgain)
					if ctx.Err() == nil && task.wanted(l) {
						t.note(l, task, []model.TaskError{taskError(err)})
					}
					continue
				}
				begun[task] = true
			}
			if !task.wanted(l) {
				continue
			}
			if now := t.s.State().Links[l.Name]; now != nil && sameForTasks(now, l) {
				l = now // now knows the source's cluster id, which l may lack
			}
			run := &taskRun{link: l, memory: memory[task]}
			errs := t.runOnce(ctx, task, run, &src)
			memory[task] = run.memory
			wait := task.every(l)
			if failed(errs) {
				wait = min(wait, taskRetry)
			}
			due[task] = time.Now().Add(wait)
			if ctx.Err() != nil {
				return // ctx ended; that is what its errors are about
			}
			t.note(l, task, errs)
		}
		if retry.Sleep(ctx, taskTick) != nil {
			return
		}
	}
}

// beginTask calls begin of a task that has one.
func (t *taskRunner) beginTask(ctx context.Context, task *task, l *model.Link) error {
	ctx, cancel := context.WithTimeout(ctx, taskTimeout)
	defer cancel()
	return task.begin(t.s, ctx, l)
}

// runOnce runs a task. It connects to the source if there is no connection yet.
func (t *taskRunner) runOnce(ctx context.Context, task *task, run *taskRun, src **sources.Source) (errs []model.TaskError) {
	ctx, cancel := context.WithTimeout(ctx, taskTimeout)
	defer cancel()
	defer func() {
		// The data of two clusters feeds a task; a bug in it must not take the proxy down.
		if p := recover(); p != nil {
			t.s.log.Error("a task of a link panicked", "link", run.link.Name, "task", task.name, "panic", p)
			errs = []model.TaskError{{Code: model.ErrInternal, Message: fmt.Sprintf("internal error: %v", p)}}
		}
	}()
	if err := reachSource(ctx, t.s.cfg.LinkFiles, run.link, src); err != nil {
		return []model.TaskError{*err}
	}
	run.source = *src
	defer func(stop func() bool) {
		if stop() {
			return
		}
		(*src).Close() // waits for it
		*src = nil
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			errs = append([]model.TaskError{{Code: model.ErrTimeout, Message: fmt.Sprintf("the run was cancelled after %s; the next one starts over", taskTimeout)}}, errs...)
		}
	}((*src).CloseAfter(ctx))
	return task.run(ctx, t.s, run)
}

// reachSource makes sure that the source answers, and that it is the right cluster, before a run
// relies on it. A task may have nothing to ask the source, and must not count as successful while
// the source is away. After an error *src is nil.
func reachSource(ctx context.Context, files kafkaclient.Files, l *model.Link, src **sources.Source) *model.TaskError {
	ctx, cancel := context.WithTimeout(ctx, taskConnectTimeout)
	defer cancel()
	var failed *protocol.Error
	if *src == nil {
		*src, failed = sources.Connect(ctx, files, l.Name, l.Configs)
	} else if failed = (*src).Identify(ctx); failed != nil {
		(*src).Close()
		*src = nil
	}
	if failed != nil {
		err := taskError(failed)
		return &err
	}
	if id := l.SourceClusterID; id != "" && (*src).ClusterID != id {
		err := &model.TaskError{Code: model.ErrSourceClusterChanged, Message: fmt.Sprintf("bootstrap.servers points to cluster %s, but the link was created for cluster %s", (*src).ClusterID, id)}
		(*src).Close()
		*src = nil
		return err
	}
	return nil
}

func (t *taskRunner) note(l *model.Link, task *task, errs []model.TaskError) {
	if more := len(errs) - maxTaskErrors; more > 0 {
		errs = append(errs[:maxTaskErrors:maxTaskErrors], model.TaskError{Code: errs[maxTaskErrors].Code, Message: fmt.Sprintf("and %d more errors", more)})
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	of := t.status[l.ID]
	if of == nil {
		of = map[string]*model.TaskStatus{}
		t.status[l.ID] = of
	}
	now := t.s.cfg.Now()
	next := &model.TaskStatus{Name: task.name, Errors: errs, LastRun: now, LastSuccess: now}
	if failed(errs) {
		next.LastSuccess = time.Time{}
		if last := of[task.name]; last != nil {
			next.LastSuccess = last.LastSuccess
		}
		if last := of[task.name]; last == nil || len(last.Errors) == 0 || last.Errors[0].Code != errs[0].Code {
			t.s.log.Warn("a task of a link has errors, will retry", "link", l.Name, "task", task.name, "error", errs[0].Code, "message", errs[0].Message, "errors", len(errs))
		}
	}
	of[task.name] = next
}

// Failed reports whether a run left work undone, apart from what klink must not do (ErrLeftOut).
func failed(errs []model.TaskError) bool {
	return slices.ContainsFunc(errs, func(e model.TaskError) bool { return e.Code != model.ErrLeftOut })
}

// TasksOf returns the tasks of a link, none if there is no such link.
func (s *Service) TasksOf(link string) []model.TaskStatus {
	if l := s.State().Links[link]; l != nil {
		return s.linkTasks(l)
	}
	return nil
}

// linkTasks returns the tasks of a link, in the order of the table tasks.
func (s *Service) linkTasks(l *model.Link) []model.TaskStatus {
	own := s.ownsLink(l.Name)
	var elsewhere []model.TaskStatus
	if r := s.reporter.Load(); r != nil && !own {
		if of, ok := (*r).(model.TaskReporter); ok {
			elsewhere = of.LinkTasks(l.Name)
		}
	}
	s.tasks.mu.Lock()
	defer s.tasks.mu.Unlock()
	list := make([]model.TaskStatus, 0, len(tasks))
	for _, task := range tasks {
		status := model.TaskStatus{}
		if last := s.tasks.status[l.ID][task.name]; last != nil && own {
			status = *last
		}
		for _, told := range elsewhere {
			if told.Name == task.name {
				status = told
			}
		}
		status.Name, status.Interval, status.State = task.name, task.every(l), model.TaskActive
		switch {
		case !task.wanted(l):
			status.State, status.Errors = model.TaskNotConfigured, nil
		case l.State == model.LinkPaused || l.State == model.LinkFailed:
			status.State = model.TaskPaused
		case failed(status.Errors):
			status.State = model.TaskInError
		}
		list = append(list, status)
	}
	return list
}

func (t *task) wanted(l *model.Link) bool { return t.configured == nil || t.configured(l) }

// every returns the interval between two runs of the task.
func (t *task) every(l *model.Link) time.Duration {
	ms, err := strconv.ParseInt(linkconfig.Value(l.Configs, t.interval), 10, 64)
	if err != nil || ms <= 0 {
		ms = 5000
	}
	return time.Duration(ms) * time.Millisecond
}
