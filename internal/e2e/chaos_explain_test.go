package e2e

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"klink/internal/kafkatest"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// explainAll logs, when the test has failed, what there is to know about every mirror, and what
// klink has complained of.
func explainAll(t testing.TB, k *Klink, source, destination *kafkatest.Cluster, runs []*chaosRun) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	for _, side := range sides(t, k, source, destination) {
		for _, r := range runs {
			starts, err := tryListOffsets(ctx, side.cl, r.load.topic, r.load.partitions, -2)
			ends, err2 := tryListOffsets(ctx, side.cl, r.load.topic, r.load.partitions, -1)
			t.Logf("%s by %s: log starts %s (%v), ends %s (%v)", r.load.topic, side.name, starts, err, ends, err2)
		}
	}
	for _, r := range runs {
		stdout, stderr, _ := k.CLI(t, "mirror", "describe", r.load.topic, "-o", "json")
		t.Log(stdout, stderr)
	}
	t.Logf("what klink has complained of over all its starts:\n%s", complaints(k.Log(t)))
}

// complaints are the warnings and errors of a log: errors all, of each kind of warning the first
// ones and how many more.
func complaints(log string) string {
	const most = 12
	var out strings.Builder
	counts := map[string]int{}
	for line := range strings.Lines(log) {
		_, kind, _ := strings.Cut(line, "msg=")
		if kind = kind[:min(len(kind), 40)]; strings.Contains(line, "level=WARN") {
			counts[kind]++
		} else if !strings.Contains(line, "level=ERROR") && !strings.Contains(line, "panic") {
			continue
		}
		if counts[kind] <= most {
			out.WriteString(line)
		}
	}
	for _, kind := range slices.Sorted(maps.Keys(counts)) {
		if n := counts[kind]; n > most {
			fmt.Fprintf(&out, "... and %d more of %s...\n", n-most, kind)
		}
	}
	return out.String()
}

type side struct {
	name string
	cl   *kgo.Client
}

func sides(t testing.TB, k *Klink, source, destination *kafkatest.Cluster) []side {
	t.Helper()
	return []side{
		{"source", source.Client(t)},
		{"klink", kafkatest.NewClient(t, kgo.SeedBrokers(k.Bootstrap()))},
		{"destination", destination.Client(t)},
	}
}

// explain logs what there is to know about a partition around an offset where a comparison failed:
// the offsets and the batches of the source, of the mirror through klink, and of the destination's
// own log. The latter's offsets are physical: where the partition is shifted, the batches shown are
// others.
func explain(ctx context.Context, t testing.TB, k *Klink, source, destination *kafkatest.Cluster, l chaosLoad, partition int32, offset int64) {
	t.Helper()
	for _, side := range sides(t, k, source, destination) {
		at := max(0, offset-3) // and what comes before it
		starts, err := tryListOffsets(ctx, side.cl, l.topic, l.partitions, -2)
		ends, err2 := tryListOffsets(ctx, side.cl, l.topic, l.partitions, -1)
		t.Logf("%s: log starts %s (%v), ends %s (%v); around offset %d of partition %d: %s", side.name, starts, err, ends, err2,
			offset, partition, strings.Join(rawBatches(ctx, side.cl, l.topic, partition, at, 8), "; "))
	}
	stdout, stderr, _ := k.CLI(t, "mirror", "describe", l.topic, "-o", "json")
	t.Log(stdout, stderr)
}

// rawBatches describes the first batches that a fetch at an offset returns.
func rawBatches(ctx context.Context, cl *kgo.Client, topic string, partition int32, offset int64, limit int) []string {
	rp, leader, err := rawFetch(ctx, cl, topic, partition, offset)
	if err != nil {
		return []string{err.Error()}
	}
	out := []string{fmt.Sprintf("leader %d, error %d, high watermark %d, log start %d", leader, rp.ErrorCode, rp.HighWatermark, rp.LogStartOffset)}
	for b := rp.RecordBatches; len(b) >= 61 && len(out) <= limit; {
		base, size := int64(binary.BigEndian.Uint64(b)), int(binary.BigEndian.Uint32(b[8:]))+12
		out = append(out, fmt.Sprintf("batch %d+%d attributes %#x producer %d/%d/%d, %d records, %d bytes", base,
			int32(binary.BigEndian.Uint32(b[23:])), binary.BigEndian.Uint16(b[21:]), int64(binary.BigEndian.Uint64(b[43:])),
			int16(binary.BigEndian.Uint16(b[51:])), int32(binary.BigEndian.Uint32(b[53:])), int32(binary.BigEndian.Uint32(b[57:])), size))
		if size > len(b) {
			break
		}
		b = b[size:]
	}
	return out
}

var errNotFetched = errors.New("the answer to the fetch does not have the partition")

// rawFetch fetches a partition from its leader, which it returns as well.
func rawFetch(ctx context.Context, cl *kgo.Client, topic string, partition int32, offset int64) (*kmsg.FetchResponseTopicPartition, int32, error) {
	req := kmsg.NewPtrFetchRequest()
	req.Version = 11 // by name
	req.MaxWaitMillis, req.MinBytes, req.MaxBytes = 100, 1, 1<<20
	rt := kmsg.NewFetchRequestTopic()
	rt.Topic = topic
	rp := kmsg.NewFetchRequestTopicPartition()
	rp.Partition, rp.FetchOffset, rp.PartitionMaxBytes = partition, offset, 1<<20
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	md, err := kmsg.NewPtrMetadataRequest().RequestWith(ctx, cl)
	if err != nil {
		return nil, -1, err
	}
	leader := int32(-1)
	for _, mt := range md.Topics {
		for _, mp := range mt.Partitions {
			if mt.Topic != nil && *mt.Topic == topic && mp.Partition == partition {
				leader = mp.Leader
			}
		}
	}
	kresp, err := cl.Broker(int(leader)).RetriableRequest(ctx, &cappedFetch{req})
	if err != nil {
		return nil, leader, err
	}
	for _, rt := range kresp.(*kmsg.FetchResponse).Topics {
		if len(rt.Partitions) > 0 {
			return &rt.Partitions[0], leader, nil
		}
	}
	return nil, leader, errNotFetched
}

// cappedFetch is a Fetch by topic name, whatever the broker has.
type cappedFetch struct{ *kmsg.FetchRequest }

func (cappedFetch) MaxVersion() int16 { return 11 }
