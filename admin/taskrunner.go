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

	"klink/internal/kafkaclient"
	"klink/protocol"
)

// taskRunner runs the tasks of all links: one goroutine for each link, which runs its tasks one
// after the other, each at its interval, over one connection to the source.
//
// Invariants:
//  1. Of one link at most one task runs at a time in this process, and none once the link is
//     paused, changed or deleted, or is another instance's, beyond the request that it is waiting
//     for.
//  2. A run of a link uses the configs that its tasks have begun with (task.begin), whatever
//     becomes of the link meanwhile.
//  3. Tasks work on levels: a run compares all that should be with all that is, so that a run that
//     was cut off or repeated does no harm.
type taskRunner struct {
	s *Service

	mu     sync.Mutex
	status map[string]map[string]*TaskStatus // by link id and task
}

// taskTick is how often a link's tasks are looked at.
const taskTick = 50 * time.Millisecond

// taskTimeout bounds one run.
const taskTimeout = 2 * time.Minute

// taskBeginAgain is when a task that could not begin tries again.
const taskBeginAgain = 200 * time.Millisecond

// taskConnectTimeout is how long a run waits for the source to be there.
const taskConnectTimeout = 10 * time.Second

// taskRetry is how long a run with errors is waited for at most before the next, however long the
// interval of the task.
const taskRetry = 30 * time.Second

func newTaskRunner(s *Service) *taskRunner {
	return &taskRunner{s: s, status: map[string]map[string]*TaskStatus{}}
}

// linkRun is a link whose tasks are being run.
type linkRun struct {
	link   *Link
	cancel context.CancelFunc
	done   chan struct{}
}

// run keeps a goroutine for each link that is not paused, until ctx ends.
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
			if running[name] != nil || l.State == LinkPaused || l.State == LinkFailed || l.ID == "" || !t.s.ownsLink(name) {
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

// sameForTasks says whether a link can go on with the tasks that run. That its source goes and
// comes changes nothing: a run then fails, which shows.
func sameForTasks(now, then *Link) bool {
	stands := func(l *Link) bool { return l.State == LinkPaused || l.State == LinkFailed }
	return now.ID == then.ID && stands(now) == stands(then) && maps.Equal(now.Configs, then.Configs)
}

// forget drops what was known of links that are gone.
func (t *taskRunner) forget(links map[string]*Link) {
	t.mu.Lock()
	defer t.mu.Unlock()
	ids := map[string]bool{}
	for _, l := range links {
		ids[l.ID] = true
	}
	maps.DeleteFunc(t.status, func(id string, _ map[string]*TaskStatus) bool { return !ids[id] })
}

// runLink runs the tasks of one link until ctx ends.
func (t *taskRunner) runLink(ctx context.Context, l *Link) {
	var src *source
	defer func() {
		if src != nil {
			src.close()
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
						t.note(l, task, []TaskError{taskError(err)})
					}
					continue
				}
				begun[task] = true
			}
			if !task.wanted(l) {
				continue
			}
			if now := t.s.State().Links[l.Name]; now != nil && sameForTasks(now, l) {
				l = now // with the cluster id of the source, which may not have been known before
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
				return // its errors are of the end
			}
			t.note(l, task, errs)
		}
		if sleep(ctx, taskTick) != nil {
			return
		}
	}
}

// beginTask does what comes before the first run of a task.
func (t *taskRunner) beginTask(ctx context.Context, task *task, l *Link) error {
	ctx, cancel := context.WithTimeout(ctx, taskTimeout)
	defer cancel()
	return task.begin(t.s, ctx, l)
}

// runOnce runs a task, with a connection to the source, which is made if there is none.
func (t *taskRunner) runOnce(ctx context.Context, task *task, run *taskRun, src **source) (errs []TaskError) {
	ctx, cancel := context.WithTimeout(ctx, taskTimeout)
	defer cancel()
	defer func() {
		// A task is fed by two clusters; a mistake in one must not take the proxy down.
		if p := recover(); p != nil {
			t.s.log.Error("a task of a link panicked", "link", run.link.Name, "task", task.name, "panic", p)
			errs = []TaskError{{ErrInternal, fmt.Sprintf("internal error: %v", p)}}
		}
	}()
	if err := reachSource(ctx, t.s.cfg.LinkFiles, run.link, src); err != nil {
		return []TaskError{*err}
	}
	run.source = *src
	defer func(stop func() bool) {
		if stop() {
			return
		}
		(*src).close() // waits for it
		*src = nil
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			errs = append([]TaskError{{ErrTimeout, fmt.Sprintf("the run was ended after %s; the next one begins anew", taskTimeout)}}, errs...)
		}
	}((*src).closeAfter(ctx))
	return task.run(ctx, t.s, run)
}

// reachSource makes sure that the source answers, and that it is the right one, before a run relies
// on it: a task may have nothing to ask for, and must not count as done while the source is away.
// After an error src is nil.
func reachSource(ctx context.Context, files kafkaclient.Files, l *Link, src **source) *TaskError {
	ctx, cancel := context.WithTimeout(ctx, taskConnectTimeout)
	defer cancel()
	var failed *protocol.Error
	if *src == nil {
		*src, failed = connectSource(ctx, files, l.Name, l.Configs)
	} else if failed = (*src).identify(ctx); failed != nil {
		(*src).close()
		*src = nil
	}
	if failed != nil {
		err := taskError(failed)
		return &err
	}
	if id := l.SourceClusterID; id != "" && (*src).clusterID != id {
		err := &TaskError{ErrSourceClusterChanged, fmt.Sprintf("cluster %s answers at bootstrap.servers, but the link was made for cluster %s", (*src).clusterID, id)}
		(*src).close()
		*src = nil
		return err
	}
	return nil
}

func (t *taskRunner) note(l *Link, task *task, errs []TaskError) {
	if more := len(errs) - maxTaskErrors; more > 0 {
		errs = append(errs[:maxTaskErrors:maxTaskErrors], TaskError{errs[maxTaskErrors].Code, fmt.Sprintf("and %d more errors", more)})
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	of := t.status[l.ID]
	if of == nil {
		of = map[string]*TaskStatus{}
		t.status[l.ID] = of
	}
	now := t.s.cfg.Now()
	next := &TaskStatus{Name: task.name, Errors: errs, LastRun: now, LastSuccess: now}
	if failed(errs) {
		next.LastSuccess = time.Time{}
		if last := of[task.name]; last != nil {
			next.LastSuccess = last.LastSuccess
		}
		if last := of[task.name]; last == nil || len(last.Errors) == 0 || last.Errors[0].Code != errs[0].Code {
			t.s.log.Warn("a task of a link has errors; it is run again", "link", l.Name, "task", task.name, "error", errs[0].Code, "message", errs[0].Message, "errors", len(errs))
		}
	}
	of[task.name] = next
}

// failed says whether a run has left something undone, but for what it must not do.
func failed(errs []TaskError) bool {
	return slices.ContainsFunc(errs, func(e TaskError) bool { return e.Code != ErrLeftOut })
}

// TasksOf are the tasks of a link, none if there is no such link.
func (s *Service) TasksOf(link string) []TaskStatus {
	if l := s.State().Links[link]; l != nil {
		return s.linkTasks(l)
	}
	return nil
}

// linkTasks are the tasks of a link, in the order of their table.
func (s *Service) linkTasks(l *Link) []TaskStatus {
	own := s.ownsLink(l.Name)
	var elsewhere []TaskStatus
	if r := s.reporter.Load(); r != nil && !own {
		if of, ok := (*r).(TaskReporter); ok {
			elsewhere = of.LinkTasks(l.Name)
		}
	}
	s.tasks.mu.Lock()
	defer s.tasks.mu.Unlock()
	list := make([]TaskStatus, 0, len(tasks))
	for _, task := range tasks {
		status := TaskStatus{}
		if last := s.tasks.status[l.ID][task.name]; last != nil && own {
			status = *last
		}
		for _, told := range elsewhere {
			if told.Name == task.name {
				status = told
			}
		}
		status.Name, status.Interval, status.State = task.name, task.every(l), TaskActive
		switch {
		case !task.wanted(l):
			status.State, status.Errors = TaskNotConfigured, nil
		case l.State == LinkPaused || l.State == LinkFailed:
			status.State = TaskPaused
		case failed(status.Errors):
			status.State = TaskInError
		}
		list = append(list, status)
	}
	return list
}

func (t *task) wanted(l *Link) bool { return t.configured == nil || t.configured(l) }

// every is how often the task runs.
func (t *task) every(l *Link) time.Duration {
	ms, err := strconv.ParseInt(LinkConfigValue(l.Configs, t.interval), 10, 64)
	if err != nil || ms <= 0 {
		ms = 5000
	}
	return time.Duration(ms) * time.Millisecond
}
