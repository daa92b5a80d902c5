//go:build (darwin || freebsd) && !poll_opt

package proxy

import (
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// setReading suspends or resumes the delivery of readable events.
func (p poller) setReading(fd int, on bool) error {
	var ev [1]unix.Kevent_t
	flags := unix.EV_DISABLE
	if on {
		flags = unix.EV_ENABLE
	}
	unix.SetKevent(&ev[0], fd, unix.EVFILT_READ, flags)
	_, err := unix.Kevent(p.fd, ev[:], nil, nil)
	return os.NewSyscallError("kevent", err)
}

// writeQueue is a kqueue. Its events carry only the descriptor, so writeQueue keeps the tokens.
// Closing a pipe ends the wait.
type writeQueue struct {
	fd     int
	events [64]unix.Kevent_t
	pipe   [2]int

	mu     sync.Mutex // guards tokens
	tokens map[int]uint64
}

func newWriteQueue() (*writeQueue, error) {
	fd, err := unix.Kqueue()
	if err != nil {
		return nil, os.NewSyscallError("kqueue", err)
	}
	unix.CloseOnExec(fd)
	q := &writeQueue{fd: fd, tokens: map[int]uint64{}}
	if err := unix.Pipe(q.pipe[:]); err != nil {
		_ = unix.Close(fd)
		return nil, os.NewSyscallError("pipe", err)
	}
	var ev [1]unix.Kevent_t
	unix.SetKevent(&ev[0], q.pipe[0], unix.EVFILT_READ, unix.EV_ADD)
	if _, err := unix.Kevent(fd, ev[:], nil, nil); err != nil {
		_ = unix.Close(q.pipe[1])
		q.free()
		return nil, os.NewSyscallError("kevent", err)
	}
	return q, nil
}

// wait appends the tokens of sockets that have become writable. It returns false if the queue was
// closed.
func (q *writeQueue) wait(tokens []uint64) ([]uint64, bool) {
	for len(tokens) == 0 {
		n, err := unix.Kevent(q.fd, nil, q.events[:], nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			q.free()
			return nil, false
		}
		q.mu.Lock()
		for _, ev := range q.events[:n] {
			if int(ev.Ident) == q.pipe[0] {
				q.mu.Unlock()
				q.free()
				return nil, false
			}
			if token, ok := q.tokens[int(ev.Ident)]; ok {
				tokens = append(tokens, token)
				delete(q.tokens, int(ev.Ident))
			}
		}
		q.mu.Unlock()
	}
	return tokens, true
}

func (q *writeQueue) free() {
	_ = unix.Close(q.fd)
	_ = unix.Close(q.pipe[0])
}

// watch asks for one event.
func (q *writeQueue) watch(fd int, token uint64) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	var ev [1]unix.Kevent_t
	unix.SetKevent(&ev[0], fd, unix.EVFILT_WRITE, unix.EV_ADD|unix.EV_ONESHOT)
	if _, err := unix.Kevent(q.fd, ev[:], nil, nil); err != nil {
		return os.NewSyscallError("kevent", err)
	}
	q.tokens[fd] = token
	return nil
}

func (q *writeQueue) forget(fd int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.tokens, fd)
	var ev [1]unix.Kevent_t
	unix.SetKevent(&ev[0], fd, unix.EVFILT_WRITE, unix.EV_DELETE)
	_, _ = unix.Kevent(q.fd, ev[:], nil, nil)
}

// close makes wait return; wait frees the kqueue.
func (q *writeQueue) close() { _ = unix.Close(q.pipe[1]) }
