package proxy

import (
	"fmt"
	"reflect"
	"sync"

	"github.com/panjf2000/gnet/v2"
)

// poller is the epoll instance (on BSD and macOS, the kqueue) of a gnet event loop. gnet does not
// expose it, and cannot suspend or resume reading a socket. So this package reads the poller's file
// descriptor out of the event loop and changes the interest in a socket behind gnet's back. That is
// safe as long as gnet does not change it too. gnet does so only for its own outbound buffer, which
// this package never uses.
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

// readBufferOf finds the field buffer of *gnet.eventloop, in gnet v2.10.0: the buffer that the next
// read fills.
func readBufferOf(el gnet.EventLoop) (*[]byte, error) {
	v := reflect.Indirect(reflect.ValueOf(el))
	if v.Kind() == reflect.Struct {
		if f := v.FieldByName("buffer"); f.IsValid() && f.Type() == reflect.TypeFor[[]byte]() && f.CanAddr() && f.Cap() >= readBuffer {
			return (*[]byte)(f.Addr().UnsafePointer()), nil
		}
	}
	return nil, fmt.Errorf("gnet's event loop (%T) has no field buffer of %d bytes: klink needs gnet v2.10.0 exactly", el, readBuffer)
}

// waiter tells sides that their socket accepts bytes again. It has its own poller, which watches
// each socket for one event, and one goroutine for all loops.
//
// mu guards sides and token. Only the poller is called while it is held.
type waiter struct {
	queue *writeQueue
	done  chan struct{}

	mu    sync.Mutex
	sides map[uint64]*side
	token uint32
}

func newWaiter() (*waiter, error) {
	queue, err := newWriteQueue()
	if err != nil {
		return nil, err
	}
	w := &waiter{queue: queue, done: make(chan struct{}), sides: map[uint64]*side{}}
	go w.run()
	return w, nil
}

func (w *waiter) run() {
	defer close(w.done)
	var tokens []uint64
	var ready []*side
	for {
		var ok bool
		if tokens, ok = w.queue.wait(tokens[:0]); !ok {
			return
		}
		ready = ready[:0]
		w.mu.Lock()
		for _, token := range tokens {
			if s := w.sides[token]; s != nil {
				ready = append(ready, s)
			}
		}
		w.mu.Unlock()
		for _, s := range ready {
			s.pair.loop.execute(s.pair, s.writable)
		}
		clear(ready)
	}
}

// watch makes the side's loop call side.writable once the socket is writable, or broken. The token
// that identifies the side combines its file descriptor with a number that distinguishes the
// descriptor's users.
func (w *waiter) watch(s *side) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.token++
	token := uint64(uint32(s.fd))<<32 | uint64(w.token)
	if err := w.queue.watch(s.fd, token); err != nil {
		return err
	}
	delete(w.sides, s.token)
	s.token = token
	w.sides[token] = s
	return nil
}

// forget stops watching a side. Its socket must still be open.
func (w *waiter) forget(s *side) {
	if s.token == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.sides, s.token)
	s.token = 0
	w.queue.forget(s.fd)
}

func (w *waiter) close() {
	w.queue.close()
	<-w.done
}
