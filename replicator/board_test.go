package replicator

import (
	"fmt"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"klink/admin/model"

	"github.com/twmb/franz-go/pkg/kfake"
)

func drifts(names ...string) (drift []model.ConfigDrift) {
	for _, name := range names {
		value := "of " + name
		drift = append(drift, model.ConfigDrift{Name: name, Source: &value})
	}
	return drift
}

// TestInstancesTellWhatTasksHaveFound: every instance knows, from the owner of the link or mirror,
// how the tasks of a link do, what they have found of the configs of its mirrors, and how long ago
// these mirrors had everything. What is over at the owner is over at every instance.
func TestInstancesTellWhatTasksHaveFound(t *testing.T) {
	w, _, _ := embedded(t, kfake.GroupMinSessionTimeout(100*time.Millisecond))
	for _, topic := range []string{"orders", "payments"} {
		w.topics(topic, 1)
		w.mirror(topic)
	}
	var now atomic.Pointer[[]model.ConfigDrift]
	found := drifts("min.insync.replicas", "segment.bytes")
	now.Store(&found)
	task := model.TaskStatus{Name: "TopicConfigsSync", Errors: []model.TaskError{{Code: model.ErrPolicyViolation, Message: "no"}}, LastRun: time.UnixMilli(2000), LastSuccess: time.UnixMilli(1000)}
	all := []*instance{}
	for _, name := range []string{"one", "two", "three"} {
		all = append(all, w.instance(name, 2400*time.Millisecond, func(g *Group) {
			g.Tasks = func(string) []model.TaskStatus { return []model.TaskStatus{task} }
			g.Drift = func(topic string) []model.ConfigDrift {
				if topic == "orders" {
					return *now.Load()
				}
				return nil
			}
		}))
	}
	w.awaitShared(all...)
	w.produce("orders", 0, 3, 20)
	w.awaitMirrored("orders", all...)
	w.await("all to know", func() (bool, string) {
		for _, i := range all {
			if tasks := i.r.LinkTasks(linkName); !i.r.OwnsLink(linkName) && !reflect.DeepEqual(tasks, []model.TaskStatus{task}) {
				return false, fmt.Sprintf("%s: %+v", i.name, tasks)
			}
			if drift := i.r.ConfigDrift("orders"); !i.r.OwnsLink(linkName) && !reflect.DeepEqual(drift, *now.Load()) {
				return false, fmt.Sprintf("%s: %+v", i.name, drift)
			}
			if drift := i.r.ConfigDrift("payments"); drift != nil {
				t.Fatalf("%s: %+v", i.name, drift)
			}
			if st := i.r.Status("orders"); len(st) != 1 || st[0].CaughtUp.IsZero() {
				return false, fmt.Sprintf("%s: %+v", i.name, st)
			}
		}
		return true, ""
	})
	// The end is published, too: nobody has to wait until the last record expires.
	now.Store(new([]model.ConfigDrift))
	w.await("all to be told that it is over", func() (bool, string) {
		for _, i := range all {
			b := i.r.board.Load()
			b.mu.Lock()
			told := b.drift["orders"]
			b.mu.Unlock()
			if told == nil || len(told.drift) > 0 {
				return false, fmt.Sprintf("%s: %+v", i.name, told)
			}
		}
		return true, ""
	})
}

// TestBoardTakesNoMore: what the board reads is bounded, and counts only for mirrors that exist,
// and only for boardKeeps.
func TestBoardTakesNoMore(t *testing.T) {
	b := newBoard(nil)
	r := &Replicator{}
	r.board.Store(b)
	st := &model.State{
		Mirrors: map[string]*model.Mirror{"orders": {Topic: "orders", Link: linkName, Partitions: 1}},
		Links:   map[string]*model.Link{linkName: {Name: linkName}},
	}
	now := time.Now()
	configs := `"configs":[{"name":"segment.bytes","source":"1","mirror":null}]`
	one := "1"
	want := []model.ConfigDrift{{Name: "segment.bytes", Source: &one}}
	for name, c := range map[string]struct {
		topic, value string
		at           time.Time
		want         []model.ConfigDrift
	}{
		"as it should be":           {"orders", `{"version":1,` + configs + `}`, now, want},
		"with more than is known":   {"orders", `{"version":1,"more":2,` + configs + `}`, now, want},
		"none any more":             {"orders", `{"version":1}`, now, nil},
		"of a later version":        {"orders", `{"version":2,` + configs + `}`, now, nil},
		"no JSON":                   {"orders", `{"version":1,` + configs, now, nil},
		"of no mirror":              {"other", `{"version":1,` + configs + `}`, now, nil},
		"too long":                  {"orders", `{"version":1,` + configs + strings.Repeat(" ", maxBoardDrift) + `}`, now, nil},
		"told before boardKeeps":    {"orders", `{"version":1,` + configs + `}`, now.Add(-boardKeeps), nil},
		"told by one that has gone": {"orders", `{"version":1,` + configs + `}`, now.Add(-time.Hour), nil},
	} {
		clear(b.drift)
		b.hear(st, "drift/"+c.topic, []byte(c.value), c.at)
		if got := r.ConfigDrift(c.topic); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v", name, got)
		}
	}
	b.hear(st, "drift/orders", []byte(`{"version":1,`+configs+`}`), now)
	b.forget(st)
	if len(b.drift) != 1 {
		t.Error("what is known of a mirror was forgotten")
	}
	b.forget(&model.State{})
	if len(b.drift) != 0 {
		t.Error("a mirror that is gone was not forgotten")
	}

	// An earlier version writes seven numbers, a later one more than nine.
	for row, caughtUp := range map[string]time.Time{
		`[9,8,7,9,0,0,-1]`: {}, `[9,8,7,9,0,0,-1,6]`: time.UnixMilli(6), `[9,8,7,9,0,0,-1,6,0,5]`: time.UnixMilli(6),
	} {
		b.hear(st, "mirror/orders/0", []byte(`{"version":2,"ids":[0],"partitions":[`+row+`]}`), now)
		want := model.PartitionStatus{SourceEnd: 9, MirrorEnd: 8, LastFetch: time.UnixMilli(7), SourceLastStable: 9, ShiftBegan: -1, CaughtUp: caughtUp}
		if got := b.status("orders"); len(got) != 1 || got[0] != want {
			t.Errorf("%s: %+v", row, got)
		}
	}
}

// TestDriftIsCutOff: the record of a mirror's drift is never larger than what other instances
// accept.
func TestDriftIsCutOff(t *testing.T) {
	d := boardDrift{Version: 1}
	long := strings.Repeat("x", maxBoardDrift/4)
	for i := range 8 {
		d.Configs = append(d.Configs, boardConfig{Name: fmt.Sprint("config-", i), Source: &long})
	}
	d.cut(maxBoardDrift)
	if len(d.Configs) != 3 || len(d.text()) > maxBoardDrift {
		t.Errorf("%d configs, %d bytes", len(d.Configs), len(d.text()))
	}
}
