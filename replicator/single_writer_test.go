package replicator

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"klink/admin/model"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// onTheirWay counts, by partition, the produce requests that a destination has received and not
// carried out yet.
type onTheirWay struct {
	mu     sync.Mutex
	now    map[string]int
	most   int
	passed int
}

func (o *onTheirWay) move(req *kmsg.ProduceRequest, by int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, t := range req.Topics {
		for _, p := range t.Partitions {
			key := fmt.Sprint(t.Topic, t.TopicID, p.Partition)
			o.now[key] += by
			o.most = max(o.most, o.now[key])
			o.passed += max(0, by)
		}
	}
}

// TestOneWriterOfAPartition: only one worker at a time appends to a partition, and one batch at a
// time, however quickly a mirror is paused, resumed and handed to another client of its source.
func TestOneWriterOfAPartition(t *testing.T) {
	w, _, dst := embedded(t)
	w.topics("orders", 3)
	w.mirror("orders")
	o := &onTheirWay{now: map[string]int{}}
	dst.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		dst.KeepControl()
		o.move(req.(*kmsg.ProduceRequest), 1)
		dst.SleepControl(func() { time.Sleep(150 * time.Millisecond) }) // long for a new worker
		o.move(req.(*kmsg.ProduceRequest), -1)
		return nil, nil, false
	})
	w.run()
	w.awaitState("orders", model.MirrorActive)
	for i := range 15 {
		for p := range int32(3) {
			w.produce("orders", p, 2, 20)
			w.produce("orders", p, 1, 20)
		}
		switch i % 3 {
		case 0:
			m := w.r.mirror("orders")
			w.control.setState("orders", model.MirrorPaused)
			w.await("the mirror to be ended", func() (bool, string) {
				if m == nil {
					return true, ""
				}
				m.mu.Lock()
				defer m.mu.Unlock()
				return m.stopping, "not stopping"
			})
			w.control.setState("orders", model.MirrorActive)
		case 1: // other configs: another client of the source
			w.control.change(func(s *model.State) {
				l := *s.Links[linkName]
				l.Configs = map[string]string{"client.id": fmt.Sprint("klink-", i)}
				for k, v := range w.configs {
					l.Configs[k] = v
				}
				s.Links[linkName] = &l
			})
		}
	}
	w.awaitCaughtUp("orders")
	w.same("orders")
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.most != 1 || o.passed < 30 {
		t.Errorf("up to %d of %d appends of one partition were on their way at once, want 1 of 30 or more", o.most, o.passed)
	}
}
