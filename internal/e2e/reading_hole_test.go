package e2e

import (
	"context"
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"

	"klink/internal/kafkatest"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// endsInHole: a source that ends in a transaction marker gives the mirror an end with no record
// before it. Whoever was told of that end may stand there. klink is killed as soon as it has told;
// the next one, which cannot ask the source, never answers that this is out of range, as consumers
// would begin anew for that.
func (r *reading) endsInHole(t *testing.T) {
	fetch := slices.Max(r.through.leader(shifted, 0).versions(kmsg.Fetch))
	for round := range 3 {
		transact(r.ctx, t, r.source, shifted, fmt.Sprint("hole-", round), readPartitions, 1, readPartitions)
		awaitMarkers(r.ctx, t, r.adm, shifted)
		var ends [readPartitions]int64
		for p := range int32(readPartitions) {
			ends[p] = r.list(t, r.oracle[shifted], shifted, p, 4, -1).Offset
			kafkatest.WaitFor(t, time.Minute, "the end of the mirror", func() (bool, string) {
				end := r.list(t, r.through, shifted, p, 4, -1).Offset
				return end == ends[p], fmt.Sprintf("%d, want %d", end, ends[p])
			})
		}
		r.k.Kill()
		source := r.source.Brokers()[0].PID()
		if err := syscall.Kill(source, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		goOn := func() { _ = syscall.Kill(source, syscall.SIGCONT) }
		t.Cleanup(goOn)
		r.k.Restart()
		r.through = dialServers(r.ctx, r.t, kafkatest.NewClient(r.t, kgo.SeedBrokers(r.k.Bootstrap())), readTopics...)
		for p := range int32(readPartitions) {
			what := fmt.Sprintf("%s-%d at its end, %d", shifted, p, ends[p])
			answered := 0
			kafkatest.WaitFor(t, time.Minute, what+" to be answered", func() (bool, string) {
				rp := one(t, what, ask[*kmsg.FetchResponse](r.through.leader(shifted, p), fetchRequest(r.through, shifted, p, ends[p]), fetch))
				switch {
				case rp.ErrorCode == kerr.OffsetOutOfRange.Code, rp.ErrorCode == 0 && (rp.HighWatermark != ends[p] || len(rp.RecordBatches) > 0):
					t.Fatalf("%s: error %d, high watermark %d, %d bytes", what, rp.ErrorCode, rp.HighWatermark, len(rp.RecordBatches))
				case rp.ErrorCode == 0:
					answered++
				}
				return answered == 5, fmt.Sprint("error ", rp.ErrorCode)
			})
			if end := r.list(t, r.through, shifted, p, 4, -1); end.ErrorCode != 0 || end.Offset != ends[p] {
				t.Errorf("%s: ListOffsets says %+v", what, end)
			}
		}
		goOn()
	}
	awaitMirror(t, r.k, r.source, shifted)
	r.know(t, shifted)
	for p := range int32(readPartitions) {
		r.fetchAll(t, shifted, p, fetch)
	}
}

// awaitMarkers waits until all transactions of a topic that were ended have their markers: brokers
// write them after the end has been confirmed to the producer.
func awaitMarkers(ctx context.Context, t testing.TB, adm *kadm.Client, topic string) {
	t.Helper()
	kafkatest.WaitFor(t, time.Minute, "the markers of transactions in "+topic, func() (bool, string) {
		ends, err := adm.ListEndOffsets(ctx, topic)
		if err != nil {
			return false, err.Error()
		}
		stable, err := adm.ListCommittedOffsets(ctx, topic)
		if err != nil {
			return false, err.Error()
		}
		for p, end := range ends[topic] {
			if s := stable[topic][p]; s.Offset != end.Offset || s.Err != nil || end.Err != nil {
				return false, fmt.Sprintf("%+v, stable up to %+v", end, s)
			}
		}
		return true, ""
	})
}
