//go:build linux && !poll_opt

package proxy

import (
	"fmt"
	"os"
	"reflect"
	"sync"

	"github.com/panjf2000/gnet/v2"
	"golang.org/x/sys/unix"
)

// poller is the epoll instance of a gnet event loop. gnet keeps it to itself and can neither stop reading a socket nor go
// on, so its file descriptor is read out of the event loop and the interest in a socket is changed behind gnet's back. That
// is safe as long as gnet does not change it, too, which it does only for its own outbound buffer; this package never
// uses that. (The build tag poll_opt would keep a pointer in the event, hence the constraint above.)
type poller struct{ fd int }

func newPoller(el gnet.EventLoop) (poller, error) {
	fd, err := pollerFD(el)
	return poller{fd}, err
}

// pollerFD finds the field poller.fd of *gnet.eventloop, in gnet v2.10.0.
func pollerFD(el gnet.EventLoop) (int, error) {
	v := reflect.Indirect(reflect.ValueOf(el))
	for _, name := range []string{"poller", "fd"} {
		if v.Kind() == reflect.Struct {
			v = reflect.Indirect(v.FieldByName(name))
		}
	}
	if v.Kind() != reflect.Int {
		return 0, fmt.Errorf("gnet's event loop (%T) has no field poller.fd: klink needs gnet v2.10.0 exactly", el)
	}
	return int(v.Int()), nil
}

// setReading suspends or resumes the delivery of readable events. An error of the socket is still delivered.
func (p poller) setReading(fd int, on bool) error {
	ev := unix.EpollEvent{Fd: int32(fd)}
	if on {
		ev.Events = unix.EPOLLIN | unix.EPOLLPRI
	}
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(p.fd, unix.EPOLL_CTL_MOD, fd, &ev))
}

// waiter tells sides that their socket takes bytes again. It has an epoll instance of its own, with sockets that are
// watched for one event each, and one goroutine for all loops, which the Go runtime parks while nothing happens.
//
// Lock: mu guards sides and token, nothing else is called under it.
type waiter struct {
	file *os.File
	raw  interface {
		Read(func(fd uintptr) bool) error
	}
	fd   int
	done chan struct{}

	mu    sync.Mutex
	sides map[uint64]*side
	token uint32
}

func newWaiter() (*waiter, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil { // or the runtime would not park on it
		_ = unix.Close(fd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	w := &waiter{file: os.NewFile(uintptr(fd), "epoll"), fd: fd, done: make(chan struct{}), sides: map[uint64]*side{}}
	if w.raw, err = w.file.SyscallConn(); err != nil {
		_ = w.file.Close()
		return nil, err
	}
	go w.run()
	return w, nil
}

func (w *waiter) run() {
	defer close(w.done)
	events := make([]unix.EpollEvent, 64)
	ready := make([]*side, 0, len(events))
	for {
		n := 0
		err := w.raw.Read(func(fd uintptr) bool {
			var err error
			for {
				if n, err = unix.EpollWait(int(fd), events, 0); err != unix.EINTR {
					return n > 0 || err != nil
				}
			}
		})
		if err != nil || n <= 0 {
			return // closed
		}
		ready = ready[:0]
		w.mu.Lock()
		for _, ev := range events[:n] {
			if s := w.sides[tokenOf(ev)]; s != nil {
				ready = append(ready, s)
			}
		}
		w.mu.Unlock()
		for _, s := range ready {
			s.pair.loop.execute(s.pair, s.writable)
		}
	}
}

// The token in an event is the file descriptor and a number that tells its users apart.
func tokenOf(ev unix.EpollEvent) uint64 { return uint64(uint32(ev.Fd))<<32 | uint64(uint32(ev.Pad)) }

// watch calls side.writable on the side's loop once its socket is writable, or broken.
func (w *waiter) watch(s *side) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.token++
	ev := unix.EpollEvent{Events: unix.EPOLLOUT | unix.EPOLLONESHOT, Fd: int32(s.fd), Pad: int32(w.token)}
	err := unix.EpollCtl(w.fd, unix.EPOLL_CTL_MOD, s.fd, &ev)
	if err == unix.ENOENT {
		err = unix.EpollCtl(w.fd, unix.EPOLL_CTL_ADD, s.fd, &ev)
	}
	if err != nil {
		return os.NewSyscallError("epoll_ctl", err)
	}
	if s.token != 0 {
		delete(w.sides, s.token)
	}
	s.token = tokenOf(ev)
	w.sides[s.token] = s
	return nil
}

// forget ends the watching; the socket must still be open.
func (w *waiter) forget(s *side) {
	if s.token == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.sides, s.token)
	s.token = 0
	_ = unix.EpollCtl(w.fd, unix.EPOLL_CTL_DEL, s.fd, nil)
}

func (w *waiter) close() {
	_ = w.file.Close()
	<-w.done
}
