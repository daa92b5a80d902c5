package e2e

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"klink/internal/kafkatest"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// TestPromoteCarriesOffsetsOver: on a link that syncs offsets once an hour, what groups commit at
// the source after that comes over with a promotion, and not before; the dry run counts them. A
// failover carries nothing over, and does not need to.
func TestPromoteCarriesOffsetsOver(t *testing.T) {
	t.Parallel()
	// An hour is the most that a link takes.
	topics := []string{"promoted", "waits", "failed", "plain"}
	e := newSecured(t, secured{
		topics: topics, grants: []string{grantMarkers},
		link: []string{"consumer.offset.sync.enable=true", "consumer.offset.sync.ms=3600000", syncSomeGroups[2]},
	})
	g := &groups{exact: e, through: kadm.NewClient(connect(t, e.k.Bootstrap()))}
	for _, topic := range topics {
		g.mirror(t, topic, 100)
		awaitMirrorState(t, g.k, topic, "ACTIVE", "")
	}
	var only taskListing
	kafkatest.WaitFor(t, time.Minute, "the only periodic sync", func() (bool, string) {
		only = g.listTask(t, "ConsumerOffsetSync")
		return only.LastRunTime != "", fmt.Sprintf("%+v", only)
	})
	if only.State != "ACTIVE" { // or it would be run again
		t.Fatalf("%+v", only)
	}
	for _, topic := range []string{"promoted", "waits", "failed"} {
		g.commit(t, g.adm, "app-"+topic, topic, 60)
		g.commit(t, g.adm, "other-"+topic, topic, 60) // which the link's filters do not name
	}
	g.commit(t, g.adm, "app-here", "promoted", 30)
	g.commit(t, g.dst, "app-here", "promoted", 70) // a consumer that is further at the destination

	t.Run("promoted", func(t *testing.T) {
		want := map[string]int{"promoted": 1, "waits": 1, "failed": 1, "plain": 0}
		for topic, v := range g.dryRun(t, "promoted", "waits", "failed", "plain") {
			if !v.Possible || !v.GroupsSynced || v.GroupsBehind != want[topic] {
				t.Errorf("want %d groups behind: %+v", want[topic], v)
			}
		}
		if o := g.at(g.through, "app-promoted", "promoted"); o.At != -1 {
			t.Fatalf("the group is at %d before the promotion", o.At)
		}
		g.commit(t, g.adm, "app-promoted", "promoted", 99)
		g.k.MustCLI(t, "mirror", "promote", "promoted")
		for group, at := range map[string]int64{"app-promoted": 99, "app-here": 70, "other-promoted": -1} {
			if o := g.at(g.through, group, "promoted"); o.At != at {
				t.Errorf("group %s is at %d after the promotion, want %d", group, o.At, at)
			}
		}
		c := consumeAcross(t, g.k.Bootstrap(), "app-promoted", "promoted")
		if offsets := c.await(t, 1); offsets[0] != 99 {
			t.Errorf("the group goes on at %d, want 99", offsets[0])
		}
		c.leave(t)
	})

	// The group is ahead of what the mirror can have: it is clamped until the transaction has
	// ended.
	t.Run("beyond the mirror", func(t *testing.T) {
		tx := g.beginTransaction(t, "waits", "waits")
		g.write(t, "waits", 4)
		g.commit(t, g.adm, "app-waits", "waits", 105)
		kafkatest.WaitFor(t, time.Minute, "the transaction to be seen", func() (bool, string) {
			v := g.dryRun(t, "waits")["waits"]
			return len(v.OpenTransactions) == 1 && !v.Safe && v.GroupsBehind == 1 && v.Lag == 5, fmt.Sprintf("%+v", v)
		})
		promote := g.k.StartCLI(t, nil, "mirror", "promote", "waits")
		awaitMirrorState(t, g.k, "waits", "PENDING_STOPPED", "")
		if o := g.at(g.through, "app-waits", "waits"); o.At != -1 {
			t.Errorf("the group is at %d while the promotion waits", o.At)
		}
		if err := tx.EndTransaction(g.ctx, kgo.TryCommit); err != nil {
			t.Fatal(err)
		}
		awaitDone(t, promote, 0)
		if o := g.at(g.through, "app-waits", "waits"); o.At != 105 {
			t.Errorf("the group is at %d after the promotion, want 105", o.At)
		}
	})

	t.Run("failed over", func(t *testing.T) {
		g.commit(t, g.dst, "app-there", "failed", 105) // beyond the mirror
		g.k.MustCLI(t, "mirror", "failover", "failed")
		for group, at := range map[string]int64{"app-failed": -1, "app-there": 100} {
			if o := g.at(g.through, group, "failed"); o.At != at {
				t.Errorf("group %s is at %d after the failover, want %d", group, o.At, at)
			}
		}
		v := g.dryRun(t, "failed")["failed"]
		if v.GroupsSynced || v.GroupsBehind != -1 {
			t.Errorf("of a mirror that is stopped: %+v", v)
		}
	})
	if now := g.listTask(t, "ConsumerOffsetSync"); now.LastRunTime != only.LastRunTime {
		t.Errorf("the periodic sync has run once more: %+v", now)
	}
}

// dryRun is what the dry run of a promotion says of topics.
func (g *groups) dryRun(t *testing.T, topics ...string) map[string]verdict {
	t.Helper()
	var vs []verdict
	if err := json.Unmarshal([]byte(g.k.MustCLI(t, append([]string{"mirror", "promote", "--dry-run", "-o", "json"}, topics...)...)), &vs); err != nil {
		t.Fatal(err)
	}
	found := map[string]verdict{}
	for _, v := range vs {
		found[v.Topic] = v
	}
	if len(found) != len(topics) {
		t.Fatalf("%+v", vs)
	}
	return found
}
