package proxy

import (
	"container/list"
	"errors"
	"sync"
	"sync/atomic"
)

const (
	// freeHold is what a connection may hold outside of the budget. A login fits, so strangers
	// cannot keep other clients from logging in.
	freeHold = 4 << 10
	// strangersPart is the divisor of the budget for clients that are not known: together they may
	// use 1/strangersPart of it. With bytes that were already read they may exceed that by as much
	// again.
	strangersPart = 4
)

var errMemory = errors.New("no memory left for its requests; see request memory")

// budget is the memory for requests: for bytes that clients have sent and no broker has taken yet.
// If there is no room, klink pauses a connection before it reads, and resumes it when there is.
// Some bytes arrive before klink can check, so there are two limits. Above the soft limit klink
// does not read a connection with an incomplete request. Above the hard limit it closes the
// connection.
//
//	clients that have not logged in   soft: a quarter of general     hard: half of general
//	all together                      soft: general                  hard: general + slack
//	the holder of the lane            nothing but the size of a request
//
// Frames get room as they arrive, because a client can announce a frame that it never sends. So
// incomplete frames may take all the room. Then klink goes on reading one connection at a time, the
// holder of the lane. The holder has limited time, because others wait for the lane. general, slack
// and the largest request add up to Config.RequestMemory.
//
// As long as room is short, an event delivers only a few KiB (see loop.sizeReads). So clients with
// small requests go on, and little arrives before klink can check.
//
// The counters change at the end of events, and only if a connection holds more than freeHold. mu
// is taken only when room is short.
type budget struct {
	general, slack, strange int64
	chunk                   int64 // room that must be free before a connection is read

	used      *atomic.Int64 // including strangers and the lane
	strangers atomic.Int64
	lane      atomic.Pointer[pair]
	inLane    atomic.Int64

	waiting atomic.Int32
	mu      sync.Mutex
	known   list.List // *pair that wait for room; unknown likewise
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

// grow charges n more bytes to a pair, under the hard limits; false = there is no room for them. It
// is for the middle of an event; set corrects the count at the end.
func (m *budget) grow(x *pair, n int64) bool {
	if x.laneBy == 0 {
		if !x.known() {
			if !addBelow(&m.strangers, n, 2*m.strange) {
				return false
			}
			x.chargedStrange += n
		}
		if !addBelow(m.used, n, m.general+m.slack+m.inLane.Load()) {
			return false // set corrects what was added to strangers
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

// tight reports whether one full read of each loop might exceed the room that is left.
func (m *budget) tight(loops int) bool { return m.used.Load()+int64(loops)*readBuffer > m.general }

// roomFor reports whether there is room under the soft limits. It may make x the holder of the
// lane.
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

// laneShare is the divisor of the frame time-out for the holder of the lane: others wait for the
// lane.
const laneShare = 6

// admit reports whether klink may read from a pair. If not, wake resumes the pair when there is
// room.
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
	// Room that became free before the pair was in the queue has not woken it.
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

// forget removes a pair from the queue.
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

// set records that a pair now holds n bytes. It is called on the pair's event loop.
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

// wake resumes as many waiting pairs as there is room for; each checks again.
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

// known reports whether the broker serves this client: the login is proven, or there is no login
// and the broker has answered.
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

// held returns the memory for bytes that the client has sent and the broker has not taken yet.
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

// account records in the budget what the pair holds.
func (x *pair) account() {
	if x.state != dead {
		x.proxy.budget.set(x, x.held())
	}
}

// take adds bytes of the client to its inbox. It closes the connection if there is no room for
// them.
func (x *pair) take(p []byte) {
	m, in := &x.proxy.budget, &x.client.in
	want := x.expects(p)
	grows := in.grows(len(p), want)
	if grows > 0 && int64(in.size()+grows) > freeHold {
		x.account()
		if x.laneBy == 0 && (!x.known() || m.used.Load()+int64(grows) > m.general) {
			// Reserve nothing for the announced rest of the frame, only room for the bytes that are
			// here.
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
