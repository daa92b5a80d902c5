package e2e

import (
	"context"
	"testing"
	"time"

	"klink/internal/kafkatest"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// TestSourceForgetsADelete: a broker keeps the log start that DeleteRecords gave it in memory and
// writes it down once a minute, so one that is killed may show records again whose deletion it has
// acknowledged, where no other replica knows better. The mirror has followed the delete: its log
// start never goes back, and nothing else is disturbed.
func TestSourceForgetsADelete(t *testing.T) {
	t.Parallel()
	source := kafkatest.Start(t, kafkatest.Config("log.flush.start.offset.checkpoint.interval.ms", "3600000"))
	destination := kafkatest.Start(t)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	const topic = "forgotten"
	adm := kadm.NewClient(source.Client(t))
	if _, err := adm.CreateTopic(ctx, 1, 1, nil, topic); err != nil {
		t.Fatal(err)
	}
	k := StartKlink(t, destination)
	createLink(t, k, "east", source, "metadata.max.age.ms=1000")
	k.MustCLI(t, "topic", "create", topic, "--link", "east")
	produceVaried(ctx, t, source, topic, 0, 300)
	awaitMirror(t, k, source, topic)
	starts := func(c *kafkatest.Cluster) string {
		if c == nil {
			return listOffsets(ctx, t, kafkatest.NewClient(t, kgo.SeedBrokers(k.Bootstrap())), topic, 1, -2)
		}
		return listOffsets(ctx, t, c.Client(t), topic, 1, -2)
	}
	follows := func(want string) {
		t.Helper()
		kafkatest.WaitFor(t, time.Minute, "the mirror's log start to be "+want, func() (bool, string) {
			got := starts(nil)
			return got == want, got
		})
	}
	deleteBefore(ctx, t, adm, topic, map[int32]int64{0: 105})
	follows("105")

	source.Brokers()[0].Kill()
	source.Brokers()[0].Restart(t)
	if got := starts(source); got != "0" {
		t.Fatalf("the source starts at %s after the kill: it has not forgotten, and nothing is shown", got)
	}
	compare := func(what string, from int64) {
		t.Helper()
		awaitMirror(t, k, source, topic)
		var want []record
		for _, r := range readFranz(t, source.Bootstrap(), topic, 0) {
			if r.offset >= from {
				want = append(want, r)
			}
		}
		assertSame(t, what, want, readFranz(t, k.Bootstrap(), topic, 0))
	}
	produceVaried(ctx, t, source, topic, 0, 50)
	compare("after the source forgot", 105)
	follows("105")
	k.Kill()
	k.Restart()
	produceVaried(ctx, t, source, topic, 0, 50)
	compare("after a restart of klink", 105)
	follows("105")
	deleteBefore(ctx, t, adm, topic, map[int32]int64{0: 150})
	follows("150")
	compare("after the next delete", 150)
}
