package proxy

import (
	"container/list"
	"errors"
	"sync"
	"sync/atomic"
)

const (
	// freeHold is what a connection may hold without asking: a login fits in, so that no stranger
	// keeps others from theirs.
	freeHold = 4 << 10
	// strangersPart is the part of the budget that clients may use that are not known; they may
	// exceed it once by as much, with bytes that were read already.
	strangersPart = 4
)

var errMemory = errors.New("no room for its requests; see request memory")

// budget is the memory for requests: for what clients have sent and no broker has taken yet. A
// connection pauses before it is read if there is no room, and goes on when there is. Some bytes
// come before anybody can ask, so there are two limits. Above the soft one a connection with a
// request that is not complete is not read. Above the hard one it is closed.
//
//	clients that have not logged in   soft: a quarter of general     hard: half of general
//	all together                      soft: general                  hard: general + slack
//	the holder of the lane            nothing but the size of a request
//
// Frames get room as they arrive, since anybody can announce what he never sends. So all room may
// be taken by frames that are not complete. Then one connection at a time, the holder of the lane,
// is read on. Its time is limited, as others wait for it. general, slack and the largest request
// make up Config.RequestMemory.
//
// As long as room is short, an event brings a few KiB at most (see loop.sizeReads). That keeps
// clients with small requests going, and what comes unasked small.
//
// The counters change at the end of events, and only where a connection holds more than freeHold.
// mu is taken only when room is short.
type budget struct {
	general, slack, strange int64
	chunk                   int64 // what must be free before a connection is read

	used      *atomic.Int64 // strangers and the lane included
	strangers atomic.Int64
	lane      atomic.Pointer[pair]
	inLane    atomic.Int64

	waiting atomic.Int32
	mu      sync.Mutex
	known   list.List // of *pair that wait for room
	unknown list.List
}

// minMemory is the smallest budget that leaves room for more than one connection.
const minMemory = 16 << 20

func (m *budget) init(total, largest int64, used *atomic.Int64) {
	rest := total - largest
	m.slack = rest / 8
	m.general, m.used = rest-m.slack, used
	m.strange = m.general / strangersPart
	m.chunk = min(readBuffer, m.strange/4)
}

// grow gives a pair so many bytes more, under the hard limits; false = there is no room for them.
// It is for what is needed in the middle of an event; set corrects it at the end.
func (m *budget) grow(x *pair, n int64) bool {
	if x.laneBy == 0 {
		if !x.known() {
			if !addBelow(&m.strangers, n, 2*m.strange) {
				return false
			}
			x.chargedStrange += n
		}
		if !addBelow(m.used, n, m.general+m.slack+m.inLane.Load()) {
			return false // what strangers were given is corrected by set
		}
	} else {
		m.used.Add(n)
		m.inLane.Add(n)
	}
	x.charged += n
	return true
}

// addBelow adds n unless that would exceed the limit.
func addBelow(to *atomic.Int64, n, limit int64) bool {
	for {
		now := to.Load()
		if now+n > limit {
			return false
		}
		if to.CompareAndSwap(now, now+n) {
			return true
		}
	}
}

// tight says that there may be no room for what loops read at once.
func (m *budget) tight(loops int) bool { return m.used.Load()+int64(loops)*readBuffer > m.general }

// roomFor says whether there is room under the soft limits.
func (m *budget) roomFor(x *pair) bool {
	free := m.used.Load()+m.chunk <= m.general
	if !x.known() {
		return free && m.strangers.Load()+m.chunk <= m.strange
	}
	if free || x.laneBy != 0 {
		return true
	}
	if !m.lane.CompareAndSwap(nil, x) {
		return false
	}
	m.inLane.Store(x.charged)
	x.laneBy = max(x.loop.wheel.now+x.proxy.ticks(x.proxy.config.FrameTimeout/laneShare), 1)
	x.visitBy(x.laneBy)
	return true
}

// laneShare is the part of the frame time-out that the holder of the lane has: others wait for it.
const laneShare = 6

// admit says whether a pair may be read. If not, it will be woken when there is room.
func (m *budget) admit(x *pair) bool {
	if m.roomFor(x) {
		m.forget(x)
		return true
	}
	m.mu.Lock()
	if x.queued == nil {
		x.queuedKnown = x.known()
		x.queued = m.queue(x.queuedKnown).PushBack(x)
		m.waiting.Add(1)
	}
	m.mu.Unlock()
	// What became free before the pair was in the queue has woken nobody.
	if m.roomFor(x) {
		m.forget(x)
		return true
	}
	return false
}

func (m *budget) queue(known bool) *list.List {
	if known {
		return &m.known
	}
	return &m.unknown
}

// forget takes a pair out of the queue.
func (m *budget) forget(x *pair) {
	if m.waiting.Load() == 0 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.dequeue(x)
}

// dequeue is forget with mu held.
func (m *budget) dequeue(x *pair) {
	if x.queued != nil {
		m.queue(x.queuedKnown).Remove(x.queued)
		x.queued = nil
		m.waiting.Add(-1)
	}
}

// set notes what a pair holds now. It is called on the pair's event loop.
func (m *budget) set(x *pair, n int64) {
	if n <= freeHold {
		n = 0
	}
	strange := int64(0)
	if n > 0 && !x.known() {
		strange = n
	}
	freed := n < x.charged || strange < x.chargedStrange
	if n != x.charged {
		m.used.Add(n - x.charged)
		x.charged = n
	}
	if strange != x.chargedStrange {
		m.strangers.Add(strange - x.chargedStrange)
		x.chargedStrange = strange
	}
	if x.laneBy != 0 {
		m.inLane.Store(n)
		if n == 0 {
			x.laneBy = 0
			m.lane.Store(nil)
			freed = true
		}
	}
	if freed {
		m.wake()
	}
}

// wake has as many waiting pairs look again as there is room for.
func (m *budget) wake() {
	if m.waiting.Load() == 0 {
		return
	}
	known := (m.general - m.used.Load()) / m.chunk
	if known <= 0 && m.lane.Load() == nil {
		known = 1
	}
	unknown := min(known, (m.strange-m.strangers.Load())/m.chunk)
	var woken []*pair
	m.mu.Lock()
	for known > 0 && m.known.Len() > 0 {
		woken = append(woken, m.known.Front().Value.(*pair))
		m.dequeue(woken[len(woken)-1])
		known--
	}
	for unknown > 0 && m.unknown.Len() > 0 {
		woken = append(woken, m.unknown.Front().Value.(*pair))
		m.dequeue(woken[len(woken)-1])
		unknown--
	}
	m.mu.Unlock()
	for _, x := range woken {
		x.loop.execute(x, x.advance)
	}
}

// known says whether the broker serves this client: the login is proven, or there is none and the
// broker has answered.
func (x *pair) known() bool {
	if !x.isKnown && x.session != nil {
		if x.proxy.config.SASL {
			x.isKnown = x.session.Proven()
		} else {
			x.isKnown = x.served
		}
	}
	return x.isKnown
}

// held is the memory of what the client has sent and the broker has not taken yet, in bytes.
func (x *pair) held() int64 {
	n := x.client.in.size() + x.up.out.size()
	if t := x.client.tls; t != nil {
		n += t.pipe.kept.size()
	}
	for _, e := range x.fifo {
		n += e.request.size()
	}
	return int64(n)
}

// account notes in the budget what the pair holds.
func (x *pair) account() {
	if x.state != dead {
		x.proxy.budget.set(x, x.held())
	}
}

// take adds bytes of the client to its inbox, or closes the connection if there is no room for
// them.
func (x *pair) take(p []byte) {
	m, in := &x.proxy.budget, &x.client.in
	want := x.expects(p)
	grows := in.grows(len(p), want)
	if grows > 0 && int64(in.size()+grows) > freeHold {
		x.account()
		if x.laneBy == 0 && (!x.known() || m.used.Load()+int64(grows) > m.general) {
			// What is announced can wait; what is here cannot.
			want = -want
			grows = in.grows(len(p), want)
		}
		if !m.grow(x, x.held()+int64(grows)-x.charged) {
			x.closeFor(ReasonMemory, errMemory)
			return
		}
	}
	in.addHint(p, want)
}
