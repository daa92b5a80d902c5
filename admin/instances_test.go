package admin

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"klink/admin/store"
	"klink/router"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// second is another instance on the destination of a world, which can be cut off from it.
type second struct {
	*Service
	lease *router.Lease
	snap  atomic.Pointer[router.Snapshot]

	mu    sync.Mutex
	cut   bool
	conns map[net.Conn]struct{}
}

const secondLease = 2 * time.Second

func startSecond(w *world, change ...func(*Config)) *second {
	s := &second{lease: router.NewLease(), conns: map[net.Conn]struct{}{}}
	s.Service = w.start(append([]func(*Config){func(c *Config) {
		c.Destination = append(c.Destination, kgo.Dialer(s.dial))
		c.Publish = func(sn *router.Snapshot) { s.snap.Store(sn) }
		c.Lease, c.StateLease = s.lease, secondLease
		c.Instance = func() (string, string) { return "second", "" }
	}}, change...)...)
	w.t.Cleanup(func() { s.cutOff(false) })
	return s
}

func (s *second) dial(ctx context.Context, network, host string) (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cut {
		return nil, errors.New("cut off")
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, network, host)
	if err == nil {
		s.conns[conn] = struct{}{}
	}
	return conn, err
}

func (s *second) cutOff(cut bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cut = cut
	for conn := range s.conns {
		conn.Close()
	}
	clear(s.conns)
}

// knows reports whether this instance keeps its clients from writing to a topic, because it knows
// the mirror or serves nothing.
func (s *second) knows(topic string) bool {
	if !s.lease.Serves() {
		return true
	}
	m := s.snap.Load().Mirrors[topic]
	return m != nil && m.ReadOnly
}

// atTheMoment calls look just before the topic of a mirror is created, or altered if it is
// converted.
func atTheMoment(w *world, look func()) {
	for _, key := range []kmsg.Key{kmsg.CreateTopics, kmsg.IncrementalAlterConfigs, kmsg.AlterConfigs} {
		w.destination.ControlKey(int16(key), func(kmsg.Request) (kmsg.Response, error, bool) {
			w.destination.KeepControl()
			look()
			return nil, nil, false
		})
	}
}

// The topic of a mirror is made only when every instance knows the mirror.
func TestAMirrorIsMadeWhenAllInstancesKnowIt(t *testing.T) {
	w := newWorld(t)
	w.link("east")
	other := startSecond(w)
	var looked, blind atomic.Int64
	topics := []string{"orders", "payments", "clicks"}
	var at atomic.Pointer[string]
	atTheMoment(w, func() {
		looked.Add(1)
		if topic := at.Load(); topic != nil && !other.knows(*topic) {
			blind.Add(1)
		}
	})
	for _, topic := range topics {
		w.sourceTopic(topic, 2, nil)
		at.Store(&topic)
		require.Empty(t, w.mirror(topic, "east").ErrorCode)
	}
	require.GreaterOrEqual(t, looked.Load(), int64(len(topics)))
	require.Zero(t, blind.Load(), "a topic was made while another instance did not know that it is a mirror's")
	require.True(t, other.lease.Fresh())
	require.NoError(t, other.StateProblem())
}

// An instance that is cut off holds up the creation of a mirror until its lease has ended, and no
// longer. Then its record is deleted. When it is connected again, it serves and knows the mirrors.
func TestAMirrorWaitsForTheLeaseOfAnInstanceThatIsCutOff(t *testing.T) {
	for _, convert := range []bool{false, true} {
		w := newWorld(t)
		w.link("east")
		other := startSecond(w)
		for _, topic := range []string{"orders", "payments"} {
			w.sourceTopic(topic, 2, nil)
			if convert {
				_, err := w.destAdmin.CreateTopic(context.Background(), 2, 1, nil, topic)
				require.NoError(t, err)
			}
		}
		var looked, blind atomic.Int64
		create := func(topic string) {
			atTheMoment(w, func() {
				looked.Add(1)
				if !other.knows(topic) {
					blind.Add(1)
				}
			})
			spec := router.MirrorSpec{Topic: topic, Link: "east", NumPartitions: -1, ReplicationFactor: -1, Convert: convert}
			if err := w.service.CreateMirror(context.Background(), spec); err != nil {
				t.Fatal(err)
			}
			require.NotZero(t, looked.Swap(0))
			require.Zero(t, blind.Load(), "a topic was made while another instance could let clients write to it")
		}
		other.cutOff(true)
		require.True(t, other.lease.Serves())
		create("orders")
		require.False(t, other.lease.Serves())
		require.ErrorContains(t, other.StateProblem(), "all produce requests wait")
		require.Eventually(t, func() bool { return len(w.service.store.Instances(w.service.id)) == 0 }, time.Minute, 20*time.Millisecond, "it is not forgotten")
		create("payments")
		other.cutOff(false)
		require.Eventually(t, func() bool {
			return other.lease.Fresh() && other.knows("orders") && other.knows("payments") && len(w.service.store.Instances(w.service.id)) == 1
		}, time.Minute, 20*time.Millisecond, "it does not come back")
	}
}

// The reconciler, which finishes what another instance has begun, waits like a request does.
func TestAnInterruptedCreationWaitsToo(t *testing.T) {
	w := newWorld(t)
	w.link("east")
	w.sourceTopic("orders", 1, nil)
	other := startSecond(w)
	other.cutOff(true)
	var blind atomic.Bool
	atTheMoment(w, func() { blind.Store(blind.Load() || !other.knows("orders")) })
	plan, refused := w.service.planMirror(context.Background(), router.MirrorSpec{Topic: "orders", Link: "east", NumPartitions: -1, ReplicationFactor: -1}, nil)
	if refused != nil {
		t.Fatal(refused)
	}
	require.NoError(t, w.service.recordMirror(context.Background(), plan))
	require.Eventually(t, func() bool {
		m := w.service.State().Mirrors["orders"]
		return m != nil && m.Created
	}, time.Minute, 20*time.Millisecond)
	require.False(t, blind.Load())
}

// An instance that is alone waits for nobody. Nobody waits for an instance that has left in order,
// or that was killed and started again under its name.
func TestNobodyWaitsForInstancesThatAreGone(t *testing.T) {
	long := func(c *Config) { c.StateLease = 9 * time.Minute } // who waits for it fails
	w := newWorld(t, long)
	w.link("east")
	create := func(topic string) {
		w.sourceTopic(topic, 1, nil)
		require.Empty(t, w.mirror(topic, "east").ErrorCode)
	}
	create("alone")
	gone := startSecond(w, long)
	require.Eventually(t, func() bool { return len(w.service.store.Instances(w.service.id)) == 1 }, time.Minute, 10*time.Millisecond)
	gone.Close()
	require.Eventually(t, func() bool { return len(w.service.store.Instances(w.service.id)) == 0 }, time.Minute, 10*time.Millisecond)
	create("gone")
	killed := startSecond(w, long)
	killed.cutOff(true)
	successor := startSecond(w, long)
	create("killed")
	require.True(t, successor.knows("killed"))
	require.Len(t, w.service.store.Instances(w.service.id), 1)
}

// TestSeenWait checks from when on an instance need not be waited for.
func TestSeenWait(t *testing.T) {
	began := time.Now()
	in := store.Instance{ID: "i", InstanceRecord: &store.InstanceRecord{LeaseMs: 10_000, SessionMs: 6000, ClientID: "klink/i"}}
	alone := store.Instance{ID: "i", InstanceRecord: &store.InstanceRecord{LeaseMs: 10_000}}
	for _, c := range []struct {
		name   string
		i      store.Instance
		absent time.Duration // since the beginning; < 0 = it is in the group
		after  time.Duration
		over   bool
	}{
		{"its lease lasts", alone, -1, 10 * time.Second, false},
		{"its lease has ended", alone, -1, 11 * time.Second, true},
		{"its lease has ended, but it is in the group", in, -1, time.Hour, false},
		{"it is not in the group any more, but its lease lasts", in, 0, 10 * time.Second, false},
		{"it has just left the group", in, 10 * time.Second, 15 * time.Second, false},
		{"it was not in the group for long enough", in, 10 * time.Second, 17 * time.Second, true},
		{"neither", in, 0, 11 * time.Second, true},
		{"its record cannot be read", store.Instance{ID: "i", InstanceRecord: &store.InstanceRecord{LeaseMs: 600_000}}, -1, 10 * time.Minute, false},
	} {
		w := &seenWait{since: began, absent: map[string]time.Time{}}
		if c.absent >= 0 {
			w.absent["i"] = began.Add(c.absent)
		}
		require.Equal(t, c.over, w.over(c.i, began.Add(c.after)), c.name)
	}
}
