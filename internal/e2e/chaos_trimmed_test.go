package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"klink/internal/kafkatest"

	"github.com/twmb/franz-go/pkg/kadm"
)

// loadTrimmed appends, in transactions and without, and deletes records that have been mirrored,
// often in the middle of a batch.
func loadTrimmed(ctx context.Context, l *chaosRun) {
	done := make(chan struct{})
	rng := rand.New(rand.NewPCG(l.rng.Uint64(), 1))
	go func() {
		defer close(done)
		adm := kadm.NewClient(l.client())
		for ctx.Err() == nil {
			pause(ctx, 3*time.Second)
			attempt, cancel := context.WithTimeout(ctx, 10*time.Second)
			l.trim(attempt, adm, rng)
			cancel()
		}
	}()
	loadTransactions(ctx, l)
	<-done
}

func (l *chaosRun) trim(ctx context.Context, adm *kadm.Client, rng *rand.Rand) {
	ends, err := l.mirrored.ListEndOffsets(ctx, l.load.topic)
	if err != nil {
		return
	}
	starts, err := adm.ListStartOffsets(ctx, l.load.topic)
	if err != nil {
		return
	}
	offsets := kadm.Offsets{}
	ends.Each(func(end kadm.ListedOffset) {
		start, ok := starts.Lookup(end.Topic, end.Partition)
		if end.Err != nil || !ok || start.Err != nil || end.Offset <= start.Offset {
			return
		}
		// At most half of what is left, so that much remains to be compared.
		at := start.Offset + rng.Int64N((end.Offset-start.Offset)/2+1)
		offsets.AddOffset(end.Topic, end.Partition, at, -1)
		if l.deletes == nil {
			l.deletes = map[int32]int64{}
		}
		l.deletes[end.Partition] = max(l.deletes[end.Partition], at)
	})
	if rs, err := adm.DeleteRecords(ctx, offsets); err == nil {
		rs.Each(func(r kadm.DeleteRecordsResponse) {
			if r.Err == nil {
				l.deleted.Add(1)
			}
		})
	}
}

// trimAgain asks once more for the highest delete of each partition. A broker writes its log start
// down once a minute only, so the source, killed after it had carried out a delete, begins lower
// again than the mirror, which followed ([TestSourceForgetsADelete]). It is the highest that was
// asked for that counts, not the highest acknowledged: the answer may have been lost on the way.
func (l *chaosRun) trimAgain(ctx context.Context, t testing.TB) {
	t.Helper()
	adm := kadm.NewClient(l.source.Client(t))
	kafkatest.WaitFor(t, 2*time.Minute, "the deletes of "+l.load.topic+" once more", func() (bool, string) {
		offsets := kadm.Offsets{}
		for p, at := range l.deletes {
			offsets.AddOffset(l.load.topic, p, at, -1)
		}
		attempt, cancel := context.WithTimeout(ctx, 20*time.Second)
		defer cancel()
		rs, err := adm.DeleteRecords(attempt, offsets)
		if err == nil {
			err = rs.Error()
		}
		return err == nil, fmt.Sprint(err)
	})
}
