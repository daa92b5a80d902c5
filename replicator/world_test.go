package replicator

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"klink/admin/model"
	"klink/internal/kafkaclient"
	"klink/internal/kafkatest"
	"klink/protocol/batch"
	"klink/protocol/timeline"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// cluster is one that a test mirrors from or to.
type cluster struct {
	seeds []string
	cl    *kgo.Client
}

// world is a source, a destination, a control plane and a replicator between them.
type world struct {
	t        *testing.T
	src, dst cluster
	control  *fakeControl
	configs  map[string]string // of the link
	cfg      Config
	grace    time.Duration // see settleGrace; short, as nothing lingers in most tests
	r        *Replicator
	stop     func()
}

const linkName = "west"

// clientOptions returns the options of klink's clients, so that their requests and responses pass
// the guard.
func clientOptions(t testing.TB, seeds ...string) []kgo.Opt {
	opts, err := kafkaclient.Properties{"bootstrap.servers": strings.Join(seeds, ",")}.Options()
	if err != nil {
		t.Fatal(err)
	}
	return opts
}

func newWorld(t *testing.T, src, dst []string) *world {
	client := func(seeds []string) cluster {
		return cluster{seeds, kafkatest.NewClient(t, kgo.SeedBrokers(seeds...),
			kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ManualFlushing(),
			kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.MetadataMinAge(20*time.Millisecond))}
	}
	w := &world{t: t, src: client(src), dst: client(dst), control: newFakeControl(), grace: 50 * time.Millisecond}
	w.control.create = func(topic string, n int32) error {
		_, err := kadm.NewClient(w.dst.cl).UpdatePartitions(t.Context(), int(n), topic)
		return err
	}
	w.configs = map[string]string{
		"bootstrap.servers": src[0], "metadata.max.age.ms": "500", "availability.check.ms": "200", "fetch.max.wait.ms": "100",
		"offset.alignment": "off", "append.join.below": "0", // most tests compare batches, or count appends
	}
	w.cfg = Config{
		Destination: clientOptions(t, dst...),
		Control:     w.control,
		Logger:      slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	w.control.change(func(s *model.State) {
		s.Links[linkName] = &model.Link{Name: linkName, State: model.LinkActive, Configs: w.configs}
	})
	return w
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Log(string(bytes.TrimSpace(b)))
	return len(b), nil
}

// run starts a replicator; it ends with the test, or earlier by stopRun.
func (w *world) run() {
	w.t.Helper()
	r, err := New(w.cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	w.r = r // the hooks of clusters use it
	r.grace = w.grace
	go func() { done <- r.Run(ctx) }()
	ended := false
	w.stop = func() {
		if ended {
			return
		}
		ended = true
		cancel()
		if err := <-done; err != nil {
			w.t.Error(err)
		}
	}
	w.t.Cleanup(w.stop)
}

// topics creates a topic on both clusters.
func (w *world) topics(topic string, partitions int32) {
	w.t.Helper()
	kafkatest.CreateTopic(w.t, w.src.cl, topic, partitions, -1, nil)
	kafkatest.CreateTopic(w.t, w.dst.cl, topic, partitions, -1, nil)
}

func (w *world) detail(c cluster, topic string) kadm.TopicDetail {
	w.t.Helper()
	details, err := kadm.NewClient(c.cl).ListTopics(w.t.Context(), topic)
	if err != nil {
		w.t.Fatal(err)
	}
	return details[topic]
}

// mirror creates a mirror as the control plane does: partition i begins at the source's log start.
func (w *world) mirror(topic string) {
	w.t.Helper()
	w.mirrorOf(topic, topic)
}

// mirrorOf is mirror with another name at the source.
func (w *world) mirrorOf(topic, sourceTopic string) {
	w.t.Helper()
	src, dst := w.detail(w.src, sourceTopic), w.detail(w.dst, topic)
	starts, err := kadm.NewClient(w.src.cl).ListStartOffsets(w.t.Context(), sourceTopic)
	if err != nil {
		w.t.Fatal(err)
	}
	var tls []*timeline.Partition
	for p := range int32(len(src.Partitions)) {
		o, ok := starts.Lookup(sourceTopic, p)
		if !ok || o.Err != nil {
			w.t.Fatalf("log start of %s-%d: %v", sourceTopic, p, o.Err)
		}
		tls = append(tls, timeline.New(0, o.Offset, o.Offset))
	}
	w.control.change(func(s *model.State) {
		s.Timelines[topic] = tls
		s.Mirrors[topic] = &model.Mirror{
			Topic: topic, TopicID: dst.ID, Link: linkName, SourceTopic: sourceTopic, SourceTopicID: src.ID,
			State: model.MirrorPending, Partitions: int32(len(tls)),
		}
	})
}

// await waits until cond holds. If it never does, the test fails with the last text of cond.
func (w *world) await(what string, cond func() (bool, string)) {
	w.t.Helper()
	kafkatest.WaitFor(w.t, 30*time.Second, what, cond)
}

func (w *world) awaitState(topic string, state model.MirrorState) model.Mirror {
	w.t.Helper()
	var m model.Mirror
	w.await(fmt.Sprintf("state %s of %s", state, topic), func() (bool, string) {
		m = w.control.mirror(topic)
		return m.State == state, fmt.Sprintf("%s %s: %s", m.State, m.Error, m.ErrorMessage)
	})
	return m
}

// awaitCaughtUp waits until every partition of the mirror ends where the source ends now.
func (w *world) awaitCaughtUp(topic string) {
	w.t.Helper()
	ends, err := kadm.NewClient(w.src.cl).ListEndOffsets(w.t.Context(), topic)
	if err != nil {
		w.t.Fatal(err)
	}
	w.await(topic+" to catch up", func() (bool, string) {
		st := w.r.Status(topic)
		detail := ""
		ok := len(st) > 0
		ends.Each(func(o kadm.ListedOffset) {
			if int(o.Partition) >= len(st) || st[o.Partition].MirrorEnd != o.Offset {
				ok = false
				detail = fmt.Sprintf("partition %d: want end %d, status %+v, mirror %+v", o.Partition, o.Offset, st, w.control.mirror(topic))
			}
		})
		return ok, detail
	})
}

// produce appends n records of about size bytes to a source partition, in one batch.
func (w *world) produce(topic string, partition int32, n, size int) {
	w.t.Helper()
	appendBatch(w.t, w.src.cl, topic, partition, kafkatest.Records(n, size)...)
}

// send appends records with a client that flushes by hand, in one batch if they fit one.
func send(t *testing.T, cl *kgo.Client, topic string, partition int32, records ...*kgo.Record) {
	t.Helper()
	var first kgo.FirstErrPromise
	for _, r := range records {
		r.Topic, r.Partition = topic, partition
		cl.Produce(t.Context(), r, first.Promise())
	}
	if err := cl.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := first.Err(); err != nil {
		t.Fatalf("produce to %s-%d: %v", topic, partition, err)
	}
}

// same checks that the mirror has exactly the source's records, at the source's offsets.
func (w *world) same(topic string) {
	w.t.Helper()
	want := kafkatest.ReadAll(w.t, topic, kgo.SeedBrokers(w.src.seeds...), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	all := kafkatest.ReadAll(w.t, topic, kgo.SeedBrokers(w.dst.seeds...))
	logs := map[int32]mirrorView{}
	var got []*kgo.Record
	for _, r := range all {
		v, ok := logs[r.Partition]
		if !ok {
			v = w.view(topic, r.Partition)
			logs[r.Partition] = v
		}
		if logical, counts := v.logical[r.Offset]; counts {
			r.Offset = logical
			got = append(got, r)
		}
	}
	if len(got) != len(want) {
		w.t.Fatalf("the mirror has %d records, the source %d", len(got), len(want))
	}
	for i, a := range want {
		b := got[i]
		if a.Partition != b.Partition || a.Offset != b.Offset || !bytes.Equal(a.Key, b.Key) || !bytes.Equal(a.Value, b.Value) ||
			!a.Timestamp.Equal(b.Timestamp) || fmt.Sprint(a.Headers) != fmt.Sprint(b.Headers) || a.Attrs.CompressionType() != b.Attrs.CompressionType() ||
			a.Attrs.TimestampType() != b.Attrs.TimestampType() {
			w.t.Fatalf("record %d differs:\nsource %+v\nmirror %+v", i, a, b)
		}
	}
}

// mirrorView is the content of a mirror partition's log, by the rule of batch.Counts alone.
type mirrorView struct {
	logical map[int64]int64 // of each physical offset that counts
	void    []string
}

func (w *world) view(topic string, partition int32) mirrorView {
	w.t.Helper()
	v := mirrorView{logical: map[int64]int64{}}
	next, voidFrom, voidTo := int64(0), int64(0), int64(0)
	flush := func() {
		if voidTo > voidFrom {
			v.void = append(v.void, fmt.Sprintf("%s-%d %d to %d", topic, partition, voidFrom, voidTo))
		}
		voidFrom, voidTo = 0, 0
	}
	starts, err := kadm.NewClient(w.dst.cl).ListStartOffsets(w.t.Context(), topic)
	start, ok := starts.Lookup(topic, partition)
	if err != nil || !ok {
		w.t.Fatalf("log start of %s-%d: %v", topic, partition, err)
	}
	for _, b := range rawBatches(w.t, w.dst, topic, partition, start.Offset) {
		logical, flags, _, _ := batch.ReadStamp(b)
		switch {
		case !batch.Counts(b) || logical < next:
			if voidTo != b.BaseOffset() {
				flush()
				voidFrom = b.BaseOffset()
			}
			voidTo = b.NextOffset()
			continue
		case flags&batch.FlagFiller == 0:
			for o := b.BaseOffset(); o < b.NextOffset(); o++ {
				v.logical[o] = logical + o - b.BaseOffset()
			}
		}
		flush()
		next = logical + b.NextOffset() - b.BaseOffset()
	}
	flush()
	return v
}

// void lists what is void in the log of a mirror.
func (w *world) void(topic string) string {
	w.t.Helper()
	var all []string
	for p := range w.control.State().Timelines[topic] {
		all = append(all, w.view(topic, int32(p)).void...)
	}
	return strings.Join(all, ", ")
}

// compressed returns a client of the cluster that compresses what it sends.
func (c cluster) compressed(t *testing.T, codec kgo.CompressionCodec) *kgo.Client {
	return kafkatest.NewClient(t, kgo.SeedBrokers(c.seeds...), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(codec), kgo.ManualFlushing())
}
