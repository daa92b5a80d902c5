//go:build linux && !poll_opt

package proxy

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// With gnet's build tag poll_opt an event holds a pointer instead of the descriptor, hence the
// constraint above.

// setReading suspends or resumes the delivery of readable events. Errors of the socket are still
// delivered.
func (p poller) setReading(fd int, on bool) error {
	ev := unix.EpollEvent{Fd: int32(fd)}
	if on {
		ev.Events = unix.EPOLLIN | unix.EPOLLPRI
	}
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(p.fd, unix.EPOLL_CTL_MOD, fd, &ev))
}

// writeQueue is an epoll instance that the Go runtime polls, so no thread blocks in it.
type writeQueue struct {
	file   *os.File
	raw    syscall.RawConn
	fd     int
	events [64]unix.EpollEvent
}

func newWriteQueue() (*writeQueue, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil { // or the runtime would not park on it
		_ = unix.Close(fd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	q := &writeQueue{file: os.NewFile(uintptr(fd), "epoll"), fd: fd}
	if q.raw, err = q.file.SyscallConn(); err != nil {
		_ = q.file.Close()
		return nil, err
	}
	return q, nil
}

// wait appends the tokens of sockets that have become writable. It returns false if the queue was
// closed.
func (q *writeQueue) wait(tokens []uint64) ([]uint64, bool) {
	n := 0
	err := q.raw.Read(func(fd uintptr) bool {
		var err error
		for {
			if n, err = unix.EpollWait(int(fd), q.events[:], 0); err != unix.EINTR {
				return n > 0 || err != nil
			}
		}
	})
	if err != nil || n <= 0 {
		return tokens, false
	}
	for _, ev := range q.events[:n] {
		tokens = append(tokens, uint64(uint32(ev.Fd))<<32|uint64(uint32(ev.Pad)))
	}
	return tokens, true
}

// watch asks for one event.
func (q *writeQueue) watch(fd int, token uint64) error {
	ev := unix.EpollEvent{Events: unix.EPOLLOUT | unix.EPOLLONESHOT, Fd: int32(token >> 32), Pad: int32(token)}
	err := unix.EpollCtl(q.fd, unix.EPOLL_CTL_MOD, fd, &ev)
	if err == unix.ENOENT {
		err = unix.EpollCtl(q.fd, unix.EPOLL_CTL_ADD, fd, &ev)
	}
	return os.NewSyscallError("epoll_ctl", err)
}

func (q *writeQueue) forget(fd int) { _ = unix.EpollCtl(q.fd, unix.EPOLL_CTL_DEL, fd, nil) }

func (q *writeQueue) close() { _ = q.file.Close() }
