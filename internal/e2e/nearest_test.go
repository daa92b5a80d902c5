package e2e

import (
	"fmt"
	"testing"
	"time"

	"klink/internal/kafkatest"

	"github.com/twmb/franz-go/pkg/kgo"
)

// TestExactNearestReplica: a link with client.rack fetches partitions from the follower in its
// rack, whoever leads them. When that broker is killed the leaders take over, and when it is back
// it is fetched from again; the mirrors are exact all along, with transactions too, and one is
// promoted. Without the rack only leaders are fetched from.
func TestExactNearestReplica(t *testing.T) {
	t.Parallel()
	source := kafkatest.Start(t, kafkatest.Brokers(3), kafkatest.Racks())
	k := StartKlink(t, kafkatest.Start(t))
	createLink(t, k, "east", source, "metadata.max.age.ms=1000", "client.rack=rack-2")
	cl := source.Client(t)
	elsewhere, all := []string{"led-by-1", "led-by-3"}, []string{"led-by-1", "led-by-2", "led-by-3"}
	for i, replicas := range [][]int32{{1, 2, 3}, {2, 3, 1}, {3, 1, 2}} {
		createAt(t, cl, all[i], replicas...)
		produceVaried(t.Context(), t, source, all[i], 0, 50)
		k.MustCLI(t, "topic", "create", all[i], "--link", "east")
	}
	const fromAll, fromFollowers = "klink_link_fetch_io_bytes_total{link=\"east\"}", "klink_link_fetch_follower_io_bytes_total{link=\"east\"}"
	produce := func(topics ...string) {
		t.Helper()
		for _, topic := range topics {
			produceVaried(t.Context(), t, source, topic, 0, 50)
		}
		for _, topic := range topics {
			awaitMirror(t, k, source, topic)
		}
	}
	// followed waits until all that is produced to some topics is fetched from followers.
	followed := func(topics ...string) {
		t.Helper()
		kafkatest.WaitFor(t, time.Minute, "followers to be fetched from", func() (bool, string) {
			all, followers := k.metric(t, fromAll), k.metric(t, fromFollowers)
			produce(topics...)
			all, followers = k.metric(t, fromAll)-all, k.metric(t, fromFollowers)-followers
			return all == followers && all > 0, fmt.Sprintf("%v of %v bytes came from followers", followers, all)
		})
	}
	same := func(topics ...string) {
		t.Helper()
		for _, topic := range topics {
			want := readCommitted(t, source.Bootstrap(), topic)
			assertSame(t, topic, want, readFranzWith(t, topic, clientAt(k.Bootstrap(), kgo.FetchIsolationLevel(kgo.ReadCommitted()))...))
			if len(want) < 50 {
				t.Errorf("%s has %d records", topic, len(want))
			}
		}
	}

	followed(elsewhere...)
	before := k.metric(t, fromFollowers)
	produce("led-by-2")
	if got := k.metric(t, fromFollowers); got != before {
		t.Errorf("%v bytes of a topic whose leader is in the rack came from followers", got-before)
	}
	transact(t.Context(), t, source, elsewhere[0], "tx", 1, 9, 5)
	produce(all...)
	same(all...)

	b2 := source.Brokers()[1]
	b2.Kill()
	produce(elsewhere...)
	same(elsewhere...)

	b2.Restart(t)
	followed(elsewhere...)
	produce(all...)
	same(all...)

	k.MustCLI(t, "mirror", "promote", "led-by-3") // which asks the leader for the end
	awaitMirrorState(t, k, "led-by-3", "STOPPED", "")
	same("led-by-3")

	k.MustCLI(t, "link", "update", "east", "--config", "client.rack=")
	kafkatest.WaitFor(t, time.Minute, "only leaders to be fetched from", func() (bool, string) {
		before := k.metric(t, fromFollowers)
		produce("led-by-1")
		got := k.metric(t, fromFollowers)
		return got == before, fmt.Sprintf("%v bytes came from followers", got-before)
	})
	same("led-by-1")
}
