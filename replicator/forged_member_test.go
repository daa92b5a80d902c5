package replicator

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"klink/internal/kafkatest"
	"klink/internal/retry"
	"klink/replicator/group"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// intruder is a member of the group that is not klink: somebody with READ on the group at the
// brokers. It joins again when it is removed, ignores what it is given, and as the leader assigns
// what plan says.
type intruder struct {
	t        *testing.T
	cl       *kgo.Client
	metadata []byte
	protocol string
	// plan returns what it assigns as the leader; nil = nothing to anybody.
	plan func(members []kmsg.JoinGroupResponseMember, generation int32) map[string][]byte

	mu    sync.Mutex
	joins int
	leads int
	given int // slots, at most
}

// intrude joins, and goes on until the test ends or stop is called.
func (w *world) intrude(i *intruder) (stop func()) {
	w.t.Helper()
	i.t = w.t
	if i.protocol == "" {
		i.protocol = group.Protocol
	}
	i.cl = kafkatest.NewClient(w.t, kgo.SeedBrokers(w.dst.seeds...), kgo.ClientID("klink/one"))
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		id := ""
		for ctx.Err() == nil {
			id = i.turn(ctx, id)
			_ = retry.Sleep(ctx, 10*time.Millisecond)
		}
	})
	stop = sync.OnceFunc(func() { cancel(); done.Wait() })
	w.t.Cleanup(stop)
	return stop
}

// turn joins one generation and stays in it.
func (i *intruder) turn(ctx context.Context, id string) string {
	join := kmsg.NewPtrJoinGroupRequest()
	join.Group, join.MemberID, join.ProtocolType = group.TasksTopic, id, group.ProtocolType
	join.SessionTimeoutMillis, join.RebalanceTimeoutMillis = 6000, 6000
	join.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: i.protocol, Metadata: i.metadata}}
	joined, err := join.RequestWith(ctx, i.cl)
	if err != nil {
		return id
	}
	if err := kerr.ErrorForCode(joined.ErrorCode); err != nil {
		if errors.Is(err, kerr.MemberIDRequired) {
			return joined.MemberID
		}
		return ""
	}
	sync := kmsg.NewPtrSyncGroupRequest()
	sync.Group, sync.Generation, sync.MemberID = group.TasksTopic, joined.Generation, joined.MemberID
	kind := group.ProtocolType
	sync.ProtocolType, sync.Protocol = &kind, &i.protocol
	i.mu.Lock()
	i.joins++
	if joined.LeaderID == joined.MemberID {
		i.leads++
		if i.plan != nil {
			for member, assignment := range i.plan(joined.Members, joined.Generation) {
				sync.GroupAssignment = append(sync.GroupAssignment, kmsg.SyncGroupRequestGroupAssignment{MemberID: member, MemberAssignment: assignment})
			}
		}
	}
	i.mu.Unlock()
	synced, err := sync.RequestWith(ctx, i.cl)
	if err != nil || synced.ErrorCode != 0 {
		return joined.MemberID
	}
	i.mu.Lock()
	i.given = max(i.given, giftIn(synced.MemberAssignment).Len())
	i.mu.Unlock()
	for retry.Sleep(ctx, 50*time.Millisecond) == nil {
		beat := kmsg.NewPtrHeartbeatRequest()
		beat.Group, beat.Generation, beat.MemberID = group.TasksTopic, joined.Generation, joined.MemberID
		resp, err := beat.RequestWith(ctx, i.cl)
		if err == nil && resp.ErrorCode != 0 {
			if errors.Is(kerr.ErrorForCode(resp.ErrorCode), kerr.UnknownMemberID) {
				return ""
			}
			return joined.MemberID
		}
	}
	return joined.MemberID
}

func (i *intruder) seen() (joins, leads, given int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.joins, i.leads, i.given
}

// giftIn returns what an assignment gives, whoever made it.
func giftIn(b []byte) (given group.SlotSet) {
	a := kmsg.NewConsumerMemberAssignment()
	if a.ReadFrom(b) != nil {
		return 0
	}
	for _, t := range a.Topics {
		given |= group.SetOf(t.Partitions)
	}
	return given
}

// forge returns metadata like klink's, made by somebody who knows everything about klink but the
// key.
func forge(owned []int32, generation int32, proof []byte) []byte {
	m := kmsg.NewConsumerMemberMetadata()
	m.Version, m.Topics = 1, []string{group.TasksTopic}
	m.UserData, _ = json.Marshal(group.Said{Generation: generation, Proof: proof})
	m.OwnedPartitions = []kmsg.ConsumerMemberMetadataOwnedPartition{{Topic: group.TasksTopic, Partitions: owned}}
	return m.AppendTo(nil)
}

// forgeGift returns an assignment like klink's.
func forgeGift(given group.SlotSet, members int) []byte {
	a := kmsg.NewConsumerMemberAssignment()
	a.UserData, _ = json.Marshal(group.Said{Members: members, Proof: bytes.Repeat([]byte{1}, 32)})
	a.Topics = []kmsg.ConsumerMemberAssignmentTopic{{Topic: group.TasksTopic, Partitions: given.List()}}
	return a.AppendTo(nil)
}

var forgedClaims = map[string][]byte{
	"all slots, future generation": forge(group.AllSlots.List(), math.MaxInt32, nil),
	"all slots, a wrong proof":     forge(group.AllSlots.List(), 1, bytes.Repeat([]byte{7}, 32)),
	"slots that are none":          forge([]int32{-1, 24, math.MaxInt32, 3}, 1, nil),
	"nothing":                      forge(nil, -1, nil),
	"bytes that are none":          []byte("\x00\x01\xff\xff\xff\xff"),
	"no bytes":                     {},
	"huge":                         bytes.Repeat([]byte{1}, 4*group.MaxBytes),
}

// TestForgedMembers: an intruder without the key is given nothing, whatever it claims. Its claims
// take nothing from an instance, which goes on with all slots in each generation.
func TestForgedMembers(t *testing.T) {
	for name, metadata := range forgedClaims {
		t.Run(name, func(t *testing.T) {
			w, _, _ := embedded(t, kfake.GroupMinSessionTimeout(100*time.Millisecond))
			w.topics("orders", 2)
			w.mirror("orders")
			one := w.instance("one", 3*time.Second)
			w.awaitShared(one)
			i := &intruder{metadata: metadata}
			w.intrude(i)
			w.await("the intruder to join", func() (bool, string) { n, _, _ := i.seen(); return n > 0, fmt.Sprint(n) })
			for range 10 {
				w.produce("orders", 0, 5, 20)
				w.awaitMirrored("orders", one)
				if working, _ := one.r.owner.holding(); working != group.AllSlots {
					t.Fatalf("the instance has %b", working)
				}
			}
			if _, _, given := i.seen(); given != 0 {
				t.Errorf("the intruder was given %d slots", given)
			}
			two := w.instance("two", 3*time.Second)
			w.awaitShared(one, two)
			w.produce("orders", 1, 5, 20)
			w.awaitMirrored("orders", one, two)
			w.same("orders")
		})
	}
}

// TestAnotherProtocolIsTold: somebody holds the group with a protocol of another name, or of
// another version of klink. No instance can join, and none removes that member, which may be an
// older klink. Every instance then reports that nobody copies the mirror, and once the member has
// gone, that somebody does.
func TestAnotherProtocolIsTold(t *testing.T) {
	w, _, _ := embedded(t, kfake.GroupMinSessionTimeout(100*time.Millisecond))
	w.topics("orders", 2)
	w.mirror("orders")
	i := &intruder{metadata: forge(group.AllSlots.List(), 1, nil), protocol: "klink-24"}
	stop := w.intrude(i)
	w.await("the intruder to join", func() (bool, string) { n, _, _ := i.seen(); return n > 0, fmt.Sprint(n) })
	one, two := w.instance("one", time.Second), w.instance("two", time.Second)
	if why := two.r.Unowned("orders"); why != "" {
		t.Errorf("told at once: %s", why)
	}
	for _, in := range []*instance{one, two} {
		w.await(in.name+" to tell", func() (bool, string) { why := in.r.Unowned("orders"); return why != "", why })
		if why := in.r.Unowned("orders"); !strings.Contains(why, "1 members, of which 0 have an assignment") {
			t.Error(why)
		}
	}
	stop()
	w.awaitShared(one, two)
	w.produce("orders", 0, 5, 20)
	w.awaitMirrored("orders", one, two)
	for _, in := range []*instance{one, two} {
		w.await(in.name+" to see an owner", func() (bool, string) { why := in.r.Unowned("orders"); return why == "", why })
	}
}

// TestForgedLeader: an intruder that is there first leads the group. It gives all slots to nobody,
// to itself, or to everybody. Still no slot gets two owners, and no owner loses a slot: the
// instances remove the leader and share the work.
func TestForgedLeader(t *testing.T) {
	for name, plan := range map[string]func([]kmsg.JoinGroupResponseMember, int32) map[string][]byte{
		"nothing to anybody": nil,
		"all to everybody": func(members []kmsg.JoinGroupResponseMember, _ int32) map[string][]byte {
			all := map[string][]byte{}
			for _, m := range members {
				all[m.MemberID] = forgeGift(group.AllSlots, len(members))
			}
			return all
		},
		"garbage": func(members []kmsg.JoinGroupResponseMember, _ int32) map[string][]byte {
			all := map[string][]byte{}
			for _, m := range members {
				all[m.MemberID] = bytes.Repeat([]byte{0xff}, 100)
			}
			return all
		},
	} {
		t.Run(name, func(t *testing.T) {
			w, _, _ := embedded(t, kfake.GroupMinSessionTimeout(100*time.Millisecond))
			w.topics("orders", 2)
			w.mirror("orders")
			i := &intruder{metadata: forge(nil, -1, nil), plan: plan}
			w.intrude(i)
			w.await("the intruder to lead", func() (bool, string) { _, n, _ := i.seen(); return n > 0, fmt.Sprint(n) })
			one, two := w.instance("one", 3*time.Second), w.instance("two", 3*time.Second)
			// A slot never has two owners at any moment at which the test looks.
			ctx, cancel := context.WithCancel(context.Background())
			var watch sync.WaitGroup
			watch.Go(func() {
				for retry.Sleep(ctx, time.Millisecond) == nil {
					a, _ := one.r.owner.holding()
					b, _ := two.r.owner.holding()
					if a&b != 0 {
						t.Errorf("both own %b", a&b)
						return
					}
				}
			})
			w.awaitShared(one, two)
			w.produce("orders", 0, 5, 20)
			w.awaitMirrored("orders", one, two)
			cancel()
			watch.Wait()
			w.same("orders")
		})
	}
}
