package admin

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"klink/admin/model"
	"klink/admin/store"
	"klink/internal/kafkatest"
	"klink/protocol"
	"klink/router"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

// transaction is a transaction that the test drives request by request, as clients before TV2 do
// (KIP-890).
type transaction struct {
	t     *testing.T
	cl    *kgo.Client
	id    string
	pid   int64
	epoch int16
}

// beginTransaction adds partitions to a transaction, in which nothing has been written yet.
func beginTransaction(t *testing.T, c *kafkatest.Cluster, id, topic string, partitions ...int32) *transaction {
	t.Helper()
	tx := &transaction{t: t, cl: c.Client(t, kgo.MaxVersions(kversion.V3_0_0())), id: id}
	kafkatest.WaitFor(t, time.Minute, "a producer id", func() (bool, string) {
		req := kmsg.NewPtrInitProducerIDRequest()
		req.TransactionalID, req.TransactionTimeoutMillis = &id, 600_000
		resp, err := req.RequestWith(t.Context(), tx.cl)
		if err == nil {
			err = kerr.ErrorForCode(resp.ErrorCode)
		}
		if err != nil {
			return false, err.Error()
		}
		tx.pid, tx.epoch = resp.ProducerID, resp.ProducerEpoch
		return true, ""
	})
	kafkatest.WaitFor(t, time.Minute, "the partitions to be added", func() (bool, string) {
		err := tx.add(topic, partitions...)
		return err == nil, fmt.Sprint(err)
	})
	return tx
}

func (tx *transaction) add(topic string, partitions ...int32) error {
	req := kmsg.NewPtrAddPartitionsToTxnRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch = tx.id, tx.pid, tx.epoch
	rt := kmsg.NewAddPartitionsToTxnRequestTopic()
	rt.Topic, rt.Partitions = topic, partitions
	req.Topics = append(req.Topics, rt)
	resp, err := req.RequestWith(tx.t.Context(), tx.cl)
	if err != nil {
		return err
	}
	for _, p := range resp.Topics[0].Partitions {
		if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
			return err
		}
	}
	return nil
}

func (tx *transaction) end(commit bool) {
	tx.t.Helper()
	kafkatest.WaitFor(tx.t, time.Minute, "the transaction to end", func() (bool, string) {
		req := kmsg.NewPtrEndTxnRequest()
		req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Commit = tx.id, tx.pid, tx.epoch, commit
		resp, err := req.RequestWith(tx.t.Context(), tx.cl)
		if err == nil {
			err = kerr.ErrorForCode(resp.ErrorCode)
		}
		return err == nil, fmt.Sprint(err)
	})
}

// convert turns a topic into a mirror, as IncrementalAlterConfigs with mirror.link does.
func (w *world) convert(topic, link string) *protocol.Error {
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	return w.service.CreateMirror(ctx, router.MirrorSpec{Topic: topic, Link: link, NumPartitions: -1, ReplicationFactor: -1, Convert: true})
}

func (w *world) endsOf(topic string) (start, end int64) {
	w.t.Helper()
	starts, err := w.destAdmin.ListStartOffsets(w.t.Context(), topic)
	require.NoError(w.t, err)
	ends, err := w.destAdmin.ListEndOffsets(w.t.Context(), topic)
	require.NoError(w.t, err)
	s, _ := starts.Lookup(topic, 0)
	e, _ := ends.Lookup(topic, 0)
	return s.Offset, e.Offset
}

// TestRealTransactionsBeforeAMirror: a partition joins a transaction before its topic becomes a
// mirror. When the transaction ends it writes a marker into the partition, even if the topic was
// deleted and created again in between. No mirror begins before that.
func TestRealTransactionsBeforeAMirror(t *testing.T) {
	for _, v := range []kafkatest.Version{kafkatest.V431, kafkatest.V282, kafkatest.V241} {
		t.Run(string(v), func(t *testing.T) { testTransactionsBeforeAMirror(t, v) })
	}
}

func testTransactionsBeforeAMirror(t *testing.T, v kafkatest.Version) {
	src := kafkatest.Shared(t, "source")
	dst := kafkatest.StartRelease(t, v)
	w := realWorld(t, src, dst)
	link := "tx-" + string(v)
	w.linkTo(src, link)
	name := func(topic string) string { return topic + "-" + string(v) }
	at := func(topic string) string {
		topic = name(topic)
		kafkatest.CreateTopic(t, src.Client(t), topic, 2, 1, nil)
		return topic
	}
	refused := func(t *testing.T, e *protocol.Error, topic, id string) {
		t.Helper()
		require.NotNil(t, e, "a mirror of a topic with an open transaction was created")
		require.Contains(t, e.Message, topic)
		require.Contains(t, e.Message, "'"+id+"'")
		require.Nil(t, w.service.State().Mirrors[topic])
	}

	t.Run("added without data, converted", func(t *testing.T) {
		topic := at("added")
		kafkatest.CreateTopic(t, dst.Client(t), topic, 2, 1, nil)
		tx := beginTransaction(t, dst, "added-id", topic, 1)
		refused(t, w.convert(topic, link), topic, "added-id")
		tx.end(true)
		kafkatest.WaitFor(t, time.Minute, "the marker to be refused as content", func() (bool, string) {
			e := w.convert(topic, link)
			require.NotNil(t, e)
			return !strings.Contains(e.Message, "added-id"), e.Message
		})
		kafkatest.DeleteRecordsBefore(t, dst.Client(t), topic, 1, 1)
		require.Nil(t, w.convert(topic, link))
	})

	t.Run("with data that was deleted, converted", func(t *testing.T) {
		topic := at("emptied")
		kafkatest.CreateTopic(t, dst.Client(t), topic, 2, 1, nil)
		cl := dst.Client(t, kgo.TransactionalID("emptied-id"))
		require.NoError(t, cl.BeginTransaction())
		require.NoError(t, cl.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Partition: 0, Value: []byte("x")}).FirstErr())
		kafkatest.DeleteRecordsBefore(t, dst.Client(t), topic, 0, 1)
		refused(t, w.convert(topic, link), topic, "emptied-id")
		require.NoError(t, cl.EndTransaction(t.Context(), kgo.TryAbort))
	})

	t.Run("deleted and created anew", func(t *testing.T) {
		topic := at("anew")
		kafkatest.CreateTopic(t, dst.Client(t), topic, 2, 1, nil)
		tx := beginTransaction(t, dst, "anew-id", topic, 0)
		_, err := w.destAdmin.DeleteTopics(t.Context(), topic)
		require.NoError(t, err)
		kafkatest.WaitFor(t, time.Minute, "the topic to be gone", func() (bool, string) {
			d, err := w.destAdmin.ListTopics(t.Context())
			return err == nil && !d.Has(topic), fmt.Sprint(err)
		})
		w.service.transactionWait = 500 * time.Millisecond
		e := w.service.createMirror(t.Context(), router.MirrorSpec{Topic: topic, Link: link, NumPartitions: -1, ReplicationFactor: -1})
		refused(t, e, topic, "anew-id")
		d, err := w.destAdmin.ListTopics(t.Context())
		require.NoError(t, err)
		require.False(t, d.Has(topic), "the topic of a mirror that was refused was created")

		w.service.transactionWait = time.Minute
		created := make(chan *protocol.Error, 1)
		go func() {
			created <- w.service.createMirror(t.Context(), router.MirrorSpec{Topic: topic, Link: link, NumPartitions: -1, ReplicationFactor: -1})
		}()
		awaitState(t, w.service, "recorded", func(s *model.State) bool { return s.Mirrors[topic] != nil })
		select {
		case e := <-created:
			t.Fatalf("created before the transaction has ended: %v", e)
		case <-time.After(time.Second):
		}
		tx.end(true)
		require.Nil(t, <-created)
		_, end := w.endsOf(topic)
		require.Zero(t, end, "a marker was written into the mirror")
	})

	t.Run("without klink a marker reaches a topic that was created anew", func(t *testing.T) {
		topic := name("reached")
		kafkatest.CreateTopic(t, dst.Client(t), topic, 2, 1, nil)
		tx := beginTransaction(t, dst, "reached-id", topic, 0)
		_, err := w.destAdmin.DeleteTopics(t.Context(), topic)
		require.NoError(t, err)
		kafkatest.WaitFor(t, time.Minute, "the topic to be created anew", func() (bool, string) {
			r, err := w.destAdmin.CreateTopic(t.Context(), 2, 1, nil, topic)
			return err == nil, fmt.Sprint(r, err)
		})
		// A coordinator whose broker does not know the new topic yet takes its partition for
		// deleted, and writes nothing.
		kafkatest.WaitFor(t, time.Minute, "the brokers to know the new topic", func() (bool, string) {
			ends, err := w.destAdmin.ListEndOffsets(t.Context(), topic)
			end, ok := ends.Lookup(topic, 0)
			return err == nil && ok && end.Err == nil, fmt.Sprint(err, end.Err)
		})
		tx.end(true)
		kafkatest.WaitFor(t, time.Minute, "the marker", func() (bool, string) {
			_, end := w.endsOf(topic)
			return end == 1, fmt.Sprint(end)
		})
	})

	t.Run("adopted after a crash", func(t *testing.T) {
		topic := at("adopted")
		kafkatest.CreateTopic(t, dst.Client(t), topic, 2, 1, nil)
		tx := beginTransaction(t, dst, "adopted-id", topic, 0)
		plan := &mirrorPlan{topic: topic, starts: make([]store.TimelineRecord, 2), record: &store.MirrorRecord{
			Stamp: store.StampFormat,
			ID:    store.NewID(), Link: link, SourceTopic: topic, Partitions: 2, State: model.MirrorPending, ReplicationFactor: -1,
		}}
		require.NoError(t, w.service.recordMirror(t.Context(), plan)) // and the instance dies
		w.service.wakeReconciler()
		time.Sleep(3 * time.Second)
		m := w.service.State().Mirrors[topic]
		require.False(t, m.Created, "a topic with an open transaction became a mirror")
		require.Equal(t, model.MirrorPending, m.State, m.ErrorMessage)
		tx.end(false)
		awaitState(t, w.service, "decided", func(s *model.State) bool { m := s.Mirrors[topic]; return m.Created || m.State == model.MirrorFailed })
		// The marker is in the log, so the topic is not empty any more.
		m = w.service.State().Mirrors[topic]
		require.Equal(t, model.MirrorFailed, m.State)
		require.Equal(t, model.ErrPolicyViolation, m.Error)
	})

	t.Run("grown over a former partition", func(t *testing.T) {
		topic := name("grown")
		kafkatest.CreateTopic(t, src.Client(t), topic, 1, 1, nil)
		kafkatest.CreateTopic(t, dst.Client(t), topic, 2, 1, nil)
		tx := beginTransaction(t, dst, "grown-id", topic, 1)
		_, err := w.destAdmin.DeleteTopics(t.Context(), topic)
		require.NoError(t, err)
		w.service.transactionWait = time.Minute
		kafkatest.WaitFor(t, time.Minute, "the mirror, whose partition is in no transaction", func() (bool, string) {
			e := w.service.createMirror(t.Context(), router.MirrorSpec{Topic: topic, Link: link, NumPartitions: -1, ReplicationFactor: -1})
			// The brokers may still be deleting the old topic. Then the mirror is recorded, and
			// klink creates it later.
			return e == nil || w.service.State().Mirrors[topic] != nil, fmt.Sprint(e)
		})
		awaitState(t, w.service, "created", func(s *model.State) bool { return s.Mirrors[topic] != nil && s.Mirrors[topic].Created })
		_, err = kadm.NewClient(src.Client(t)).CreatePartitions(t.Context(), 1, topic)
		require.NoError(t, err)
		err = w.service.GrowMirror(t.Context(), topic, []model.Start{{Partition: 1}})
		require.ErrorContains(t, err, "'grown-id'")
		tx.end(true)
		kafkatest.WaitFor(t, time.Minute, "the mirror to grow", func() (bool, string) {
			err := w.service.GrowMirror(t.Context(), topic, []model.Start{{Partition: 1}})
			return err == nil, fmt.Sprint(err)
		})
		ends, err := w.destAdmin.ListEndOffsets(t.Context(), topic)
		require.NoError(t, err)
		end, _ := ends.Lookup(topic, 1)
		require.Zero(t, end.Offset)
	})
}

// TestRealTransactionsUnseen: a broker lists only the transactions that klink may describe, and
// does not say so. klink knows when it may have missed some.
func TestRealTransactionsUnseen(t *testing.T) {
	dst := kafkatest.Start(t, kafkatest.SASLPlaintext("klink", "klink-secret"))
	a := &aclWorld{t: t, dst: dst.Client(t)}
	for _, text := range []string{
		"TOPIC PREFIXED _klink_ User:klink * ALL ALLOW", "TOPIC LITERAL orders User:klink * ALL ALLOW",
		"TRANSACTIONAL_ID LITERAL _klink_state User:klink * ALL ALLOW", "CLUSTER LITERAL kafka-cluster User:klink * DESCRIBE ALLOW",
	} {
		a.create(a.dst, text)
	}
	service, err := New(Config{
		Destination: append(dst.ClientOpts("klink", "klink-secret"), kgo.SeedBrokers(dst.Bootstrap())), Logger: testLogger(t), AllowPlaintextSecrets: true,
		Publish: func(*router.Snapshot) {},
	})
	require.NoError(t, err)
	t.Cleanup(service.Close)
	require.NoError(t, service.Start(t.Context()))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	require.NoError(t, service.waitReady(ctx))
	kafkatest.CreateTopic(t, a.dst, "orders", 2, 1, nil)
	beginTransaction(t, dst, "theirs", "orders", 1)

	open, blind, err := service.transactions.In(ctx, "orders", 0, 2, true)
	require.NoError(t, err)
	require.Empty(t, open)
	require.Contains(t, blind, "grant it DESCRIBE")
	a.create(a.dst, "TRANSACTIONAL_ID LITERAL * User:klink * DESCRIBE ALLOW")
	kafkatest.WaitFor(t, time.Minute, "klink to see the transaction", func() (bool, string) {
		open, blind, err = service.transactions.In(ctx, "orders", 0, 2, true)
		require.NoError(t, err)
		return blind == "" && len(open) == 1, fmt.Sprint(open, blind)
	})
	require.Equal(t, "theirs", open[0].ID)
	open, _, err = service.transactions.In(ctx, "orders", 0, 1, true)
	require.NoError(t, err)
	require.Empty(t, open, "of another partition")
}
