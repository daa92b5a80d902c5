package e2e

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"klink/internal/kafkatest"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// TestRewritingDestination mirrors to brokers that, by their default, store batches in a format
// that has no place for a stamp. A mirror has its own format, which no client can alter through
// klink, nor any other config by which brokers rewrite or refuse batches. Who alters it around
// klink stops the mirror until klink has set it back, or, where batches were stored otherwise than
// they were sent, fails it by name.
func TestRewritingDestination(t *testing.T) {
	t.Parallel()
	source := kafkatest.Start(t)
	for _, v := range []kafkatest.Version{kafkatest.V282, kafkatest.V241} {
		t.Run(string(v), func(t *testing.T) {
			e := exactBetween(t, source, kafkatest.StartRelease(t, v, kafkatest.Config("log.message.format.version", "0.10.2")),
				"topic.config.sync.ms=3600000") // or klink would set the configs back now and then
			topic := func(name string) string {
				name += "-" + string(v)
				e.createSource(t, name, 1)
				e.more(t, name)
				return name
			}

			t.Run("keeps its format", func(t *testing.T) {
				plain := topic("plain")
				e.mirror(t, plain)
				e.compare(t, plain, 1)
				e.more(t, plain)
				e.compare(t, plain, 1)
				through := kadm.NewClient(kafkatest.NewClient(t, kgo.SeedBrokers(e.k.Bootstrap())))
				for name, value := range map[string]string{
					"message.format.version": "0.10.2", "message.timestamp.type": "LogAppendTime", "compression.type": "gzip", "max.message.bytes": "1000",
					"message.timestamp.difference.max.ms": "1", "cleanup.policy": "compact", "segment.bytes": "1000",
				} {
					for _, op := range []kadm.IncrementalOp{kadm.SetConfig, kadm.DeleteConfig} {
						set, err := through.AlterTopicConfigs(e.ctx, []kadm.AlterConfig{{Op: op, Name: name, Value: &value}}, plain)
						if err != nil {
							t.Fatal(err)
						}
						if err := set[0].Err; !errors.Is(err, kerr.InvalidRequest) || !strings.Contains(set[0].ErrMessage, "read-only mirror") {
							t.Errorf("a client alters %s of a mirror (%d): %v %s", name, op, err, set[0].ErrMessage)
						}
					}
				}
				e.more(t, plain)
				e.compare(t, plain, 1)
			})
			t.Run("has no room for stamps", func(t *testing.T) {
				fails := topic("fails")
				e.mirror(t, fails)
				e.compare(t, fails, 1)
				// These brokers fail on a batch with a stamp, whatever its codec:
				// UNKNOWN_SERVER_ERROR. klink sets the config back.
				for _, codec := range []kgo.CompressionCodec{kgo.NoCompression(), kgo.GzipCompression()} {
					setConfig(e.ctx, t, e.dst, fails, "message.format.version", "0.10.2")
					kafkatest.Produce(t, e.source.Client(t, kgo.ProducerBatchCompression(codec)), fails, 0, plainRecords(20)...)
					e.compare(t, fails, 1)
				}
			})
			t.Run("loses its timestamps", func(t *testing.T) {
				times := topic("times")
				e.mirror(t, times)
				e.compare(t, times, 1)
				setConfig(e.ctx, t, e.dst, times, "message.timestamp.type", "LogAppendTime")
				e.awaitRewritten(t, times, "new timestamps", "message.timestamp.type")
			})
			t.Run("lost a stamp while klink was away", func(t *testing.T) {
				away := topic("away")
				e.mirror(t, away)
				e.compare(t, away, 1)
				e.k.Kill()
				setConfig(e.ctx, t, e.dst, away, "message.format.version", "0.10.2")
				// As the last batches of a klink that was killed would be: in that format no
				// idempotent producer is let in.
				e.storeOldFormat(t, away)
				e.k.Restart()
				e.k.MustRun(t)
				e.awaitRewritten(t, away, "old message format", "message.format.version")
			})
		})
	}
}

// more appends some records at the source.
func (e *exact) more(t *testing.T, topic string) {
	t.Helper()
	kafkatest.Produce(t, e.source.Client(t, kgo.ProducerBatchCompression(kgo.NoCompression())), topic, 0, plainRecords(20)...)
}

// storeOldFormat appends records to the mirror around klink until the broker has stored one in an
// old message format. Brokers of these versions learn of an altered config some time after the
// alteration was answered.
func (e *exact) storeOldFormat(t *testing.T, topic string) {
	t.Helper()
	cl := e.destination.Client(t, kgo.DisableIdempotentWrite())
	kafkatest.WaitFor(t, time.Minute, "a record of "+topic+" in an old format", func() (bool, string) {
		kafkatest.Produce(t, cl, topic, 0, plainRecords(1)...)
		end, err := logEndAt(e.ctx, cl, topic)
		if err != nil {
			return false, err.Error()
		}
		stored, _, err := rawFetch(e.ctx, cl, topic, 0, end-1)
		if err != nil {
			return false, err.Error()
		}
		const magic = 16 // its place in a batch, and in a message of an old format
		return len(stored.RecordBatches) > magic && stored.RecordBatches[magic] < 2, fmt.Sprintf("%x", stored.RecordBatches)
	})
}

// plainRecords have no headers, for which old formats have no room either.
func plainRecords(n int) []*kgo.Record {
	records := kafkatest.Records(n, 100)
	for _, r := range records {
		r.Headers = nil
	}
	return records
}

// awaitRewritten appends records at the source until the mirror has failed.
func (e *exact) awaitRewritten(t *testing.T, topic string, texts ...string) {
	t.Helper()
	var d mirrorDescription
	kafkatest.WaitFor(t, 2*time.Minute, "mirror "+topic+" to fail", func() (bool, string) {
		e.more(t, topic)
		var err error
		if d, err = describeMirror(t, e.k, topic); err != nil {
			return false, err.Error()
		}
		return d.State == "FAILED", fmt.Sprintf("%+v", d)
	})
	if d.Error != "BATCH_REWRITTEN" {
		t.Fatalf("%+v", d)
	}
	for _, text := range append(texts, topic) {
		if !strings.Contains(d.ErrorMessage, text) {
			t.Errorf("%q is not in %q", text, d.ErrorMessage)
		}
	}
}
