package replicator

import (
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"klink/admin/model"
	"klink/internal/kafkatest"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

func TestPartitionsGrowWithTheSource(t *testing.T) {
	w, _, _ := embedded(t)
	w.topics("orders", 1)
	w.produce("orders", 0, 5, 20)
	w.mirror("orders")
	w.run()
	w.awaitState("orders", model.MirrorActive)
	if _, err := kadm.NewClient(w.src.cl).UpdatePartitions(t.Context(), 3, "orders"); err != nil {
		t.Fatal(err)
	}
	fresh := kafkatest.NewClient(t, kgo.SeedBrokers(w.src.seeds...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ManualFlushing())
	send(t, fresh, "orders", 2, kafkatest.Records(5, 20)...)
	w.await("the partitions", func() (bool, string) { return len(w.r.Status("orders")) == 3, "" })
	w.awaitCaughtUp("orders")
	w.same("orders")
}

func TestSourceTopicDeleted(t *testing.T) {
	w, src, _ := embedded(t)
	w.topics("orders", 1)
	w.topics("other", 1)
	w.produce("orders", 0, 5, 20)
	w.mirror("orders")
	w.mirror("other")
	w.run()
	w.awaitState("orders", model.MirrorActive)
	w.awaitState("other", model.MirrorActive)
	w.awaitCaughtUp("orders")
	if err := src.DeleteTopic("orders"); err != nil {
		t.Fatal(err)
	}
	m := w.awaitState("orders", model.MirrorSourceUnavailable)
	if m.Error != model.ErrSourceTopicMayBeDeleted {
		t.Errorf("error %s", m.Error)
	}
	wantIn(t, m.ErrorMessage, `"orders"`)

	// The other mirror goes on.
	w.produce("other", 0, 3, 20)
	w.awaitCaughtUp("other")

	// A topic of the same name is not the one that was mirrored.
	kafkatest.CreateTopic(t, w.src.cl, "orders", 1, -1, nil)
	m = w.awaitState("orders", model.MirrorFailed)
	if m.Error != model.ErrSourceTopicIDChanged {
		t.Errorf("error %s: %s", m.Error, m.ErrorMessage)
	}
}

// TestSourceTopicHiddenForAWhile: a topic that metadata does not show for some time, and then does,
// goes on by itself.
func TestSourceTopicHiddenForAWhile(t *testing.T) {
	w, src, _ := embedded(t)
	w.topics("orders", 1)
	w.produce("orders", 0, 5, 20)
	w.mirror("orders")
	hidden := src.Fault(
		kfake.Fault{Keys: []kmsg.Key{kmsg.Metadata}, Topic: "orders", Err: kerr.UnknownTopicOrPartition, Count: -1},
		kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Topic: "orders", Err: kerr.UnknownTopicID, Count: -1},
	)
	w.run()
	w.awaitState("orders", model.MirrorSourceUnavailable)
	hidden.Remove()
	w.awaitState("orders", model.MirrorActive)
	w.awaitCaughtUp("orders")
	w.same("orders")
}

func TestSourceRefusesTheTopic(t *testing.T) {
	for _, key := range []kmsg.Key{kmsg.Metadata, kmsg.Fetch} {
		t.Run(key.Name(), func(t *testing.T) {
			w, src, _ := embedded(t)
			w.topics("orders", 1)
			w.produce("orders", 0, 5, 20)
			w.mirror("orders")
			denied := src.Fault(kfake.Fault{Keys: []kmsg.Key{key}, Topic: "orders", Err: kerr.TopicAuthorizationFailed, Count: -1})
			w.run()
			m := w.awaitState("orders", model.MirrorSourceUnavailable)
			if m.Error != model.ErrAuthorization {
				t.Errorf("error %s", m.Error)
			}
			wantIn(t, m.ErrorMessage, "READ", `"orders"`)
			denied.Remove()
			w.awaitState("orders", model.MirrorActive)
			w.awaitCaughtUp("orders")
		})
	}
}

func TestSourceTruncated(t *testing.T) {
	w, src, _ := embedded(t)
	w.topics("orders", 1)
	w.produce("orders", 0, 5, 20)
	w.mirror("orders")
	// The mirror is ahead of a source that lost its end.
	w.run()
	w.awaitCaughtUp("orders")
	w.awaitState("orders", model.MirrorActive)
	src.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Topic: "orders", Err: kerr.OffsetOutOfRange, Count: -1})
	src.ControlKey(int16(kmsg.ListOffsets), func(req kmsg.Request) (kmsg.Response, error, bool) {
		src.KeepControl()
		r := req.(*kmsg.ListOffsetsRequest)
		resp := r.ResponseKind().(*kmsg.ListOffsetsResponse)
		p := kmsg.NewListOffsetsResponseTopicPartition()
		if r.Topics[0].Partitions[0].Timestamp == timestampLatest {
			p.Offset = 3
		} else {
			p.Offset = 0
		}
		rt := kmsg.NewListOffsetsResponseTopic()
		rt.Topic, rt.Partitions = "orders", append(rt.Partitions, p)
		resp.Topics = append(resp.Topics, rt)
		return resp, nil, true
	})
	m := w.awaitState("orders", model.MirrorFailed)
	if m.Error != model.ErrUnexpectedTruncation {
		t.Errorf("error %s", m.Error)
	}
	wantIn(t, m.ErrorMessage, "orders-0", "offset 5", "at 3")
}

// TestSourceRecordsLost: a mirror that retention at the source has overtaken goes on behind the
// hole, and reports the loss.
func TestSourceRecordsLost(t *testing.T) {
	w, _, _ := embedded(t)
	w.topics("orders", 1)
	w.produce("orders", 0, 5, 20)
	w.mirror("orders")
	w.run()
	w.awaitState("orders", model.MirrorActive)
	w.awaitCaughtUp("orders")
	w.stop()
	w.produce("orders", 0, 5, 20)
	w.produce("orders", 0, 5, 20)
	kafkatest.DeleteRecordsBefore(t, w.src.cl, "orders", 0, 12)
	w.run()
	w.awaitCaughtUp("orders")
	tl := w.control.State().Timelines["orders"][0]
	w.await("the log start to follow", func() (bool, string) { return tl.Floor() == 12, fmt.Sprint(tl.Floor()) })
	w.await("the destination's records to be deleted", func() (bool, string) {
		got := kafkatest.ReadAll(t, "orders", kgo.SeedBrokers(w.dst.seeds...))
		return len(got) == 3, fmt.Sprint(len(got))
	})
	w.same("orders")
	if lost := w.r.Stats().Links[linkName].LostRecords.Load(); lost != 7 {
		t.Errorf("%d offsets count as lost, want 7", lost)
	}
}

// TestEmptyMirrorBeginsWhereTheSourceBeginsNow: records deleted before the first batch was mirrored
// are no loss.
func TestEmptyMirrorBeginsWhereTheSourceBeginsNow(t *testing.T) {
	w, _, _ := embedded(t)
	w.topics("orders", 1)
	w.produce("orders", 0, 5, 20)
	w.mirror("orders")
	w.produce("orders", 0, 5, 20)
	kafkatest.DeleteRecordsBefore(t, w.src.cl, "orders", 0, 7)
	w.run()
	w.awaitCaughtUp("orders")
	w.awaitState("orders", model.MirrorActive)
	w.same("orders")
	if tl := w.control.State().Timelines["orders"][0]; tl.Floor() != 7 || tl.Shift() != 5 {
		t.Errorf("floor %d shift %d", tl.Floor(), tl.Shift())
	}
}

// TestOldSource: a source of the versions of 2.4, by topic name and without topic ids.
func TestOldSource(t *testing.T) {
	w, _, _ := embedded(t, kfake.MaxVersions(kversion.V2_4_0()))
	w.topics("orders", 3)
	for p := range int32(3) {
		w.produce("orders", p, 5, 20)
	}
	w.mirror("orders")
	w.run()
	w.awaitState("orders", model.MirrorActive)
	w.awaitCaughtUp("orders")
	w.same("orders")
}

// faulty makes a cluster of one broker that advertises the address of a proxy with faults.
func faulty(t *testing.T, opts ...kfake.Opt) (*kfake.Cluster, *kafkatest.Faults) {
	t.Helper()
	var once sync.Once
	var faults *kafkatest.Faults
	c := kafkatest.Embedded(t, 1, append(opts, kfake.ListenFn(func(network, addr string) (net.Listener, error) {
		l, err := net.Listen(network, addr)
		if err != nil {
			return nil, err
		}
		once.Do(func() { faults = kafkatest.NewFaults(t, l.Addr().String()) })
		a, err := net.ResolveTCPAddr("tcp", faults.Addr())
		return advertised{l, a}, err
	}))...)
	return c, faults
}

// advertised is a listener that says that it is at another address.
type advertised struct {
	net.Listener
	addr net.Addr
}

func (a advertised) Addr() net.Addr { return a.addr }

func TestSourceDownAndUpAgain(t *testing.T) {
	for _, c := range []struct {
		name string
		down func(*kafkatest.Faults)
		want model.Error
	}{
		{"refuses connections", (*kafkatest.Faults).Cut, model.ErrBootstrapConnection},
		{"is silent", (*kafkatest.Faults).Stall, model.ErrTimeout},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, faults := faulty(t)
			dst := kafkatest.Embedded(t, 1)
			w := newWorld(t, []string{faults.Addr()}, dst.ListenAddrs())
			w.topics("orders", 1)
			w.produce("orders", 0, 5, 20)
			w.mirror("orders")
			w.run()
			w.awaitState("orders", model.MirrorActive)
			w.awaitCaughtUp("orders")
			began := time.Now()
			c.down(faults)
			w.await("the link to be down", func() (bool, string) {
				l := w.control.State().Links[linkName]
				return l.State == model.LinkUnavailable, string(l.State)
			})
			l := w.control.State().Links[linkName]
			t.Logf("%s after %v: %s", l.Error, time.Since(began), l.ErrorMessage)
			if l.Error != c.want {
				t.Errorf("error %s (%s), want %s", l.Error, l.ErrorMessage, c.want)
			}
			faults.Resume()
			w.await("the link to be up", func() (bool, string) {
				l := w.control.State().Links[linkName]
				return l.State == model.LinkActive, string(l.State)
			})
			w.produce("orders", 0, 5, 20)
			w.awaitCaughtUp("orders")
			w.same("orders")
		})
	}
}

func TestSourceNeverThere(t *testing.T) {
	w, _, _ := embedded(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	w.configs["bootstrap.servers"] = addr
	w.run()
	w.await("the link to be down", func() (bool, string) {
		l := w.control.State().Links[linkName]
		return l.Error == model.ErrBootstrapConnection, string(l.State) + " " + l.ErrorMessage
	})
}

func TestWrongCredentials(t *testing.T) {
	src := kafkatest.Embedded(t, 1, kfake.EnableSASL(), kfake.Superuser("PLAIN", "alice", "right"))
	dst := kafkatest.Embedded(t, 1)
	w := newWorld(t, src.ListenAddrs(), dst.ListenAddrs())
	jaas := func(password string) map[string]string {
		return map[string]string{
			"bootstrap.servers": w.src.seeds[0], "availability.check.ms": "200",
			"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN",
			"sasl.jaas.config": `org.apache.kafka.common.security.plain.PlainLoginModule required username="alice" password="` + password + `";`,
		}
	}
	set := func(configs map[string]string) {
		w.control.change(func(s *model.State) {
			l := *s.Links[linkName]
			l.Configs = configs
			s.Links[linkName] = &l
		})
	}
	set(jaas("wrong"))
	w.run()
	w.await("the link to be down", func() (bool, string) {
		l := w.control.State().Links[linkName]
		return l.Error == model.ErrAuthentication, string(l.Error) + " " + l.ErrorMessage
	})
	set(jaas("right"))
	w.await("the link to be up", func() (bool, string) {
		l := w.control.State().Links[linkName]
		return l.State == model.LinkActive && l.SourceClusterID != "", string(l.Error) + " " + l.ErrorMessage
	})
}

// TestAnotherCluster: nothing is fetched from a cluster that is not the link's, even if that has a
// topic of the same name.
func TestAnotherCluster(t *testing.T) {
	w, _, _ := embedded(t, kfake.MaxVersions(kversion.V2_4_0())) // no topic ids: they would show it
	w.topics("orders", 1)
	w.produce("orders", 0, 2, 20)
	w.mirror("orders")
	w.run()
	w.awaitCaughtUp("orders")
	w.await("the cluster's id", func() (bool, string) { return w.control.State().Links[linkName].SourceClusterID == "source", "" })

	other := kafkatest.Embedded(t, 1, kfake.ClusterID("another"))
	cl := kafkatest.NewClient(t, kgo.SeedBrokers(other.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ManualFlushing())
	kafkatest.CreateTopic(t, cl, "orders", 1, -1, nil)
	send(t, cl, "orders", 0, kafkatest.Records(10, 10)...)
	fetched := other.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Observe: true, Count: -1, Topic: "orders"})
	w.control.change(func(s *model.State) {
		l := *s.Links[linkName]
		l.Configs = map[string]string{"bootstrap.servers": other.ListenAddrs()[0]}
		s.Links[linkName] = &l
	})
	w.await("the link to fail", func() (bool, string) {
		l := w.control.State().Links[linkName]
		return l.State == model.LinkFailed, string(l.State)
	})
	w.await("the mirror to end", func() (bool, string) { return w.r.mirror("orders") == nil, "" })
	if fetched.Hits() > 0 {
		t.Error("fetched from another cluster")
	}
	if st := w.r.Status("orders"); len(st) != 1 || st[0].MirrorEnd != 2 {
		t.Errorf("status %+v", st)
	}
}
