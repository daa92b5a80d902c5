package router

import (
	"context"
	"errors"
	"sync"
	"time"

	"klink/protocol/timeline"
)

// This file bounds the cost of looks into logs. A look reads from the destination with klink's own
// credentials, for a client that needs an offset which no timeline knows. All clients share one
// desk, which hands out the looks:
//
//  1. The desk does not repeat a look that is under way, or that began less than lookedFor ago,
//     whoever asks.
//  2. One connection makes at most sessionLooks in a lookWindow, and maxSessionLooking at a time.
//     Beyond sessionLooks klink does not look: it hides the partition, and the client asks again.
//  3. All connections together make at most totalLooks in a lookWindow, and maxLooking at a time.
//     Connections that want more take turns, so that one with many looks does not delay another
//     with few.

const (
	// lookedFor is how long the result of a look is valid.
	lookedFor = time.Second
	// lookWindow is the period in which looks are counted.
	lookWindow = time.Second
	// sessionLooks is how many looks one connection gets in a lookWindow. Finding an offset in a
	// log that nobody has read for a while takes about twelve.
	sessionLooks = 512
	// maxSessionLooking is how many looks of one connection are under way at a time.
	maxSessionLooking = 8
	// totalLooks is how many looks all connections get in a lookWindow.
	totalLooks = 4096
	// maxLooking is how many looks are under way at a time. Each holds one batch in memory.
	maxLooking = 32
	// turnPatience is how long a look waits for its turn.
	turnPatience = 10 * time.Second
)

// errNoLook: klink did not look, so it does not know the offset. The client must ask again.
var errNoLook = errors.New("too many lookups in logs at the destination; try again")

// lookKey identifies a look. Looks with equal keys are the same.
type lookKey struct {
	line     *timeline.Partition
	physical int64
}

// desk hands out looks. Only requests that need one come here: it is not on the hot path.
type desk struct {
	now func() time.Time // for tests

	mu      sync.Mutex
	running map[lookKey]*lookCall
	looked  map[lookKey]time.Time // successful looks, and when they began
	purged  time.Time             // when old entries of looked were last removed
	count   windowCount
	active  int
	waiting []*share // shares with a waiting look, in the order of their turns
	timer   *time.Timer
}

func newDesk() *desk {
	return &desk{now: time.Now, running: map[lookKey]*lookCall{}, looked: map[lookKey]time.Time{}}
}

// share is the state of one connection at the desk. The desk's lock guards it.
type share struct {
	count  windowCount
	active int
	turns  []chan struct{} // closed when a look may be made
}

// windowCount counts the looks in a lookWindow.
type windowCount struct {
	since time.Time
	used  int
}

// left returns how many of most are left in the current window.
func (w *windowCount) left(now time.Time, most int) int {
	if now.Sub(w.since) >= lookWindow {
		w.since, w.used = now, 0
	}
	return most - w.used
}

// lookCall is a look that is under way. err and abandoned are set before done is closed.
type lookCall struct {
	done      chan struct{}
	err       error
	abandoned bool // its client has gone, so its result means nothing to others
}

// look runs a look, unless the same look is under way or was made a moment ago. fresh is true if
// the look began after this call: only then is the log end that it found valid for this caller. An
// error that wraps errNoLook means that klink did not look.
func (d *desk) look(ctx context.Context, s *share, key lookKey, run func(context.Context) error) (fresh bool, err error) {
	for {
		d.mu.Lock()
		now := d.now()
		if began, ok := d.looked[key]; ok && now.Sub(began) < lookedFor {
			d.mu.Unlock()
			return false, nil
		}
		if c := d.running[key]; c != nil {
			d.mu.Unlock()
			select {
			case <-c.done:
			case <-ctx.Done():
				return false, ctx.Err()
			}
			if c.abandoned {
				continue
			}
			return false, c.err
		}
		if s.count.left(now, sessionLooks) <= 0 {
			d.mu.Unlock()
			return false, errNoLook
		}
		s.count.used++
		c := &lookCall{done: make(chan struct{}), abandoned: true}
		d.running[key] = c
		d.mu.Unlock()
		d.make(ctx, s, key, c, run)
		return true, c.err
	}
}

// make runs the look when its turn comes.
func (d *desk) make(ctx context.Context, s *share, key lookKey, c *lookCall, run func(context.Context) error) {
	var began time.Time
	ran := false
	defer func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if ran && c.err == nil {
			d.remember(key, began)
		}
		delete(d.running, key)
		close(c.done)
	}()
	if c.err = d.turn(ctx, s); c.err == nil {
		defer d.leave(s)
		began = d.now()
		c.err = run(ctx)
		ran = true
	}
	c.abandoned = c.err != nil && ctx.Err() != nil
}

// remember records a successful look. The lock is held.
func (d *desk) remember(key lookKey, began time.Time) {
	if now := d.now(); now.Sub(d.purged) >= lookedFor {
		for k, t := range d.looked {
			if now.Sub(t) >= lookedFor {
				delete(d.looked, k)
			}
		}
		d.purged = now
	}
	d.looked[key] = began
}

// spend runs a look whose result no other caller can use.
func (d *desk) spend(ctx context.Context, s *share, run func(context.Context) error) error {
	d.mu.Lock()
	left := s.count.left(d.now(), sessionLooks)
	if left > 0 {
		s.count.used++
	}
	d.mu.Unlock()
	if left <= 0 {
		return errNoLook
	}
	if err := d.turn(ctx, s); err != nil {
		return err
	}
	defer d.leave(s)
	return run(ctx)
}

// turn waits until the caller may look. If it returns nil, the caller must call leave afterwards.
func (d *desk) turn(ctx context.Context, s *share) error {
	ready := make(chan struct{})
	d.mu.Lock()
	if s.turns = append(s.turns, ready); len(s.turns) == 1 {
		d.waiting = append(d.waiting, s)
	}
	d.serve()
	d.mu.Unlock()
	patience := time.NewTimer(turnPatience)
	defer patience.Stop()
	var err error
	select {
	case <-ready:
		return nil
	case <-ctx.Done():
		err = ctx.Err()
	case <-patience.C:
		err = errNoLook
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for i, t := range s.turns {
		if t == ready {
			s.turns = append(s.turns[:i], s.turns[i+1:]...)
			if len(s.turns) == 0 {
				d.drop(s)
			}
			return err
		}
	}
	d.left(s) // its turn came at the last moment
	return err
}

func (d *desk) drop(s *share) {
	for i, w := range d.waiting {
		if w == s {
			d.waiting = append(d.waiting[:i], d.waiting[i+1:]...)
			return
		}
	}
}

func (d *desk) leave(s *share) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.left(s)
}

func (d *desk) left(s *share) {
	d.active--
	s.active--
	d.serve()
}

// serve gives turns to the waiting looks, one connection after the other. The lock is held.
func (d *desk) serve() {
	for passed := 0; passed < len(d.waiting) && d.active < maxLooking; {
		now := d.now()
		if d.count.left(now, totalLooks) <= 0 {
			d.later(d.count.since.Add(lookWindow).Sub(now))
			return
		}
		s := d.waiting[0]
		d.waiting = d.waiting[1:]
		if s.active >= maxSessionLooking {
			d.waiting = append(d.waiting, s)
			passed++
			continue
		}
		passed = 0
		close(s.turns[0])
		s.turns = s.turns[1:]
		s.active++
		d.active++
		d.count.used++
		if len(s.turns) > 0 {
			d.waiting = append(d.waiting, s)
		}
	}
}

// later calls serve again after a while. The lock is held.
func (d *desk) later(after time.Duration) {
	if d.timer != nil {
		return
	}
	d.timer = time.AfterFunc(after, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.timer = nil
		d.serve()
	})
}
