package admin

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"klink/admin/store"
	"klink/internal/retry"

	"github.com/twmb/franz-go/pkg/kerr"
)

// This file makes sure that no instance of a destination lets clients write to a mirror that the
// instance does not know. router.Lease says what an instance may serve; this file has what the
// lease rests on.
//
// The state topic has a record of each instance that serves clients. The rules:
//
//  1. An instance introduces itself before it serves: it writes its record, then reads the topic to
//     its end. An instance that records a mirror after that sees the new record, because caslog.Log
//     evaluates every change on all changes before it. Mirrors that were recorded before are in
//     what the new instance has read.
//  2. An instance whose lease has ended introduces itself again.
//  3. Before an instance creates the topic of a mirror, it waits for every other instance with a
//     record (seen), until one of two things is true. Either that instance has said that it knows
//     the mirror, by a higher Seen in its record, or its lease has ended. The lease has certainly
//     ended when its lease time has passed since the mirror was recorded, and its session time has
//     passed since the group of instances was first seen without it. For everything that it read
//     after the mirror was recorded includes the mirror, and only the membership that it had then
//     extends its lease.
//  4. If an instance was waited for in vain, its record is marked as doubted. It cannot extend its
//     lease by a read that shows the doubt. When the times of rule 3 have passed since the doubt
//     was recorded, its record is deleted, and nobody waits for it any more. If it is still alive,
//     it introduces itself again, by rule 2.
//
// A batch that an instance sent to a broker before its lease ended may still arrive later. It has
// no stamp, and so is void for every reader of the mirror.

// tasksGroup is the group of klink's instances. It has the name of replicator.TasksTopic.
const tasksGroup = "_klink_tasks"

const (
	defaultStateLease = 10 * time.Second
	// seenPatience is how long klink waits for an instance before it asks the group for its
	// members.
	seenPatience = 500 * time.Millisecond
	leaveTimeout = 2 * time.Second
)

// holdLease reads the state topic to its end, and so extends the lease, or begins it. If need be,
// it introduces this instance first.
func (s *Service) holdLease(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.StateLease)
	defer cancel()
	known := s.store.Known(s.id) != nil
	if s.introduced && !known && !s.store.Doubted(s.id) && !s.leaving.Load() {
		s.log.Warn("another instance declared this one dead, or has the same name; this one registers again")
		s.lease.End()
	}
	begin := !known || !s.lease.Serves()
	if begin {
		r := store.InstanceRecord{LeaseMs: s.cfg.StateLease.Milliseconds(), SessionMs: s.cfg.HeardFor.Milliseconds()}
		if s.cfg.Instance != nil {
			r.Name, r.ClientID = s.cfg.Instance()
		}
		if err := s.store.Introduce(ctx, s.id, r, !s.introduced, s.leaving.Load); err != nil {
			return fmt.Errorf("could not register this instance in %s: %w", store.StateTopic, err)
		}
		s.introduced = true
	}
	question := s.lease.Ask()
	if err := s.store.ReadToEnd(ctx); err != nil {
		return err
	}
	switch {
	case s.store.Known(s.id) == nil:
		return errors.New("another instance suspects that this one is dead")
	case begin:
		s.lease.Begin(question, s.cfg.StateLease)
	case !s.lease.Extend(question, s.cfg.StateLease):
		return errors.New("the state topic was read too late")
	}
	return nil
}

// keepLease calls holdLease at intervals until Close. It also forgets instances that are dead.
func (s *Service) keepLease() {
	interval := s.cfg.StateLease / 10
	doubts := map[string]*doubt{}
	var complained time.Time
	for {
		err := s.holdLease(s.ctx)
		if s.ctx.Err() != nil || s.leaving.Load() {
			return
		}
		if err != nil {
			s.leaseTrouble.Store(&err)
			if !s.lease.Fresh() && time.Since(complained) > 10*time.Second {
				complained = time.Now()
				s.log.Error("cannot read the state topic to its end: produce requests to mirrors wait, and all produce requests if the other instances may not wait for this one; grant klink's principal READ, WRITE and DESCRIBE on the topic, and check that this machine can reach its leader",
					"topic", store.StateTopic, "serving", s.lease.Serves(), "error", err)
			}
		} else if s.leaseTrouble.Swap(nil) != nil && !complained.IsZero() {
			s.log.Info("klink can read the state topic to its end again", "topic", store.StateTopic)
			complained = time.Time{}
		}
		if err == nil {
			if err := s.forgetDead(s.ctx, doubts); err != nil && s.ctx.Err() == nil {
				s.log.Debug("could not remove the records of dead instances yet", "error", err)
			}
		}
		wait := interval
		if err != nil && !s.lease.Serves() { // clients wait
			wait = min(interval, 200*time.Millisecond)
		}
		if retry.Sleep(s.ctx, wait) != nil {
			return
		}
	}
}

// StateProblem returns why what this instance knows of mirrors may be out of date; nil = it is not.
func (s *Service) StateProblem() error {
	if s.lease.Fresh() {
		return nil
	}
	consequence := "produce requests to mirrors wait"
	if !s.lease.Serves() {
		consequence = "all produce requests wait"
	}
	why := ""
	if err := s.leaseTrouble.Load(); err != nil {
		why = ": " + (*err).Error()
	}
	if age, ok := s.lease.Age(); ok {
		return fmt.Errorf("the state topic %s was last read to its end %v ago; %s%s", store.StateTopic, age.Round(time.Second), consequence, why)
	}
	return fmt.Errorf("the state topic %s has not been read to its end yet; %s%s", store.StateTopic, consequence, why)
}

// StateAge returns how long ago the state topic was last read to its end; false if it never was.
func (s *Service) StateAge() (time.Duration, bool) { return s.lease.Age() }

// leave deletes this instance's record from the state topic, so that nobody waits for this
// instance. From then on it serves nothing.
func (s *Service) leave() {
	select {
	case <-s.ready:
	default:
		return
	}
	s.leaving.Store(true)
	s.lease.End()
	ctx, cancel := context.WithTimeout(s.ctx, leaveTimeout)
	defer cancel()
	if err := s.store.Update(ctx, func(tx *store.Tx) error { tx.DeleteInstance(s.id); return nil }); err != nil {
		s.log.Warn("could not tell the other instances that this one is stopping: the next mirror that they create waits until this one's lease has expired", "error", err)
	}
}

// acknowledge tells the other instances which mirrors this instance knows, as soon as its router
// knows them. It does so by Seen in its record.
func (s *Service) acknowledge() {
	changes, end := s.Subscribe()
	defer end()
	again := time.NewTicker(time.Second)
	defer again.Stop()
	for {
		select {
		case <-changes:
		case <-again.C:
		case <-s.ctx.Done():
			return
		}
		seen, news := s.unacknowledged()
		if !news {
			continue
		}
		ctx, cancel := context.WithTimeout(s.ctx, s.cfg.StateLease)
		err := s.store.Update(ctx, func(tx *store.Tx) error {
			r, err := tx.Instance(s.id)
			if err != nil || r == nil || r.Doubted || r.Seen >= seen {
				return err
			}
			r = r.Clone()
			r.Seen = seen
			return tx.PutInstance(s.id, r)
		})
		cancel()
		if err != nil && s.ctx.Err() == nil {
			s.log.Warn("could not tell the other instances that this one knows a new mirror; the creation of its topic waits", "error", err)
		}
	}
}

// unacknowledged returns the offset before which this instance's router knows every mirror. news is
// true if the record of this instance does not say so yet, and another instance may be waiting for
// that.
func (s *Service) unacknowledged() (seen int64, news bool) {
	state := s.State()
	if len(state.Recorded) == 0 || len(s.store.Instances(s.id)) == 0 {
		return 0, false
	}
	me := s.store.Known(s.id)
	if me == nil {
		return 0, false
	}
	for topic, at := range state.Recorded {
		if !s.isCreating(topic) {
			seen = max(seen, at+1)
		}
	}
	return seen, seen > me.Seen
}

// seenWait is one wait for the other instances to know a mirror.
type seenWait struct {
	since  time.Time            // its start; the mirror was recorded before
	absent map[string]time.Time // by instance: when the group was first seen without it
	asked  time.Time            // when the group was asked last
}

func newSeenWait() *seenWait { return &seenWait{since: time.Now(), absent: map[string]time.Time{}} }

// errUnseen: the topic of a mirror cannot be created yet, because another instance may still let
// clients write to it.
type errUnseen struct {
	topic   string
	waiting []store.Instance
}

func (e *errUnseen) Error() string {
	var names []string
	for _, i := range e.waiting {
		names = append(names, i.Describe())
	}
	return fmt.Sprintf("other instances of klink do not know yet that '%s' is a mirror: %s; klink continues once they do, or once they have left the group %s and their lease has expired: see their /readyz",
		e.topic, strings.Join(names, ", "), tasksGroup)
}

// seen returns nil if no other instance can let clients write to a recorded mirror: each has said
// that it knows the mirror, or cannot serve any more. If one still can, the error is an *errUnseen,
// and the caller calls seen again with the same w.
func (s *Service) seen(ctx context.Context, topic string, w *seenWait) error {
	var waiting, dead []store.Instance
	blind := s.store.Blind(topic, s.id)
	if len(blind) == 0 {
		return nil
	}
	if err := s.lookForAbsent(ctx, blind, w); err != nil {
		s.log.Debug("could not list the members of the group of instances", "group", tasksGroup, "error", err)
	}
	for _, i := range blind {
		if w.over(i, time.Now()) {
			dead = append(dead, i)
		} else {
			waiting = append(waiting, i)
		}
	}
	if len(waiting) > 0 {
		return &errUnseen{topic, waiting}
	}
	return s.doubt(ctx, dead)
}

// awaitSeen calls seen until the error is no *errUnseen, or ctx ends.
func (s *Service) awaitSeen(ctx context.Context, topic string, w *seenWait) error {
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, pollInterval) {
		err := s.seen(ctx, topic, w)
		if !errors.As(err, new(*errUnseen)) {
			return err
		}
		if ended := retry.Sleep(ctx, pause); ended != nil {
			return fmt.Errorf("%w: %w", err, ended)
		}
	}
}

// over reports whether an instance can no longer serve by what it knew before the wait began.
func (w *seenWait) over(i store.Instance, now time.Time) bool {
	if now.Sub(w.since) < i.Lease() {
		return false
	}
	if i.ClientID == "" || i.SessionMs == 0 {
		return true
	}
	since, absent := w.absent[i.ID]
	return absent && now.Sub(since) >= i.Session()
}

// lookForAbsent notes which instances the group lacks. Once it has lacked an instance, it does not
// matter if the instance joins again: that is a new membership, which does not extend the lease
// that the caller waits for. It asks the group at most once every seenPatience.
func (s *Service) lookForAbsent(ctx context.Context, of []store.Instance, w *seenWait) error {
	now := time.Now()
	if now.Sub(w.since) < seenPatience || now.Sub(w.asked) < seenPatience {
		return nil
	}
	w.asked = now
	if !slices.ContainsFunc(of, func(i store.Instance) bool { return i.ClientID != "" && w.absent[i.ID].IsZero() }) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	described, err := s.admin.DescribeGroups(ctx, tasksGroup)
	if err != nil {
		return err
	}
	group := described[tasksGroup]
	if group.Err != nil && !errors.Is(group.Err, kerr.GroupIDNotFound) {
		return group.Err
	}
	members := map[string]bool{}
	for _, m := range group.Members {
		members[m.ClientID] = true
	}
	now = time.Now()
	for _, i := range of {
		if _, ok := w.absent[i.ID]; !ok && !members[i.ClientID] {
			w.absent[i.ID] = now
		}
	}
	return nil
}

// doubt marks the records of instances that this instance has waited for in vain.
func (s *Service) doubt(ctx context.Context, dead []store.Instance) error {
	for _, i := range dead {
		if i.Doubted {
			continue
		}
		s.log.Warn("an instance of klink is considered dead: it has not read the state topic for longer than its lease", "instance", i.Describe())
	}
	return s.store.Update(ctx, func(tx *store.Tx) error {
		for _, i := range dead {
			r, err := tx.Instance(i.ID)
			if err != nil {
				r = i.InstanceRecord // it cannot be read, so replace it
			}
			if r == nil || err == nil && (r.Doubted || r.Seen != i.Seen) {
				continue
			}
			r = r.Clone()
			r.Doubted = true
			if err := tx.PutInstance(i.ID, r); err != nil {
				return err
			}
		}
		return nil
	})
}

// doubt is a doubt in the record of an instance: the offset of that record, and since when this
// instance has known it.
type doubt struct {
	seenWait
	offset int64
}

// forgetDead deletes the records of instances that have been doubted for long enough.
func (s *Service) forgetDead(ctx context.Context, doubts map[string]*doubt) error {
	doubted := map[string]bool{}
	var dead []store.Instance
	for _, i := range s.store.Instances(s.id) {
		if !i.Doubted {
			continue
		}
		doubted[i.ID] = true
		d := doubts[i.ID]
		if d == nil || d.offset != i.Offset {
			d = &doubt{*newSeenWait(), i.Offset}
			doubts[i.ID] = d
		}
		if err := s.lookForAbsent(ctx, []store.Instance{i}, &d.seenWait); err != nil {
			return err
		}
		if d.over(i, time.Now()) {
			dead = append(dead, i)
		}
	}
	maps.DeleteFunc(doubts, func(id string, _ *doubt) bool { return !doubted[id] })
	if len(dead) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.StateLease)
	defer cancel()
	return s.store.Update(ctx, func(tx *store.Tx) error {
		for _, i := range dead {
			if r, err := tx.Instance(i.ID); err == nil && r != nil && r.Doubted {
				tx.DeleteInstance(i.ID)
			}
		}
		return nil
	})
}
