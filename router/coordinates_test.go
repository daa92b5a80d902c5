package router

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"klink/protocol"
	"klink/protocol/timeline"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// identified is hotSnapshot with every topic id known.
func identified(change func(*Snapshot)) *Snapshot {
	sn := hotSnapshot()
	sn.Mirrors["stopped"].TopicID = hotID("stopped")
	if change != nil {
		change(sn)
	}
	return sn
}

// The ways in which a mirror may change between a request and its response, and whether a change
// affects what offsets mean. The later snapshot keeps the earlier timelines where noted.
var meanwhiles = []struct {
	name          string
	before, after func(*Snapshot)
	shift         bool // the shift of mirror 0 is corrected
	// The answer to a Fetch of both partitions at 1500, with a high watermark of 1600.
	fetched string
	// goes is false if a fetch session ends with the change.
	stays bool
}{
	{
		name: "nothing", fetched: "0:2600 1:1600", stays: true,
	},
	{
		name: "another state", fetched: "0:2600 1:1600", stays: true,
		after: func(sn *Snapshot) { sn.Mirrors["mirror"].State = "PAUSED" },
	},
	{
		name: "the topic becomes a mirror", fetched: "0:-1!6 1:-1!6",
		before: func(sn *Snapshot) { delete(sn.Mirrors, "mirror") },
	},
	{
		name: "the mirror goes", fetched: "0:-1!6 1:-1!6",
		after: func(sn *Snapshot) { delete(sn.Mirrors, "mirror") },
	},
	{
		name: "the mirror is made again", fetched: "0:-1!6 1:-1!6",
		after: func(sn *Snapshot) {
			sn.Mirrors["mirror"].Timelines = []*timeline.Partition{timeline.New(0, 1000, 1000), timeline.New(0, 0, 0)}
		},
	},
	{
		name: "a timeline becomes known", fetched: "0:2600 1:-1!6",
		before: func(sn *Snapshot) { sn.Mirrors["mirror"].Timelines = sn.Mirrors["mirror"].Timelines[:1] },
	},
	{
		name: "a shift is corrected", fetched: "0:-1!6 1:1600", shift: true,
	},
	{
		name: "the mirror is stopped", fetched: "0:2600 1:1600",
		after: func(sn *Snapshot) { sn.Mirrors["mirror"].ReadOnly = false },
	},
	{
		name: "another mirror appears", fetched: "0:2600 1:1600",
		after: func(sn *Snapshot) { sn.Mirrors["new"] = &Mirror{Topic: "new", TopicID: hotID("new"), ReadOnly: true} },
	},
}

// snapshots makes the snapshots before and after the change, with the same timelines.
func snapshots(before, after func(*Snapshot)) (*Snapshot, *Snapshot) {
	a, b := identified(nil), identified(nil)
	for topic, m := range a.Mirrors {
		b.Mirrors[topic].Timelines = m.Timelines
	}
	if before != nil {
		before(a)
	}
	if after != nil {
		after(b)
	}
	return a, b
}

// A response is translated by the coordinates of its request. Partitions that have changed in
// between are hidden, and no others.
func TestMirrorsChangeDuringFetch(t *testing.T) {
	for version := int16(0); version <= 18; version++ {
		for _, c := range meanwhiles {
			w := newHotWorld(t)
			before, after := snapshots(c.before, c.after)
			line := after.Mirrors["stopped"].Timelines[0]
			if m := after.Mirrors["mirror"]; m != nil {
				line = m.Timelines[0]
			}
			w.router.Publish(before)
			var asked []string
			resp, out := send(w, fetchFrom(version, 0, "mirror", "ordinary", "stopped"), func(req *kmsg.FetchRequest) *kmsg.FetchResponse {
				w.router.Publish(after)
				if c.shift {
					line.Set(990, 990)
				}
				return serve(&asked)(req)
			})
			want := c.fetched + " 0:1600 1:1600 0:2100 1:1600"
			if got := describeFetch(resp); out.closed != nil || got != want {
				t.Errorf("%s, v%d: got %s, want %s: %v", c.name, version, got, want, out.closed)
			}
		}
	}
}

// The broker remembers the physical offsets of a fetch session, so a session may be used only while
// they are right. A full request begins a new session, which later incremental requests may use.
func TestFetchSessionsEnd(t *testing.T) {
	for version := int16(7); version <= 18; version++ {
		for _, c := range meanwhiles {
			w := newHotWorld(t)
			before, after := snapshots(c.before, c.after)
			w.router.Publish(before)
			fetch := func(id, epoch int32, topics ...string) string {
				t.Helper()
				var asked []string
				req := fetchFrom(version, epoch, topics...)
				req.SessionID = id
				resp, out := send(w, req, serve(&asked))
				if out.closed != nil {
					t.Fatal(out.closed)
				}
				return strings.TrimSuffix(fmt.Sprint(describeFetch(resp), " in ", resp.SessionID), " in 0")
			}
			const gone = "!70"
			// A session that this connection has not begun.
			if got := fetch(9, 5); got != gone {
				t.Errorf("v%d: a session from elsewhere: %s", version, got)
			}
			fetch(0, 0, "ordinary", "stopped")
			for epoch := range int32(2) {
				if got := fetch(9, epoch+1); got != " in 9" {
					t.Fatalf("v%d, epoch %d: %s", version, epoch, got)
				}
			}
			if got := fetch(8, 1); got != gone {
				t.Errorf("v%d: another session: %s", version, got)
			}
			w.router.Publish(after)
			if c.shift {
				after.Mirrors["mirror"].Timelines[0].Set(990, 990)
			}
			want := gone
			if c.stays {
				want = " in 9"
			}
			if got := fetch(9, 3); got != want {
				t.Errorf("%s, v%d: got %s, want %s", c.name, version, got, want)
			}
			fetch(0, 0, "ordinary", "stopped")
			if got := fetch(9, 1); got != " in 9" {
				t.Errorf("%s, v%d: the new session: %s", c.name, version, got)
			}
			// A session that the broker did not begin.
			var asked []string
			send(w, fetchFrom(version, 0, "ordinary"), func(req *kmsg.FetchRequest) *kmsg.FetchResponse {
				resp := serve(&asked)(req)
				resp.SessionID = 0
				return resp
			})
			if got := fetch(0, 1); got != gone {
				t.Errorf("v%d: no session: %s", version, got)
			}
		}
	}
}

// A fetch with an unknown topic id that may be a mirror's puts no offset into a session, and shows
// no mirror.
func TestFetchOfAnIDThatTurnsOutToBeAMirror(t *testing.T) {
	for _, found := range []bool{false, true} { // known not to exist, or not found at all
		for version := int16(13); version <= 18; version++ {
			w := newHotWorld(t)
			sn := hotSnapshot()
			sn.Mirrors["mirror"].TopicID = [16]byte{}
			w.router.Publish(sn)
			delete(w.topics, hotID("mirror"))
			if found {
				w.topics[hotID("mirror")] = ""
			}
			w.router.Directory().SetTopics(map[[16]byte]string{hotID("ordinary"): "ordinary", hotID("stopped"): "stopped"})
			var asked []string
			resp, out := send(w, fetchFrom(version, 0, "ordinary", "mirror"), func(req *kmsg.FetchRequest) *kmsg.FetchResponse {
				w.router.Directory().AddTopics(map[[16]byte]string{hotID("mirror"): "mirror"})
				return serve(&asked)(req)
			})
			if got := describeFetch(resp); out.closed != nil || got != "0:1600 1:1600 0:-1!6 1:-1!6" || asked[4] != "epoch -1" || w.lookups != 1 {
				t.Errorf("v%d: %s, %v, %d look-ups: %v", version, got, asked, w.lookups, out.closed)
			}
			// If the ids of all mirrors are known, another id is no mirror, and nobody loses a
			// session.
			w.router.Publish(identified(nil))
			resp, out = send(w, fetchFrom(version, 0, "ordinary", "nobody"), serve(&asked))
			if got := describeFetch(resp); out.closed != nil || got != "0:1600 1:1600 0:1600 1:1600" || asked[len(asked)-1] != "epoch 0" {
				t.Errorf("v%d: %s, %v: %v", version, got, asked, out.closed)
			}
		}
	}
}

// A request that is not forwarded is unchanged, because it may be decided on again.
func TestFetchIsChangedOnlyWhenForwarded(t *testing.T) {
	w := newHotWorld(t)
	w.router.Publish(identified(func(sn *Snapshot) { sn.Mirrors["mirror"].Timelines = sn.Mirrors["mirror"].Timelines[:1] }))
	frame := protocol.AppendRequest(nil, protocol.RequestHeader{}, fetchFrom(12, 1, "mirror"))
	given := bytes.Clone(frame)
	if d := w.proxy.session.Request(given); d.Action != Answer || !bytes.Equal(given, frame) {
		t.Errorf("action %d, and the frame is\n%x, was\n%x", d.Action, given, frame)
	}
}

// Offsets in responses of ListOffsets and similar requests are translated by the coordinates of
// their request, or hidden.
func TestMirrorsChangeDuringListOffsets(t *testing.T) {
	for version := int16(1); version <= 11; version++ {
		for _, c := range meanwhiles {
			w := newHotWorld(t)
			before, after := snapshots(c.before, c.after)
			w.router.Publish(before)
			req := kmsg.NewPtrListOffsetsRequest()
			req.Version = version
			resp, out := send(w, req, func(*kmsg.ListOffsetsRequest) *kmsg.ListOffsetsResponse {
				w.router.Publish(after)
				if c.shift {
					after.Mirrors["mirror"].Timelines[0].Set(990, 990)
				}
				resp := kmsg.NewPtrListOffsetsResponse()
				topic := kmsg.ListOffsetsResponseTopic{Topic: "mirror"}
				for index := range int32(2) {
					topic.Partitions = append(topic.Partitions, kmsg.ListOffsetsResponseTopicPartition{Partition: index, Offset: 1600})
				}
				resp.Topics = append(resp.Topics, topic)
				return resp
			})
			if out.closed != nil {
				t.Fatal(out.closed)
			}
			var got []string
			for _, p := range resp.Topics[0].Partitions {
				s := fmt.Sprintf("%d:%d", p.Partition, p.Offset)
				if p.ErrorCode != 0 {
					s += fmt.Sprint("!", p.ErrorCode)
				}
				got = append(got, s)
			}
			if strings.Join(got, " ") != c.fetched {
				t.Errorf("%s, v%d: got %v, want %s", c.name, version, got, c.fetched)
			}
		}
	}
}

// A successful write is never answered with an error because its topic has changed. Only its offset
// is left out.
func TestMirrorsChangeDuringProduce(t *testing.T) {
	for version := int16(3); version <= 13; version++ {
		w := newHotWorld(t)
		before, after := snapshots(nil, func(sn *Snapshot) {
			sn.Mirrors["stopped"].Timelines = []*timeline.Partition{timeline.New(0, 7000, 0)}
		})
		w.router.Publish(before)
		var got []string
		resp, out := send(w, produceTo(version, 1, "stopped", "ordinary"), func(req *kmsg.ProduceRequest) *kmsg.ProduceResponse {
			w.router.Publish(after)
			return accept(&got)(req)
		})
		if shown := describeProduce(resp); out.closed != nil || shown != "stopped/0 @-1, stopped/1 @40, ordinary/0 @40, ordinary/1 @40" {
			t.Errorf("v%d: %s: %v", version, shown, out.closed)
		}
	}
}
