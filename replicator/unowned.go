package replicator

import (
	"context"
	"fmt"
	"sync"
	"time"

	"klink/admin/model"
	"klink/internal/retry"
	"klink/replicator/group"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// sightings records, for each slot, when this instance last knew that some instance had it. From
// time to time it asks the coordinator what the members of the group were assigned, and counts only
// what an instance of klink has assigned (groupKey). So it can tell that nobody copies a mirror,
// even if this instance cannot join the group, or if a member that is no klink keeps the group from
// working.
type sightings struct {
	mu   sync.Mutex
	at   [group.Slots]time.Time
	said string // the coordinator's last answer
}

func newSightings() *sightings {
	s := &sightings{said: "not asked yet"}
	for slot := range s.at {
		s.at[slot] = time.Now()
	}
	return s
}

// note records the coordinator's answer, and the slots that some instance has now.
func (s *sightings) note(said string, owned group.SlotSet) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.said = said
	for _, slot := range owned.List() {
		s.at[slot] = time.Now()
	}
}

// last returns when some instance was last seen to have a slot, and the coordinator's last answer.
func (s *sightings) last(slot int) (at time.Time, said string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.at[slot], s.said
}

// unownedAfter is how many session time-outs a slot must be without an owner before that is shown.
// An instance that was killed is replaced after one.
const unownedAfter = 3

var _ model.OwnerReporter = (*Replicator)(nil)

// Unowned implements model.OwnerReporter.
func (r *Replicator) Unowned(topic string) string {
	if r.sightings == nil {
		return ""
	}
	var partitions int32
	if m := r.cfg.Control.State().Mirrors[topic]; m != nil {
		partitions = m.Partitions
	}
	age, said := time.Duration(0), ""
	for _, slot := range group.SlotsOf(topic, int(partitions)).List() {
		if r.owner.owns(int(slot)) {
			continue
		}
		at, last := r.sightings.last(int(slot))
		if since := time.Since(at); since > age {
			age, said = since, last
		}
	}
	if age < unownedAfter*r.owner.lease.Session {
		return ""
	}
	return fmt.Sprintf("no instance of klink has owned its slot for %v, as far as this one can see; the group %s at the destination: %s; the log of each instance says why it is not in the group",
		age.Round(time.Second), r.cfg.Group.name(), said)
}

// watchOwners asks the coordinator about the group until ctx ends.
func (m *member) watchOwners(ctx context.Context) {
	for retry.Sleep(ctx, m.session) == nil {
		said, owned := m.owners(ctx)
		working, _ := m.own.holding()
		m.r.sightings.note(said, owned|working)
	}
}

// owners returns the slots that an instance of klink has assigned to members of the group, and the
// coordinator's answer as a text.
func (m *member) owners(ctx context.Context) (said string, owned group.SlotSet) {
	ctx, cancel := context.WithTimeout(ctx, m.session)
	defer cancel()
	req := kmsg.NewPtrDescribeGroupsRequest()
	req.Groups = []string{m.group}
	resp, err := req.RequestWith(ctx, m.client)
	if err != nil {
		return err.Error(), 0
	}
	if len(resp.Groups) != 1 {
		return "the coordinator did not describe it", 0
	}
	g := &resp.Groups[0]
	if err := kerr.ErrorForCode(g.ErrorCode); err != nil {
		return err.Error(), 0
	}
	key, err := m.r.cfg.Control.GroupKey(ctx)
	if err != nil {
		return err.Error(), 0
	}
	instances := 0
	for _, other := range g.Members {
		if given, ok := group.Key(key).Assigned(m.group, other.MemberID, other.MemberAssignment); ok {
			owned |= given
			instances++
		}
	}
	return fmt.Sprintf("state %.40q, %d members, of which %d have an assignment from klink", g.State, len(g.Members), instances), owned
}

// lastStatus is the last known status of a mirror that this instance does not run now. It is from
// when this instance ran it, or was published since by the instance that owned it (board). It is
// only shown to people; the time of the last fetch says how old it is.
type lastStatus struct {
	mirrorKey
	partitions []model.PartitionStatus
}

// remember stores the status of a mirror: for each partition, the later of seen and what is stored.
func (r *Replicator) remember(topic string, key mirrorKey, seen []model.PartitionStatus) {
	r.mu.Lock()
	defer r.mu.Unlock()
	last := r.last[topic]
	if last.mirrorKey == key {
		for p, s := range last.partitions {
			if p >= len(seen) {
				seen = append(seen, s)
			} else if s.LastFetch.After(seen[p].LastFetch) {
				seen[p] = s
			}
		}
	}
	if len(seen) > 0 {
		r.last[topic] = lastStatus{key, seen}
	}
}
